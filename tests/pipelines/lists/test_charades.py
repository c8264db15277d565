import csv
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lists.charades import read_charades, read_charades_labels
from tests.logs import warned
from tests.pipelines.video_files import write_tree

COLUMNS = [
    *("id", "subject", "scene", "quality", "relevance", "verified", "script", "objects"),
    *("descriptions", "actions", "length"),
]
CLASSES = "c000 Holding some clothes\nc001 Working/Playing on a laptop\nc002 Eating, or so\n"
NAMES = ("Holding some clothes", "Working/Playing on a laptop", "Eating, or so")
TRAIN = {"46GP8": "c002 11.90 21.20;c000 0.00 12.60;c002 11.90 21.20;c001 30 99", "N11GT": ""}
TEST = {"YSKX3": "c001 0.00 5.00", "EMPTY": ""}


def write_list(path, actions, **columns):
    """A list as published, from {video: actions}."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, (video, text) in enumerate(actions.items()):
            row = {"id": video, "subject": f"P{number % 2}", "actions": text, "length": "32.5"}
            row["script"] = 'A person says "go",\nand walks; then sits.'
            writer.writerow({**row, **columns})


def charades(root, train=TRAIN, test=TEST, **columns):
    write_list(root / "Charades_v1_train.csv", train, **columns)
    write_list(root / "Charades_v1_test.csv", test, **columns)
    (root / "Charades_v1_classes.txt").write_text(CLASSES)
    write_tree(root, [f"{video}.mp4" for video in {**train, **test}])
    return str(root), str(root)


class TestReadCharades:
    def test_whole_videos(self, tmp_path):
        split = read_charades(*charades(tmp_path))
        assert split.class_names == NAMES
        assert [r.labels for r in split.train] == [(0, 1, 2), ()]
        assert [r.labels for r in split.test] == [(1,), ()]
        assert [r.group for r in split.train] == ["P0", "P1"]
        assert split.train[0].path == str(tmp_path / "46GP8.mp4")
        assert {(r.start_seconds, r.end_seconds) for r in split.train + split.test} == {
            (None, None)
        }

    def test_segments(self, tmp_path):
        split = read_charades(*charades(tmp_path), segments=True)
        found = [(r.labels, r.start_seconds, r.end_seconds, r.group) for r in split.train]
        assert found == [
            ((2,), 11.9, 21.2, "P0"),
            ((0,), 0.0, 12.6, "P0"),
            ((1,), 30.0, 32.5, "P0"),  # not behind the end of the video
        ]
        assert [(r.labels, r.end_seconds) for r in split.test] == [((1,), None), ((), None)]

    def test_segments_without_length(self, tmp_path):
        roots = charades(tmp_path, {"a": "c000 5.0 5.0;c001 7.0 3.0;c002 40.0 50.0;c000 1 2"})
        with warned("2 classes have no videos in Charades_v1_train.csv"):
            split = read_charades(*roots, segments=True)
        assert [(r.labels, r.start_seconds) for r in split.train] == [((0,), 1.0)]

    def test_frame_folders_and_features(self, tmp_path):
        roots = charades(tmp_path)
        (tmp_path / "YSKX3.mp4").unlink()
        write_tree(tmp_path / "YSKX3", ["img_00001.jpg"])
        assert read_charades(*roots).test[0].path == str(tmp_path / "YSKX3")
        write_tree(tmp_path / "sets", [f"{video}.mp4.h5" for video in {**TRAIN, **TEST}])
        features = read_charades(str(tmp_path / "sets"), roots[1], file_suffix=".h5")
        assert features.train[1].path == str(tmp_path / "sets" / "N11GT.mp4.h5")

    @given(
        st.dictionaries(
            st.text("ABCXYZ0189", min_size=5, max_size=5),
            st.lists(
                st.tuples(st.integers(0, 2), st.floats(0, 30).map("{:.2f}".format)), max_size=4
            ),
            min_size=1,
            max_size=5,
        ),
        st.booleans(),
    )
    @settings(max_examples=20, deadline=None)
    def test_reads_what_was_written(self, tmp_path_factory, videos, segments):
        root = tmp_path_factory.mktemp("charades")
        texts = {
            video: ";".join(f"c{label:03d} {start} 31.00" for label, start in found)
            for video, found in videos.items()
        }
        # No class without videos.
        texts["all"] = "c000 0.00 1.00;c001 0.00 1.00;c002 0.00 1.00"
        split = read_charades(*charades(root, texts, {}), segments=segments)
        found = [(os.path.basename(r.path)[:-4], r.labels, r.start_seconds) for r in split.train]
        if segments:
            expected = {(v, (c,), float(s)) for v, found in videos.items() for c, s in found}
            expected |= {("all", (label,), 0.0) for label in range(3)}
            assert len(found) == len(expected)
            assert set(found) == expected
        else:
            expected = {v: {label for label, _ in found} for v, found in videos.items()}
            assert {v: set(labels) for v, labels, _ in found} == {**expected, "all": {0, 1, 2}}


class TestLabels:
    def test_videos_without_files(self, tmp_path):
        write_list(tmp_path / "list.csv", TEST)
        records = read_charades_labels(str(tmp_path / "list.csv"), 3)
        assert [(r.path, r.labels) for r in records] == [("YSKX3", (1,)), ("EMPTY", ())]

    def test_two_columns_are_enough(self, tmp_path):
        (tmp_path / "list.csv").write_text("id,actions\nX,c156 1 2\n")
        (record,) = read_charades_labels(str(tmp_path / "list.csv"))
        assert record.labels == (156,)


@pytest.mark.parametrize(
    ("train", "columns", "message"),
    [
        ({"a": "c003 0 1"}, {}, r"line 3: expected actions .* of 3 classes.*'c003 0 1'"),
        ({"a": "c001 0"}, {}, r"line 3: expected actions 'c<class> <start> <end>'.*'c001 0'"),
        ({"a": "c001 0 x"}, {}, "Received: 'c001 0 x'"),
        ({"a": "1 0 1"}, {}, "Received: '1 0 1'"),
        ({"a": ""}, {"length": "long"}, "line 3: the length must be seconds. Received: 'long'"),
        ({" ": ""}, {}, "line 3: expected the id of a video"),
        (
            {"YSKX3": "c001 0 1"},
            {},
            r"3: YSKX3\.mp4 is listed twice, first in .*train\.csv, line 3",
        ),
    ],
)
def test_errors(tmp_path, train, columns, message):
    with pytest.raises(ValueError, match=message):
        read_charades(*charades(tmp_path, train, **columns))


def test_missing_files(tmp_path):
    roots = charades(tmp_path)
    (tmp_path / "46GP8.mp4").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 listed videos are missing .*46GP8\.mp4"):
        read_charades(*roots)
    (tmp_path / "Charades_v1_test.csv").write_text("video,actions\n")
    with pytest.raises(ValueError, match=r"must name the columns id and actions\. Received"):
        read_charades(*roots)
    (tmp_path / "Charades_v1_test.csv").unlink()
    with pytest.raises(ValueError, match=r"The list does not exist: .*Charades_v1_test\.csv"):
        read_charades(*roots)
    (tmp_path / "Charades_v1_test.csv").write_text("id,actions\nA,\nA,\n")
    with pytest.raises(ValueError, match=r"line 3: A is listed twice, first in .*line 2"):
        read_charades_labels(str(tmp_path / "Charades_v1_test.csv"))
