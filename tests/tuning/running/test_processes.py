import os
import re

import pytest

from tuning.running.processes import is_chief, is_worker, search_process


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch):
    for name in ("IP", "PORT"):
        monkeypatch.delenv(f"KERASTUNER_ORACLE_{name}", raising=False)
    monkeypatch.delenv("KERASTUNER_TUNER_ID", raising=False)


def told():
    return {name: value for name, value in os.environ.items() if name.startswith("KERASTUNER_")}


def test_a_search_alone():
    with search_process(None, None):
        assert (is_chief(), is_worker(), told()) == (False, False, {})


def test_a_chief_and_a_worker(monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "of the shell")
    with search_process("10.0.0.1:8000", None):
        assert (is_chief(), is_worker()) == (True, False)
        assert told() == {
            "KERASTUNER_ORACLE_IP": "10.0.0.1",
            "KERASTUNER_ORACLE_PORT": "8000",
            "KERASTUNER_TUNER_ID": "chief",
        }
        with search_process(None, None):
            assert is_chief()
    with search_process(None, ("10.0.0.1:8000", "a")):
        assert (is_chief(), is_worker()) == (False, True)
        assert told()["KERASTUNER_TUNER_ID"] == "worker-a"
    assert told() == {"KERASTUNER_TUNER_ID": "of the shell"}


@pytest.mark.parametrize(
    ("chief", "worker", "message"),
    [
        ("a:1", ("a:1", "b"), "A process is `chief` or `worker`, not both."),
        ("localhost", None, "`chief` must have an address HOST:PORT, such as 127.0.0.1:8000. Rec"),
        (None, (":80", "b"), "`worker` must have an address HOST:PORT, such as 127.0.0.1:8000. R"),
        (None, ("a:1", "chief2"), "`worker` must have another name than the chief. Received: 'ch"),
    ],
)
def test_errors(chief, worker, message):
    with pytest.raises(ValueError, match=re.escape(message)), search_process(chief, worker):
        pass
    assert told() == {}
