import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lists.annotations import read_csv, read_folder
from pipelines.lists.listing import source_group
from pipelines.lists.official_lists import (
    read_activitynet,
    read_hmdb51,
    read_hollywood2,
    read_ucf101,
)
from tests.logs import warned
from tests.pipelines.video_files import write_tree

ACTIONS = [
    *("AnswerPhone", "DriveCar", "Eat", "FightPerson", "GetOutCar", "HandShake", "HugPerson"),
    *("Kiss", "Run", "SitDown", "SitUp", "StandUp"),
]


def hollywood2(root, labels):
    """Writes lists from {part: {clip: actions}}, the videos and what the reader passes over."""
    (root / "ClipSets").mkdir(exist_ok=True)
    for part, clips in labels.items():
        for action in ACTIONS:
            lines = [f"{clip}  {1 if action in found else -1}" for clip, found in clips.items()]
            (root / "ClipSets" / f"{action}_{part}.txt").write_text("\n".join(lines) + "\n")
        write_tree(root / "AVIClips", [f"{clip}.avi" for clip in clips])
    (root / "ClipSets" / "EXT-house_train.txt").write_text("sceneclipautoautotrain00001  1\n")
    (root / "ClipSets" / "Eat_autotrain.txt").write_text("actionclipautoautotrain00001  1\n")
    return str(root)


TWO_CLIPS = {
    "train": {"actioncliptrain00001": ["Eat", "Run"], "actioncliptrain00002": ACTIONS},
    "test": {"actioncliptest00001": [], "actioncliptest00002": ["AnswerPhone"]},
}


def test_hollywood2(tmp_path):
    root = hollywood2(tmp_path, TWO_CLIPS)
    split = read_hollywood2(root)
    assert split.class_names == tuple(ACTIONS)
    assert [r.labels for r in split.train] == [(2, 8), tuple(range(12))]
    assert [r.labels for r in split.test] == [(), (0,)]
    assert split.test[1].path == os.path.join(root, "AVIClips", "actioncliptest00002.avi")
    write_tree(tmp_path / "features", [f"{clip}.avi.h5" for p in TWO_CLIPS.values() for clip in p])
    features = read_hollywood2(root, str(tmp_path / "features"), ".h5")
    assert features.train[0].path == str(tmp_path / "features" / "actioncliptrain00001.avi.h5")


