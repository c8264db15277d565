"""Arrays of any program, whole and damaged."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from pipelines.features.arrays import ARRAY_SUFFIXES, arrays_below, read_array
from pipelines.video.info import BrokenVideoError
from tests.pipelines.video_files import write_tree

ROWS = np.arange(15, dtype="float32").reshape(5, 3)


def save_hdf5(path, values):
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file[name] = value


def save_mat73(path, values):
    """As MATLAB does: a block of its own before, column after column, cells' values aside."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file[name] = np.transpose(value)
        file["#refs#/a"] = 1.0


SAVE = {
    "clip.npz": lambda path, values: np.savez(path, **values),
    "packed.npz": lambda path, values: np.savez_compressed(path, **values),
    "clip.h5": save_hdf5,
    "clip.hdf5": save_hdf5,
    "clip.mat": scipy.io.savemat,
    "new.mat": save_mat73,
}


def write(folder, name, values=ROWS):
    """A file of one array, or of several by their names."""
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        SAVE[name](path, values if isinstance(values, dict) else {"features": values})
    return path


def reason_of(path, key=None):
    with pytest.raises(BrokenVideoError) as caught:
        read_array(path, key)
    assert str(path) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["clip.npy", *SAVE])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint8", ">f4"])
def test_formats_and_types(name, dtype, tmp_path):
    if name == "clip.mat" and dtype == "float16":
        return  # MATLAB has no such type
    found = read_array(write(tmp_path, name, ROWS.astype(dtype)))
    assert found.dtype == ("float16" if dtype == "float16" else "float32")
    np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize("order", ["C", "F"])
def test_order_in_memory(order, tmp_path):
    np.testing.assert_array_equal(
        read_array(write(tmp_path, "clip.npy", np.asarray(ROWS, order=order))), ROWS
    )


@pytest.mark.parametrize("name", SAVE)
def test_one_of_several(name, tmp_path):
    path = write(tmp_path, name, {"flow": ROWS + 1, "rgb": ROWS})
    np.testing.assert_array_equal(read_array(path, "rgb"), ROWS)
    assert reason_of(path) == "it must hold one array, or `key` name one; its arrays: flow, rgb"
    assert reason_of(path, "audio") == "it has no array `audio`; its arrays: flow, rgb"


def test_groups_of_hdf5(tmp_path):
    save_hdf5(tmp_path / "clip.h5", {"i3d/rgb": ROWS, "i3d/flow": ROWS + 1})
    np.testing.assert_array_equal(read_array(tmp_path / "clip.h5", "i3d/flow"), ROWS + 1)
    assert "its arrays: i3d/flow, i3d/rgb" in reason_of(tmp_path / "clip.h5", "i3d")


@pytest.mark.parametrize("name", ["clip.npy", *SAVE])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 7, 7, 3)), r"has the shape (2, 7, 7, 3): a feature set holds one row for"),
        (np.zeros((2, 3, 4)), "its array must have the shape (T, D), and has (2, 3, 4)"),
        (np.zeros((0, 3)), "its array is empty, of the shape (0, 3)"),
        (np.array([[1.0, 2], [np.nan, 3]]), "1 of its 2 rows, first row 1, hold NaN, infinity"),
        (np.array([[1.0], [-np.inf], [1e39]]), "2 of its 3 rows, first row 1, hold NaN, infin"),
        (np.ones((2, 2), complex), "its array must hold real numbers, and holds "),
        (np.ones((2, 2), bool), "its array must hold real numbers, and holds bool"),
    ],
)
def test_what_is_no_array_of_features(name, values, reason, tmp_path):
    if ".mat" in name and values.dtype == bool:
        return  # MATLAB's are integers
    assert reason in reason_of(write(tmp_path, name, values))


