import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lists.annotations import read_csv, read_folder
from pipelines.lists.listing import source_group
from pipelines.lists.official_lists import read_hmdb51, read_ucf101
from pipelines.lists.records import Split, VideoRecord, record_number, split_validation
from tests.logs import warned
from tests.pipelines.video_files import write_tree


def message(text):
    return re.escape(text)


def test_folder_sorts_classes_and_videos(tmp_path):
    write_tree(tmp_path, ["b/2.mp4", "b/1.AVI", "a/x/3.mkv", "a/notes.txt", "a/.hidden.mp4"])
    write_tree(tmp_path, ["run/config.json", "run/stage1/metrics.json"])  # no class
    annotations = read_folder(str(tmp_path))
    assert annotations.class_names == ("a", "b")
    found = [(os.path.relpath(r.path, tmp_path), r.labels) for r in annotations.records]
    assert found == [("a/x/3.mkv", (0,)), ("b/1.AVI", (1,)), ("b/2.mp4", (1,))]


FRAMES = ("img_00001.jpg", "img_00002.jpg")


def test_folder_of_frame_folders(tmp_path):
    flow = ("flow_x_00001.jpg", "flow_y_00001.jpg")
    for video, names in {"a/v.1": FRAMES, "a/x/w": flow, "b/u": FRAMES + flow}.items():
        write_tree(tmp_path / video, names)
    write_tree(tmp_path, ["b/.partial-x/t/img_00001.jpg", "b/2.mp4", "c/img_1.jpg", "c/img.jpg"])
    annotations = read_folder(str(tmp_path))
    found = [(os.path.relpath(r.path, tmp_path), r.labels) for r in annotations.records]
    assert found == [("a/v.1", (0,)), ("a/x/w", (0,)), ("b/2.mp4", (1,)), ("b/u", (1,))]
    write_tree(tmp_path, ["a/v.1/img_00001.mp4.h5"])
    (record,) = read_folder(str(tmp_path), file_suffix=".h5").records
    assert record.path.endswith("img_00001.mp4.h5")


def test_official_lists_of_frame_folders(tmp_path):
    names = [f"Film_wave_u_nm_np1_fr_med_{i}" for i in range(2)]
    for name in names:
        write_tree(tmp_path / "videos" / "wave" / name, FRAMES)
    roots = hmdb51(tmp_path, f"{names[0]}.avi 1\n{names[1]}.avi 2\n")
    split = read_hmdb51(*roots)
    assert [os.path.basename(r.path) for r in split.train + split.test] == names
    assert split.train[0].group == "Film"
    write_tree(tmp_path / "videos" / "wave", [f"{names[0]}.avi"])  # a listed file comes first
    assert read_hmdb51(*roots).train[0].path.endswith(".avi")
    (tmp_path / "videos" / "wave" / "empty").mkdir()
    roots = hmdb51(tmp_path, f"{names[0]}.avi 1\nempty.avi 1\n")
    with pytest.raises(ValueError, match=r"1 of 2 listed videos are missing .*wave/empty.avi"):
        read_hmdb51(*roots)


@pytest.mark.parametrize("name", ["v", "v.avi", "v.mp4"])
def test_csv_of_frame_folders(tmp_path, name):
    write_tree(tmp_path / "v", FRAMES)
    (tmp_path / "list.csv").write_text(f"{name},run,0.5,1\n")
    (record,) = read_csv(str(tmp_path / "list.csv")).records
    assert record == VideoRecord(str(tmp_path / "v"), (0,), 0.5, 1.0)


def test_the_number_of_a_record_is_that_of_its_name():
    number = record_number(VideoRecord("/a/v.x.avi", (0,)))
    assert record_number(VideoRecord("/flow/b/v.x", (1,))) == number
    assert record_number(VideoRecord("v.x.MP4", ())) == number
    others = [
        VideoRecord("v.avi", ()),
        VideoRecord("v.x.avi", (), 1.0),
        VideoRecord("v.x.avi", (), None, 1.0),
        VideoRecord("v.x.avi.h5", ()),
    ]
    assert len({number, *map(record_number, others)}) == 5


