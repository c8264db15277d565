"""A folder goes on with its own settings, and with no others."""

import json
import os
import re
import threading
import time

import pytest

from pipelines.storage.owned_folder import OwnedFolder, read_json
from pipelines.storage.process_lock import InUseError
from tests.pipelines.storage.other_process import held_elsewhere

SETTINGS = {"model": "vlad", "training": {"epochs": (15, 0), "rate": 0.1}, "weights": "a.h5"}


def a_run(path, **changes):
    return OwnedFolder(path, **{"holds": "a run", "settings_file": "config.json", **changes})


def test_a_new_folder_gets_the_settings(tmp_path):
    owned = a_run(str(tmp_path / "new" / "run"))
    owned.claim(SETTINGS)
    path = tmp_path / "new" / "run" / "config.json"
    assert json.loads(path.read_text())["training"] == {"epochs": [15, 0], "rate": 0.1}
    path.write_text(path.read_text() + "\n")
    before = path.read_bytes()
    owned.claim(SETTINGS)
    assert path.read_bytes() == before


def test_other_settings_are_named(tmp_path):
    a_run(tmp_path).claim(SETTINGS)
    changed = {**SETTINGS, "model": "x" * 100, "training": {"epochs": [15, 0], "rate": 0.2}}
    message = (
        rf"^'{re.escape(str(tmp_path))}' holds a run with other settings and is left as it is "
        r"\(model: 'vlad' there, 'x+\.\.\.x+' here; training\.rate: 0\.1 there, 0\.2 here\)\. "
        r"Choose another folder, or the same settings to go on\.$"
    )
    with pytest.raises(ValueError, match=message):
        a_run(tmp_path).check_settings(changed)
    with pytest.raises(ValueError, match=message):
        a_run(tmp_path).claim(changed)
    assert read_json(tmp_path / "config.json")["model"] == "vlad"


def test_settings_of_one_side_are_named(tmp_path):
    a_run(tmp_path).claim({"a": 1, "c": None})
    message = r"\(b: nothing there, 2 here; a: 1 there, nothing here\)"
    with pytest.raises(ValueError, match=message):
        a_run(tmp_path).claim({"b": 2})


def test_settings_in_lists_are_named(tmp_path):
    a_run(tmp_path).claim({"stages": [{"epochs": 5}, {"epochs": 3, "rate": 0.1}]})
    message = r"\(stages\.2\.epochs: 3 there, 4 here\)"
    with pytest.raises(ValueError, match=message):
        a_run(tmp_path).claim({"stages": [{"epochs": 5}, {"epochs": 4, "rate": 0.1}]})


def test_ignored_settings_may_differ(tmp_path):
    a_run(tmp_path).claim(SETTINGS)
    ignored = ("weights", "training.rate")
    changed = {"model": "vlad", "training": {"epochs": [15, 0], "rate": 5}, "weights": "b.h5"}
    a_run(tmp_path, ignored=ignored).claim(changed)
    assert read_json(tmp_path / "config.json")["training"] == {"epochs": [15, 0], "rate": 5}
    with pytest.raises(ValueError, match=r"\(weights: 'b.h5' there, 'a.h5' here\)"):
        a_run(tmp_path, ignored=ignored[1:]).claim(SETTINGS)


def test_an_earlier_version_is_read_in_the_words_of_today(tmp_path):
    a_run(tmp_path).claim({"net": "vlad"})

    def read(path):
        return {"model": read_json(path)["net"], "streams": ["rgb"]}

    a_run(tmp_path, read=read).claim({"model": "vlad", "streams": ("rgb",)})
    with pytest.raises(ValueError, match=r"\(streams: \['rgb'\] there, \['flow'\] here\)"):
        a_run(tmp_path, read=read).claim({"model": "vlad", "streams": ["flow"]})


@pytest.mark.parametrize("content", ["{", "[1]", '"text"', "null", '{"other": 1}'])
def test_a_file_of_something_else(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    owned = a_run(tmp_path, read=lambda path: {"model": read_json(path)["model"]})
    with pytest.raises(ValueError, match=r"config\.json' does not describe a run \(.*\)\. Choose"):
        owned.claim(SETTINGS)
    assert (tmp_path / "config.json").read_text() == content


def test_what_has_not_begun_may_change(tmp_path):
    a_run(tmp_path, begun_by="state.npz").claim({"a": 1})
    a_run(tmp_path, begun_by="state.npz").claim({"a": 2})
    (tmp_path / "state.npz").touch()
    a_run(tmp_path, begun_by="state.npz").claim({"a": 2})
    with pytest.raises(ValueError, match=r"\(a: 2 there, 1 here\)"):
        a_run(tmp_path, begun_by="state.npz").claim({"a": 1})


def test_a_folder_of_other_things_is_refused(tmp_path):
    for name in ("thesis.txt", "data", ".hidden"):
        (tmp_path / name).touch()
    message = (
        rf"^'{re.escape(str(tmp_path))}' is not empty and does not hold a run: it has no "
        r"config\.json, but data, thesis\.txt\. Choose a new folder\.$"
    )
    owned = a_run(tmp_path)
    for refused in (owned.check_free, lambda: owned.claim({}), lambda: owned.locked().__enter__()):
        with pytest.raises(ValueError, match=message):
            refused()
    assert sorted(os.listdir(tmp_path)) == [".hidden", "data", "thesis.txt"]
    a_run(tmp_path, besides=("data", "*.txt")).claim({})
    a_run(tmp_path).check_free()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match=r"run' is no folder\. Choose another name\."):
        a_run(tmp_path / "run").claim({})


def test_one_process_at_a_time(tmp_path):
    owned = a_run(tmp_path / "run")
    with owned.locked():
        owned.claim(SETTINGS)  # the holder's own
    with (
        held_elsewhere(tmp_path / "run" / ".lock") as other,
        pytest.raises(InUseError, match=rf"run' is in use by process {other.pid} on "),
    ):
        owned.locked().__enter__()


def test_a_claim_waits_for_another_one(tmp_path):
    with held_elsewhere(tmp_path / ".lock") as other:
        started = time.monotonic()
        threading.Timer(0.3, other.kill).start()
        a_run(tmp_path).claim(SETTINGS)
        assert time.monotonic() - started >= 0.3
    assert read_json(tmp_path / "config.json")["model"] == "vlad"


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / ".partial-x").mkdir()
    owned = a_run(tmp_path)
    with owned.locked():
        assert not (tmp_path / ".partial-x").exists()
        (tmp_path / ".partial-y").mkdir()
        with owned.locked():  # what this process is writing stays
            assert (tmp_path / ".partial-y").exists()
