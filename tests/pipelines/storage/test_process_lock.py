"""One process at a time, and an error that names it."""

import json
import logging
import os
import re
import socket
import threading
import time

import pytest

from pipelines.storage.process_lock import InUseError, process_lock
from tests.pipelines.storage.other_process import held_elsewhere


def test_another_process_is_named(tmp_path):
    with held_elsewhere(tmp_path / ".lock") as other:
        message = (
            rf"^'runs/kick' is in use by process {other.pid} on {re.escape(socket.gethostname())} "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*, and is left as it is\. Wait until that has "
            r"ended, or choose another folder\.$"
        )
        with (
            pytest.raises(InUseError, match=message),
            process_lock(tmp_path / ".lock", "'runs/kick'"),
        ):
            pytest.fail("It was in use.")
        assert json.loads((tmp_path / ".lock.owner").read_text())["pid"] == other.pid


def test_a_killed_process_leaves_it_free(tmp_path):
    with held_elsewhere(tmp_path / ".lock") as other:
        other.kill()
        other.wait()
        assert (tmp_path / ".lock.owner").exists()
        with process_lock(tmp_path / ".lock", "it"):
            assert json.loads((tmp_path / ".lock.owner").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lock.owner").exists()


def test_the_holder_may_take_it_again(tmp_path):
    path = tmp_path / ".lock"
    with process_lock(path, "it") as is_first:
        assert is_first
        with process_lock(str(path), "it") as is_first:
            assert not is_first
        assert (tmp_path / ".lock.owner").exists()
        with pytest.raises(InUseError, match=f"it is in use by process {os.getpid()} on "):
            in_thread(path)
    in_thread(path)


def in_thread(path):
    errors = []

    def work():
        try:
            with process_lock(path, "it"):
                pass
        except InUseError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_an_error_frees_it(tmp_path):
    with pytest.raises(KeyError), process_lock(tmp_path / ".lock", "it"):
        raise KeyError
    in_thread(tmp_path / ".lock")


def test_it_waits_and_says_for_whom(tmp_path, caplog):
    caplog.set_level(logging.INFO, "pipelines")
    with held_elsewhere(tmp_path / ".lock") as other:
        started = time.monotonic()
        threading.Timer(0.3, other.kill).start()
        with process_lock(tmp_path / ".lock", "the cache", timeout=-1):
            assert time.monotonic() - started >= 0.3
    (message,) = caplog.messages
    assert message.startswith(f"Waiting for the cache, in use by process {other.pid} on ")


def test_it_does_not_wait_for_ever(tmp_path):
    with held_elsewhere(tmp_path / ".lock"):
        (tmp_path / ".lock.owner").write_text("{")
        with (
            pytest.raises(InUseError, match=r"^it is in use by another process, and"),
            process_lock(tmp_path / ".lock", "it", timeout=0.1),
        ):
            pytest.fail("It was in use.")