def test_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_folder(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="No videos found in sub-folders of"):
        read_folder(str(tmp_path))
    write_tree(tmp_path, ["a/1.mp4", "b/1.mp4"])
    with pytest.raises(ValueError, match="sub-folders that are no known class: b"):
        read_folder(str(tmp_path), ["a"])
    with warned(r"1 classes have no videos in .*: c"):
        assert read_folder(str(tmp_path), ["c", "b", "a"]).records[0].labels == (2,)


def hmdb51(tmp_path, lines):
    split = tmp_path / "splits"
    split.mkdir(exist_ok=True)
    (split / "wave_test_split1.txt").write_text(lines)
    return str(tmp_path / "videos"), str(split)


def test_hmdb51(tmp_path):
    names = [f"Film_wave_u_nm_np1_fr_med_{i}.avi" for i in range(3)]
    write_tree(tmp_path / "videos" / "wave", names)
    roots = hmdb51(tmp_path, f"{names[0]} 1\n{names[1]} 2 \n\n{names[2]} 0\n")
    split = read_hmdb51(*roots)
    assert [os.path.basename(r.path) for r in split.train] == names[:1]
    assert [os.path.basename(r.path) for r in split.test] == names[1:2]
    assert split.train[0].group == "Film"
    with pytest.raises(ValueError, match=message("No files <class>_test_split2.txt in")):
        read_hmdb51(*roots, split=2)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("x.avi 3\n", r"split1.txt, line 1: expected '<video> 0\|1\|2'. Received: 'x.avi 3'"),
        ("a.avi 1\nb.avi 1\nc.avi 2\n", r"2 of 3 .* missing below .*: wave/b.avi \(.*, line 2\)"),
        ("a.avi 1\na.avi 2\n", r"line 2: wave/a.avi is listed twice, first in .*, line 1"),
    ],
)
def test_hmdb51_errors(tmp_path, lines, error):
    write_tree(tmp_path / "videos" / "wave", ["a.avi"])
    with pytest.raises(ValueError, match=error):
        read_hmdb51(*hmdb51(tmp_path, lines))


def test_hmdb51_warns_of_a_class_without_training_videos(tmp_path):
    write_tree(tmp_path / "videos" / "wave", ["a.avi"])
    with warned("1 classes have no videos in the training list"):
        read_hmdb51(*hmdb51(tmp_path, "a.avi 2\n"))


def ucf101(tmp_path, train, test):
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    (tmp_path / "trainlist01.txt").write_text(train)
    (tmp_path / "testlist01.txt").write_text(test)
    return str(tmp_path), str(tmp_path)


def test_ucf101(tmp_path):
    names = ["Archery/v_Archery_g08_c01.avi", "Biking/v_Biking_g09_c02.avi"]
    write_tree(tmp_path, [*names, "Biking/v_Biking_g01_c01.avi"])
    roots = ucf101(tmp_path, f"{names[0]} 1\r\n{names[1]} 2\r\n", "Biking/v_Biking_g01_c01.avi\n")
    split = read_ucf101(*roots)
    assert [(r.labels, r.group) for r in split.train] == [
        ((0,), "Archery_g08"),
        ((1,), "Biking_g09"),
    ]
    assert [r.labels for r in split.test] == [(1,)]


@pytest.mark.parametrize(
    ("train", "test", "error"),
    [
        ("Swim/v.avi 1\n", "", r"trainlist01.txt, line 1: unknown class 'Swim'"),
        ("Archery/a.avi 1\n", "Archery/a.avi\n", r"testlist01.txt, line 1: .* listed twice, first"),
        ("Archery/b.avi 1\n", "", r"1 of 1 listed videos are missing"),
    ],
)
def test_ucf101_errors(tmp_path, train, test, error):
    write_tree(tmp_path, ["Archery/a.avi"])
    with pytest.raises(ValueError, match=error):
        read_ucf101(*ucf101(tmp_path, train, test))
    (tmp_path / "classInd.txt").write_text("2 Archery\n")
    with pytest.raises(ValueError, match=r"line 1: expected '1 <class>'. Received: '2 Archery'"):
        read_ucf101(str(tmp_path), str(tmp_path))