@given(
    st.dictionaries(
        st.integers(0, 99999).map("actioncliptrain{:05d}".format),
        st.sets(st.sampled_from(ACTIONS)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=15, deadline=None)
def test_hollywood2_reads_what_was_written(tmp_path_factory, clips):
    clips["actioncliptrainall"] = ACTIONS  # no class without videos
    root = tmp_path_factory.mktemp("hollywood2")
    split = read_hollywood2(hollywood2(root, {"train": clips, "test": {}}))
    found = {
        os.path.basename(r.path)[:-4]: {split.class_names[i] for i in r.labels} for r in split.train
    }
    assert found == {clip: set(actions) for clip, actions in clips.items()}


def test_hollywood2_errors(tmp_path):
    root = hollywood2(tmp_path, TWO_CLIPS)
    hollywood2(tmp_path, {"train": {"actioncliptrain00002": ACTIONS[:-1]}})
    with warned("1 classes have no videos in the training lists: StandUp"):
        read_hollywood2(root)
    path = tmp_path / "ClipSets" / "Eat_test.txt"
    for text, error in [
        ("a  1\na -1\n", "line 2: a is listed twice, first in .*line 1"),
        ("actioncliptest00001 2\n", r"line 1: expected '<clip> 1\|-1'. Received: 'actioncliptest"),
        ("actioncliptest00001\n", r"line 1: expected '<clip> 1\|-1'"),
        ("actioncliptest00001 1\n", "same clips as AnswerPhone_test.txt. Received: actioncliptest"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=error):
            read_hollywood2(root)
    path.unlink()
    with pytest.raises(ValueError, match=r"The list does not exist: .*Eat_test.txt"):
        read_hollywood2(root)
    hollywood2(tmp_path, TWO_CLIPS)
    (tmp_path / "AVIClips" / "actioncliptest00002.avi").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 listed videos are missing below .*test00002.avi"):
        read_hollywood2(root)


def activitynet(tmp_path, database):
    path = tmp_path / "activity_net.json"
    path.write_text(json.dumps({"version": "VERSION 1.3", "database": database}))
    return str(tmp_path), str(path)


def entry(subset, *annotations, duration=100.0):
    found = [{"label": label, "segment": segment} for label, segment in annotations]
    return {"subset": subset, "duration": duration, "annotations": found, "url": "https://..."}


def test_activitynet(tmp_path):
    write_tree(
        tmp_path / "videos", ["v_aaaaaaaaaaa.mp4", "val/bbbbbbbbbbb.mkv", "v_v_ccccccccc.mp4"]
    )
    database = {
        "aaaaaaaaaaa": entry("training", ("Run", [10.5, 20]), ("Eat", [90, 120])),
        "bbbbbbbbbbb": entry("validation", ("Run", [-1, 5]), ("Run", [0, 5]), ("Run", [7, 7])),
        "v_ccccccccc": entry("training", ("Eat", [0, 3])),
        "ddddddddddd": entry("testing"),
    }
    split = read_activitynet(*activitynet(tmp_path, database))
    assert split.class_names == ("Eat", "Run")
    found = [(r.labels, r.start_seconds, r.end_seconds, r.group) for r in split.train]
    assert found == [
        ((1,), 10.5, 20.0, "aaaaaaaaaaa"),
        ((0,), 90.0, 100.0, "aaaaaaaaaaa"),
        ((0,), 0.0, 3.0, "v_ccccccccc"),
    ]
    (test,) = split.test
    assert (test.labels, test.start_seconds, test.end_seconds) == ((1,), 0.0, 5.0)
    assert test.path == str(tmp_path / "videos" / "val" / "bbbbbbbbbbb.mkv")


def test_activitynet_counts_missing_videos(tmp_path):
    ids = "abcde"
    roots = activitynet(tmp_path, {i: entry("training", ("Run", [0, 1])) for i in ids})
    with pytest.raises(ValueError, match=r"5 of 5 videos of .*json are missing below .*: v_a\."):
        read_activitynet(*roots)
    write_tree(tmp_path, ["v_a.mp4", "v_b.mp4"])
    with warned(r"3 of 5 videos of .* first: v_c; they are left out"):
        split = read_activitynet(*roots)
    assert [r.group for r in split.train] == ["a", "b"]
    with pytest.raises(ValueError, match=r"3 of 5 videos"):
        read_activitynet(*roots, max_missing=2)
    with warned("3 of 5"):
        read_activitynet(*roots, max_missing=3)
    write_tree(tmp_path, ["train/a.webm"])
    with pytest.raises(ValueError, match=r"The video a is there twice: .* and "):
        read_activitynet(*roots)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", r"has not ActivityNet's format: expected {\"database\""),
        ('{"database": [1]}', "has not ActivityNet's format"),
        ('{"database": {"a": 1}}', "has not ActivityNet's format"),
        ('{"database": {"a": {"subset": "train"}}}', "video a: `subset` must be one of training, "),
        (
            '{"database": {"a": {"subset": "training", "annotations": [{"label": "x"}]}}}',
            r"video a: expected .*\"segment\": \[start, end\].* Received: {'label': 'x'}",
        ),
        (
            '{"database": {"a": {"subset": "training", "annotations": [{"label": "x", "segment": '
            '[1, "b"]}]}}}',
            r"video a: expected .*Received: .*'b'",
        ),
    ],
)
def test_activitynet_errors(tmp_path, content, error):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(ValueError, match=error):
        read_activitynet(str(tmp_path), str(tmp_path / "list.json"))
    with pytest.raises(ValueError, match="The list does not exist"):
        read_activitynet(str(tmp_path), str(tmp_path / "none.json"))


@given(
    st.dictionaries(
        st.text("abcXYZ019-", min_size=11, max_size=11),
        st.tuples(
            st.sampled_from(["training", "validation"]),
            st.lists(
                st.tuples(st.sampled_from("RS"), st.integers(0, 50), st.integers(51, 99)),
                min_size=1,
                max_size=3,
                unique=True,
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore:.* classes have no videos")
def test_activitynet_reads_what_was_written(tmp_path_factory, videos):
    root = tmp_path_factory.mktemp("activitynet")
    write_tree(root, [f"v_{video}.mp4" for video in videos])
    database = {
        video: entry(subset, *((label, [start, end]) for label, start, end in segments))
        for video, (subset, segments) in videos.items()
    }
    split = read_activitynet(*activitynet(root, database))
    found = [
        (r.group, split.class_names[r.labels[0]], r.start_seconds, r.end_seconds)
        for r in split.train + split.test
    ]
    expected = [(video, *segment) for video, (_, found) in videos.items() for segment in found]
    assert sorted(found) == sorted(expected)
    assert all(videos[r.group][0] == "training" for r in split.train)


def test_features_are_read_by_the_lists_of_their_videos(tmp_path):
    name = "Film_wave_u_nm_np1_fr_med_0.avi"
    write_tree(tmp_path, [f"wave/{name}.h5", f"wave/{name}.tfrecord", "wave/features.json"])
    (tmp_path / "wave_test_split1.txt").write_text(f"{name} 1\n")
    split = read_hmdb51(str(tmp_path), str(tmp_path), file_suffix=".tfrecord")
    assert split.train[0].path == str(tmp_path / "wave" / f"{name}.tfrecord")
    (record,) = read_folder(str(tmp_path), file_suffix=".h5").records
    assert record.path == str(tmp_path / "wave" / f"{name}.h5")
    assert record.group == split.train[0].group == "Film"
    (tmp_path / "list.csv").write_text(f"wave/{name},wave,1,2\n")
    (record,) = read_csv(str(tmp_path / "list.csv"), file_suffix=".h5").records
    assert (record.path, record.end_seconds) == (str(tmp_path / "wave" / f"{name}.h5"), 2.0)
    with pytest.raises(ValueError, match=re.escape("/<class>/<video>.hdf")):
        read_folder(str(tmp_path), file_suffix=".hdf")


def test_ucf101_of_features(tmp_path):
    write_tree(tmp_path, ["Archery/v_Archery_g08_c01.avi.h5"])
    (tmp_path / "classInd.txt").write_text("1 Archery\n")
    (tmp_path / "trainlist01.txt").write_text("Archery/v_Archery_g08_c01.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("")
    (record,) = read_ucf101(str(tmp_path), str(tmp_path), file_suffix=".h5").train
    assert record.path.endswith("v_Archery_g08_c01.avi.h5")
    assert record.group == "Archery_g08"


def test_activitynet_of_features(tmp_path):
    write_tree(tmp_path, ["v_a.b.mp4.h5", "v_c.mp4"])
    database = {i: entry("training", ("Run", [0, 1])) for i in ("a.b", "c")}
    with warned("1 of 2 videos"):
        split = read_activitynet(*activitynet(tmp_path, database), file_suffix=".h5")
    assert [os.path.basename(r.path) for r in split.train] == ["v_a.b.mp4.h5"]


@pytest.mark.parametrize("suffix", ["", ".h5", ".tfrecord"])
def test_source_group_of_features(suffix):
    path = f"x/v_SoccerJuggling_g23_c01.avi{suffix}"
    assert source_group(path, "SoccerJuggling") == "SoccerJuggling_g23"