def test_vectors(tmp_path):
    assert reason_of(write(tmp_path, "clip.npy", ROWS[0])).endswith("(T, D), and has (3,)")
    assert reason_of(write(tmp_path, "clip.npy", np.float32(3))).endswith("(T, D), and has ()")
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        file["nothing"] = h5py.Empty("f4")
    assert reason_of(tmp_path / "clip.h5") == "its array is empty"


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["clip.npy", "clip.npz"])
def test_objects_are_not_unpickled(name, tmp_path):
    values = np.array([[Trap(tmp_path / "executed")]], object)
    reason = reason_of(write(tmp_path, name, values))
    assert reason == "it cannot be read (Object arrays cannot be loaded when allow_pickle=False)"
    (tmp_path / f"pickle{name[4:]}").write_bytes(np.zeros(()).dumps())
    assert "load it" not in reason_of(tmp_path / f"pickle{name[4:]}")
    assert not (tmp_path / "executed").exists()


def test_cells_and_structures(tmp_path):
    cells = np.empty(1, object)
    cells[0] = ROWS
    for values in (cells, {"a": ROWS}, "text"):
        scipy.io.savemat(tmp_path / "clip.mat", {"features": values})
        assert "must hold real numbers" in reason_of(tmp_path / "clip.mat")
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        file["features"] = np.array([["a"]], dtype=h5py.string_dtype())
    assert "must hold real numbers" in reason_of(tmp_path / "clip.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["features"] = "a"
    assert "it must hold an array of numbers, and holds" in reason_of(tmp_path / "text.h5")
    scipy.io.savemat(tmp_path / "sparse.mat", {"features": scipy.sparse.eye(3)})
    assert "it must hold an array of numbers, and holds" in reason_of(tmp_path / "sparse.mat")


@pytest.mark.parametrize("suffix", [*ARRAY_SUFFIXES, ".avi"])
@pytest.mark.parametrize("content", [b"", b"this is no array", None])
def test_other_files(suffix, content, tmp_path):
    path = tmp_path / f"clip{suffix}"
    if content is not None:
        path.write_bytes(content)
    expected = "there is no such file" if content is None else "it cannot be read ("
    if suffix == ".avi":
        expected = "it is no file of arrays (.npy, .npz, .h5, .hdf5, .mat)"
    assert reason_of(path).startswith(expected)


def test_an_encrypted_zip(tmp_path):
    path = write(tmp_path, "clip.npz")
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    path.write_bytes(content)
    assert "encrypted" in reason_of(path)


CONTENTS = {}


@pytest.fixture(scope="module", autouse=True)
def _contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for name in ("clip.npy", *SAVE):
        CONTENTS[name] = write(folder, name).read_bytes()
    CONTENTS["folder"] = folder


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["clip.npy", *SAVE]), st.data())
def test_damage_is_told_or_harmless(name, data):
    """Cut off, or with other bytes: an array of finite numbers, or one sentence."""
    content = bytearray(CONTENTS[name])
    del content[data.draw(st.integers(1, len(content))) :]
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = CONTENTS["folder"] / f"damaged-{name}"
    path.write_bytes(content)
    try:
        found = read_array(path)
    except BrokenVideoError as error:
        found, reason = np.zeros((1, 1)), str(error)
    else:
        reason = "none"
    assert found.ndim == 2
    assert np.isfinite(found).all()
    assert reason
    assert "\n" not in reason


@settings(max_examples=30, deadline=None)
@given(
    arrays_of.arrays(
        st.sampled_from(["float32", "float64", "int32", "uint16"]),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        elements=st.integers(0, 1000),
    ),
    st.sampled_from(["clip.npy", *SAVE]),
)
def test_what_was_written_is_read(values, name):
    found = read_array(write(CONTENTS["folder"], name, values))
    np.testing.assert_array_equal(found, values)


def test_a_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "clip.npz", "w") as archive:
        archive.writestr("notes.txt", "text")
        buffer = io.BytesIO()
        np.save(buffer, ROWS)
        archive.writestr("features.npy", buffer.getvalue())
    np.testing.assert_array_equal(read_array(tmp_path / "clip.npz"), ROWS)


def test_files_below_a_folder(tmp_path):
    write_tree(tmp_path, ["b/x.NPY", "a/y.h5", "a/z.txt", ".hidden/w.npy", "a/.v.npy", "u.avi"])
    names = [Path(path).relative_to(tmp_path).as_posix() for path in arrays_below(tmp_path)]
    assert names == ["a/y.h5", "b/x.NPY"]