def csv_file(tmp_path, text):
    write_tree(tmp_path, ["a.mp4", "b, c.mp4"])
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        'a.mp4,run|jump\n"b, c.mp4",jump,1.5,3\n',
        'path,end_seconds,label,start_seconds\na.mp4,,run|jump,\n"b, c.mp4",3,jump,1.5\n',
        '\ufeffPath,Label,start_seconds,end_seconds\na.mp4,run|jump\n\n"b, c.mp4",jump,1.5,3\n',
    ],
)
def test_csv(tmp_path, text):
    annotations = read_csv(csv_file(tmp_path, text))
    assert annotations.class_names == ("jump", "run")
    first, second = annotations.records
    assert (first.labels, first.start_seconds, first.end_seconds) == ((0, 1), None, None)
    assert second == VideoRecord(str(tmp_path / "b, c.mp4"), (0,), 1.5, 3.0)


def test_csv_orders_numbers_by_value_and_allows_no_label(tmp_path):
    annotations = read_csv(csv_file(tmp_path, 'a.mp4,10\na.mp4,9,2,3\n"b, c.mp4",\n'))
    assert annotations.class_names == ("9", "10")
    assert [r.labels for r in annotations.records] == [(1,), (0,), ()]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "has no rows"),
        ("path,class\na.mp4,x\n", "line 1: the header must name the columns path and label"),
        (
            "a.mp4\n",
            r"line 1: expected path,label\[,start_sec.*\]. Received: 'a.mp4'",
        ),
        ("a.mp4,x\nz.mp4,x\n", r"1 of 2 listed videos are missing below .*: z.mp4 \(.*line 2\)"),
        ("a.mp4,x\na.mp4,y\n", "line 2: a.mp4 is listed twice, first in .*line 1"),
        ("a.mp4,x,2,1\n", "line 1: expected 0 <= start_seconds < end_seconds. Received: 2.0, 1.0"),
        ("a.mp4,x,-1,\n", "line 1: expected 0 <= start_seconds"),
        ("a.mp4,x,nan,\n", "line 1: expected 0 <= start_seconds"),
        ("a.mp4,x,one,2\n", "line 1: start and end must be seconds"),
    ],
)
def test_csv_errors(tmp_path, text, error):
    with pytest.raises(ValueError, match=error):
        read_csv(csv_file(tmp_path, text))


def test_csv_of_known_classes(tmp_path):
    path = csv_file(tmp_path, "a.mp4,swim\n")
    with pytest.raises(ValueError, match="line 1: unknown class 'swim'; known are run, jump"):
        read_csv(path, class_names=["run", "jump"])
    with warned(r"1 classes have no videos in .*: run"):
        assert read_csv(path, class_names=["run", "swim"]).records[0].labels == (1,)


def test_split_refuses_shared_files(tmp_path):
    write_tree(tmp_path, ["a.mp4"])
    train = (VideoRecord(str(tmp_path / "a.mp4"), (0,)),)
    test = (VideoRecord(str(tmp_path / "." / "a.mp4"), (0,), start_seconds=4.0),)
    with pytest.raises(ValueError, match="1 videos are in both the training and the test list"):
        Split(train, test, ("x",))


