"""Arrays of features that another program has written: NumPy's, HDF5's and MATLAB's files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np

from pipelines.lists.listing import visible_files
from pipelines.video.info import BrokenVideoError

ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".mat")


def array_stem(path: str) -> str:
    """Returns the path, or name, of a file of arrays without the suffix that makes it one."""
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in ARRAY_SUFFIXES else path


def is_array_name(name: str) -> bool:
    """Whether a file of that name is one of arrays."""
    return array_stem(name) != name


def arrays_below(folder: str | os.PathLike[str]) -> list[str]:
    """Lists the files of arrays in a folder and those below it, sorted.

    Names that begin with a dot are passed over.
    """
    return sorted(
        os.path.join(base, name)
        for base, names in visible_files(folder)
        for name in names
        if is_array_name(name)
    )


def read_array(path: str | os.PathLike[str], key: str | None = None) -> np.ndarray:
    """Reads the features of one clip from a file of any program.

    Nothing in a file is executed: NumPy's object arrays, which would be unpickled, are refused.

    Args:
        path: `.npy`; or `.npz`, HDF5 (`.h5`, `.hdf5`) or MATLAB (`.mat`, of any version).
        key: name of the array in a file that names its arrays; by default the only one.

    Returns:
        float16 `(T, D)` as it is; other numbers as float32.

    Raises:
        BrokenVideoError: when the file cannot be read, has no such array, or the array has another
            rank, is empty, or holds what is no finite number. The message does not name the file.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in ARRAY_SUFFIXES:
        raise BrokenVideoError(f"it is no file of arrays ({', '.join(ARRAY_SUFFIXES)})")
    if not os.path.isfile(path):
        raise BrokenVideoError("there is no such file")
    try:
        array = _READERS[suffix](path, key)
    except BrokenVideoError:
        raise
    # Damaged files make NumPy, h5py and SciPy raise errors of many kinds, which they do not list.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.partition("\n")[0]
        raise BrokenVideoError(f"it cannot be read ({reason})") from None
    return _checked(array)


def has_names(path: str) -> bool:
    """Whether a file of that name holds arrays under names."""
    return not path.lower().endswith(".npy")


def check_channels(array: np.ndarray, num_channels: int) -> None:
    """Checks that an array's rows are as long as those that a model takes.

    Raises:
        BrokenVideoError: when they are not.
    """
    if array.shape[1] != num_channels:
        raise BrokenVideoError(
            f"its rows have {array.shape[1]} channels, and the model takes {num_channels}"
        )


def _checked(array: object) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise BrokenVideoError(
            f"it must hold an array of numbers, and holds {type(array).__name__}"
        )
    if array.dtype.kind not in "fiu":
        raise BrokenVideoError(f"its array must hold real numbers, and holds {array.dtype}")
    if array.ndim == 4:
        raise BrokenVideoError(
            f"its array has the shape {array.shape}: a feature set holds one row for each step, "
            "(T, D), and no local features (T, h, w, D). Average them over h and w"
        )
    if array.ndim != 2:
        raise BrokenVideoError(f"its array must have the shape (T, D), and has {array.shape}")
    if not array.size:
        raise BrokenVideoError(f"its array is empty, of the shape {array.shape}")
    if array.dtype != np.float16:
        with np.errstate(over="ignore"):  # told as what is not finite
            array = array.astype(np.float32)
    rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if rows.size:
        raise BrokenVideoError(
            f"{rows.size} of its {len(array)} rows, first row {rows[0]}, hold NaN, infinity or "
            "what is too large for 32 bits"
        )
    return array


def _chosen(names: Sequence[str], key: str | None) -> str:
    """The array of a file that names its arrays."""
    listed = ", ".join(sorted(names)) or "none"
    if key is not None and key not in names:
        raise BrokenVideoError(f"it has no array `{key}`; its arrays: {listed}")
    if key is None and len(names) != 1:
        raise BrokenVideoError(f"it must hold one array, or `key` name one; its arrays: {listed}")
    return names[0] if key is None else key


def _read_npy(path: str, key: str | None) -> np.ndarray:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: str, key: str | None) -> np.ndarray:
    # Not by `np.load`, which takes what is no zip for a pickle and advises to load it as one.
    with zipfile.ZipFile(path) as archive:
        names = [name[: -len(".npy")] for name in archive.namelist() if name.endswith(".npy")]
        with archive.open(f"{_chosen(names, key)}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _read_hdf5(path: str, key: str | None) -> np.ndarray:
    with h5py.File(path, "r") as file:
        names: list[str] = []

        def collect(name: str, item: Any) -> None:
            # MATLAB keeps what cells refer to below "#refs#".
            if isinstance(item, h5py.Dataset) and not name.startswith("#"):
                names.append(name)

        file.visititems(collect)
        dataset = file[_chosen(names, key)]
        if dataset.shape is None:
            raise BrokenVideoError("its array is empty")
        return dataset[()]


def _read_mat(path: str, key: str | None) -> np.ndarray:
    if h5py.is_hdf5(path):
        # Version 7.3. MATLAB writes column after column: HDF5 sees (D, T).
        return np.asarray(_read_hdf5(path, key)).T
    from scipy.io import loadmat, whosmat

    name = _chosen([entry[0] for entry in whosmat(path, appendmat=False)], key)
    return loadmat(path, appendmat=False, variable_names=[name])[name]


_READERS: dict[str, Callable[[str, str | None], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".mat": _read_mat,
}
