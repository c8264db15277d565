"""Labelled videos as a training is given them."""

import pytest

from pipelines.lists.records import VideoRecord
from tests.logs import warned
from tests.pipelines.video_files import write_tree
from tfvlad.runs.config import DataPaths
from tfvlad.runs.data import (
    clip_name,
    clip_names,
    read_lists,
    read_split,
    read_test_list,
    short_clip_name,
    write_lists,
)


def test_lists_come_back(tmp_path):
    write_tree(tmp_path, ["a.mp4", "b, c.mp4"])
    first = VideoRecord(str(tmp_path / "a.mp4"), (0, 2), 1.5, None)
    second = VideoRecord(str(tmp_path / "b, c.mp4"), ())
    path = tmp_path / "lists.csv"
    write_lists(path, {"train": [second], "test": [first, second]}, ["x", "y", "z"])
    assert read_lists(path, "test", ["x", "y", "z"]) == (first, second)
    assert read_lists(path, "validation", ["x", "y", "z"]) == ()
    with pytest.raises(ValueError, match=r"missing\. Name the videos: give `data`\."):
        read_lists(tmp_path / "none.csv", "test", ["x"])


def test_clip_names():
    records = [
        VideoRecord("/data/wave/1.avi", (0,)),
        VideoRecord("/data/run/1.avi", (1,), 1.5, 3.0),
        VideoRecord("/data/run/1.avi", (1,), 3.0),
        VideoRecord("/data/run/a@2-b.avi", (1,), None, 3.0),
    ]
    names = clip_names(records)
    assert names == ["wave/1", "run/1@1.5-3.0", "run/1@3.0-", "run/a@2-b@0-3.0"]
    assert [clip_name(name) for name in names] == names
    assert clip_name("run/a@2-b.avi@0-3.0") == "run/a@2-b@0-3.0"
    assert clip_name("run/user@home.mp4.h5") == "run/user@home"
    short = [short_clip_name(name) for name in names]
    assert short == ["1", "1", "1", "a@2-b"]


def test_a_test_list_is_taken_whole(tmp_path):
    write_tree(tmp_path, ["run/1.mp4", "run/2.mp4", "wave/1.mp4"])
    assert len(read_test_list(str(tmp_path), None, 1, ["run", "wave"])) == 3
    with warned("1 classes have no videos"):
        records = read_test_list(str(tmp_path), None, 1, ["jump", "run", "wave"])
    assert [record.labels for record in records] == [(1,), (1,), (2,)]
    with pytest.raises(ValueError, match="no known class: wave"):
        read_test_list(str(tmp_path), None, 1, ["run"])


def test_official_lists_of_other_classes(tmp_path):
    write_tree(tmp_path, ["wave/1.mp4", "wave/2.mp4"])
    (tmp_path / "wave_test_split1.txt").write_text("1.mp4 1\n2.mp4 2\n")
    (record,) = read_test_list(str(tmp_path), str(tmp_path), 1, ["wave"])
    assert record.path.endswith("2.mp4")
    with pytest.raises(ValueError, match=r"knows the classes run\. Received: .* classes wave\."):
        read_test_list(str(tmp_path), str(tmp_path), 1, ["run"])
    (tmp_path / "wave_test_split1.txt").write_text("1.mp4 1\n")
    with pytest.raises(ValueError, match=r"The test list of .* names no video"):
        read_split(DataPaths(data=str(tmp_path), lists=str(tmp_path)))


@pytest.mark.parametrize(
    ("data_set", "lists"),
    [
        ("ActivityNet", "activity_net.json"),
        ("Hollywood2", "ClipSets/"),
        ("Charades", "Charades_v1_train.csv"),
    ],
)
def test_data_sets_of_one_split(tmp_path, data_set, lists):
    write_tree(tmp_path, [lists if "." in lists else lists + "a.txt"])
    path = tmp_path / lists if lists.endswith("json") else tmp_path
    with pytest.raises(ValueError, match=rf"{data_set} has one split\. Received: split=2\. Leave"):
        read_split(DataPaths(data=str(tmp_path), lists=str(path), split=2))


def test_too_few_videos(tmp_path):
    write_tree(tmp_path, ["run/1.mp4", "wave/1.mp4"])
    with pytest.raises(ValueError, match=r"No test list can be taken .* with `test_data`\."):
        read_split(DataPaths(data=str(tmp_path)))
    write_tree(tmp_path, ["wave/2.mp4"])
    split = read_split(DataPaths(data=str(tmp_path)))
    assert [len(split.train), len(split.test)] == [2, 1]