@pytest.mark.parametrize(
    ("name", "class_name", "group"),
    [
        ("A_Beautiful_Mind_4_stand_f_cm_np1_fr_med_13.avi", "stand", "A_Beautiful_Mind_4"),
        ("Amazing_Soccer_@2_kick_ball_f_cm_np1_le_bad_2.avi", "kick_ball", "Amazing_Soccer_@2"),
        ("v_SoccerJuggling_g23_c01", "SoccerJuggling", "SoccerJuggling_g23"),
        ("v_SoccerJuggling_g23_c01.avi.h5", "SoccerJuggling", "SoccerJuggling_g23"),
        ("Dr._No_1_wave_f_cm_np1_fr_med_13", "wave", "Dr._No_1"),
        ("v_SoccerJuggling_g23_c01.avi", "SoccerJuggling", "SoccerJuggling_g23"),
        ("v_SoccerJuggling_g23_c01.h5", "SoccerJuggling", "SoccerJuggling_g23"),
        ("p07_foreflat_s2.h5", "foreflat", "p07"),
        ("p7_foreflat_depth_s2.avi", "foreflat", "p7"),
        ("p7_foreflat_s2.avi", "forehand_flat", "p7"),
        ("p10_serflat_s1.avi", None, "p10"),
        ("p7_s2.avi", "fore", None),
        ("clip_1.mp4", "stand", None),
        ("clip_1.mp4", None, None),
    ],
)
def test_source_group(name, class_name, group):
    assert source_group(f"some/{name}", class_name) == group


@pytest.mark.parametrize("second", ["ben", ""])
def test_groups_of_one_file(tmp_path, second):
    write_tree(tmp_path, ["a.mp4"])
    rows = [
        "path,label,start_seconds,end_seconds,group",
        "a.mp4,x,0,1,anna",
        f"a.mp4,x,1,2,{second}",
    ]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    message = r"line 3: a\.mp4 is of the group .*, and of 'anna' in a line above\. Give all"
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "list.csv")


def test_groups_of_a_csv(tmp_path):
    write_tree(tmp_path, ["a.mp4", "b.mp4", "v_Kick_g03_c01.mp4", "d.mp4"])
    rows = ["path,group,label", "a.mp4,anna,Kick", "b.mp4,,Kick", "v_Kick_g03_c01.mp4,,Kick"]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "d.mp4,anna,Wave"]))
    groups = [record.group for record in read_csv(tmp_path / "list.csv").records]
    assert groups == ["anna", None, "Kick_g03", "anna"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9) | st.none()), min_size=8, max_size=80),
    st.floats(0.05, 0.6),
    st.integers(0, 5),
)
def test_split_validation_keeps_groups_and_classes(clips, fraction, seed):
    records = [
        VideoRecord(f"/v/{i}", (label,), group=None if g is None else f"g{g}")
        for i, (label, g) in enumerate(clips)
    ]
    try:
        train, validation = split_validation(records, fraction, seed)
    except ValueError as error:
        assert "No group of records can be set aside" in str(error)  # noqa: PT017
        return
    assert sorted(train + validation, key=records.index) == records
    assert list(train) == sorted(train, key=records.index)
    groups = [{r.group for r in part} - {None} for part in (train, validation)]
    assert not groups[0] & groups[1]
    assert {r.labels for r in train} == {r.labels for r in records}
    assert split_validation(records, fraction, seed) == (train, validation)


def test_split_validation_is_stratified_and_seeded():
    records = [VideoRecord(f"/v/{i}", (i % 3,)) for i in range(90)]
    _, validation = split_validation(records, 0.2)
    assert [sum(r.labels == (c,) for r in validation) for c in range(3)] == [6, 6, 6]
    assert validation != split_validation(records, 0.2, seed=1)[1]
    with pytest.raises(ValueError, match="`fraction` must lie between 0 and 1"):
        split_validation(records, 1.0)


def test_split_validation_of_few_records():
    def sizes(*groups):
        records = [VideoRecord(f"/v/{i}", (label,), group=g) for i, (label, g) in enumerate(groups)]
        return [len(part) for part in split_validation(records, 0.1)]

    assert sizes((0, "a"), (1, "b"), (1, "c")) == [2, 1]
    assert sizes((0, "a"), (0, "a"), (0, "b")) == [2, 1]
    with pytest.raises(ValueError, match=r"all that one of its .* 3 records in 2 groups\. Add vid"):
        sizes((0, "a"), (0, "a"), (1, "b"))


def test_real_lists(data_folder):
    root = data_folder / "jhmdb8"
    split = read_hmdb51(str(root / "videos"), str(root / "splits"), 1)
    assert len(split.train) + len(split.test) == 344
    assert all(record.group for record in split.train + split.test)
