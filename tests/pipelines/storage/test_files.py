"""A file appears whole or not at all."""

import json
import os
import re

import pytest

from pipelines.storage.files import remove_unfinished, write_aside, write_json, write_text


def test_a_file_is_moved_into_place(tmp_path):
    path = tmp_path / "new" / "folder" / "model.weights.h5"
    with write_aside(path) as aside:
        aside.write_text("whole")
        assert aside.name == path.name
        assert aside.parent.parent == path.parent  # on the same disk
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_replaced_by_a_path_that_is_text(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("before")
    with write_aside(str(path)) as aside:
        aside.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"


def test_a_folder_is_moved_into_place(tmp_path):
    with write_aside(tmp_path / "folder") as aside:
        (aside / "inner").mkdir(parents=True)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["inner"]
    assert os.listdir(tmp_path) == ["folder"]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with write_aside(path) as first, write_aside(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # it ended last


def write_half(path, error):
    with write_aside(path) as aside:
        aside.write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_nothing_is_left_after_an_error(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_no_new_folder_is_left_after_an_error(tmp_path, error):
    (tmp_path / "there").mkdir()
    with pytest.raises(error):
        write_half(tmp_path / "there" / "new" / "folder" / "file", error)
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(tmp_path / "there") == []


def test_a_new_folder_stays_with_what_others_wrote_into_it(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(FileNotFoundError), write_aside(folder / "file"):
        (folder / "other").write_text("whole")
    assert os.listdir(folder) == ["other"]


def test_what_was_not_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("file")), write_aside(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == []


def test_text(tmp_path):
    (tmp_path / "a.txt").write_text("before, and longer")
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, "é"]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"b": [1, "é"]}
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n}\n")


def test_what_a_kill_left_is_removed(tmp_path):
    (tmp_path / "file").write_text("whole")
    writing = write_aside(tmp_path / "other")
    writing.__enter__().write_text("half")
    assert len(os.listdir(tmp_path)) == 2
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["file"]
