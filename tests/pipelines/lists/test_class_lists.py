import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lists.class_lists import read_class_list, read_class_names

words = st.text("abc_-.()", min_size=1, max_size=6)


def write(folder, text):
    (folder / "list.txt").write_text(text)
    return str(folder / "list.txt")


@given(
    st.dictionaries(
        st.builds("{}/{}".format, words, words),
        st.tuples(st.integers(0, 4), st.integers(1, 999)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
    st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_reads_what_was_written(tmp_path_factory, videos, has_frames, first):
    videos["last/video"] = 4, 1  # classes counted from 1 are known by the last one's number
    lines = [
        f"{video} {frames} {label + first}" if has_frames else f"{video}\t{label + first}"
        for video, (label, frames) in videos.items()
    ]
    path = write(tmp_path_factory.mktemp("list"), "\n".join(lines))
    records = read_class_list(path, 5)
    expected = [(video, (label,)) for video, (label, _) in videos.items()]
    assert [(record.path, record.labels) for record in records] == expected


def test_released_list(data_folder):
    folder = data_folder / "hmdb51_logits"
    records = read_class_list(str(folder / "test_split1.txt"), 51)
    names = read_class_names(str(folder / "actions.txt"))
    assert len(records) == 1530
    assert all(r.path.partition("/")[0] == names[r.labels[0]] for r in records)


def test_class_is_the_folder(tmp_path):
    path = write(tmp_path, "Run/v_1.avi\nJump/v 2.avi\n")
    records = read_class_list(path, 2, ("Jump", "Run"))
    assert [(r.path, r.labels) for r in records] == [("Run/v_1.avi", (1,)), ("Jump/v 2.avi", (0,))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Run/1.avi\n", "line 1: expected '<video> <class>'.*Received: 'Run/1.avi'"),
        ("a 0\na 1\n", "line 2: a is listed twice, first in .*line 1"),
        ("a 0\nb 2\n", "line 2: expected a class from 0 to 1. Received: 2"),
        ("a 1\nb 3\n", "line 2: expected a class from 0 to 1. Received: 3"),
        ("\n", "lists no video"),
    ],
)
def test_errors(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_class_list(write(tmp_path, text), 2)
    with pytest.raises(ValueError, match="The list does not exist"):
        read_class_list(str(tmp_path / "none.txt"), 2)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("brush hair\n\ncart wheel \n", ("brush hair", "cart wheel")),
        ("1 Apply\n2 Archery\n", ("Apply", "Archery")),
        ("0 Apply\n1 Archery\n", ("Apply", "Archery")),
        ("c000 Holding some clothes\nc001 Sitting\n", ("Holding some clothes", "Sitting")),
        ("3 point shot\n100 m run\n", ("3 point shot", "100 m run")),
        ("1 run\n2\n", ("1 run", "2")),
    ],
)
def test_class_names(tmp_path, text, names):
    assert read_class_names(write(tmp_path, text)) == names


def test_no_class_names(tmp_path):
    with pytest.raises(ValueError, match="names no class"):
        read_class_names(write(tmp_path, "\n"))
