"""Arrays of another program become a feature set that is read as any other."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import pipelines.features.importing as importing
from pipelines.features.clips import FeatureClipSource
from pipelines.features.feature_index import drop_without_features
from pipelines.features.feature_set import FeatureSet
from pipelines.features.files import read_features, read_info
from pipelines.features.importing import import_features, import_like
from pipelines.lists.annotations import read_csv, read_folder
from pipelines.lists.listing import source_group
from pipelines.lists.official_lists import read_hmdb51
from pipelines.storage.files import write_text
from pipelines.video.index import BrokenVideo

LENGTHS = {"kick/a": 12, "kick/b": 20, "wave/c": 3, "wave/d": 12}


def rows_of(name, num_rows, num_channels=4):
    """A row is (the clip's number, the row's number, 0, ...)."""
    rows = np.zeros((num_rows, num_channels), "float32")
    rows[:, 0] = list(LENGTHS).index(name)
    rows[:, 1] = np.arange(num_rows)
    return rows


@pytest.fixture
def arrays(tmp_path):
    for name, length in LENGTHS.items():
        path = tmp_path / "arrays" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rows_of(name, length))
    return tmp_path / "arrays"


@pytest.fixture
def features(arrays, tmp_path):
    return import_features(arrays, tmp_path / "set", progress=False).folder


def test_files_hold_the_arrays(arrays, tmp_path):
    folder = tmp_path / "set"
    options = {"frame_step": 8, "frames_per_second": 25}
    done = import_features(arrays, folder, **options, progress=False)
    assert done.to_dict() == {
        **{"folder": str(folder), "num_videos": 4, "num_channels": 4, "broken": ()}
    }
    for name, length in LENGTHS.items():
        np.testing.assert_array_equal(read_features(folder / f"{name}.h5"), rows_of(name, length))
        info = read_info(folder / f"{name}.h5")
        info.check("clip", FeatureSet.load(folder))
        assert (info.num_frames, info.frames_per_second) == (8 * length, 25)
        np.testing.assert_allclose(info.seconds, np.arange(length) * 8 / 25)
    described = json.loads((folder / "features.json").read_text())
    unknown = ("network", "layer", "weights", "image_size", "short_side", "fingerprint")
    assert described == {
        **dict.fromkeys(unknown),
        **{"window_frames": 8, "frame_step": 8, "frames_per_second": 25, "num_channels": 4},
        **{"dtype": "float32", "format": "hdf5", "flipped": False},
    }


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float16", "float16"), "float16"),
        (("float16", "float32"), "float32"),
        (("float64", "int16"), "float32"),
    ],
)
def test_types(dtypes, expected, tmp_path):
    (tmp_path / "arrays").mkdir()
    for number, dtype in enumerate(dtypes):
        np.save(tmp_path / "arrays" / f"{number}.npy", np.full((2, 3), 7, dtype))
    import_features(tmp_path / "arrays", tmp_path / "set", progress=False)
    assert FeatureSet.load(tmp_path / "set").dtype == expected
    found = read_features(tmp_path / "set" / "0.h5")
    assert (found.dtype, found.max()) == (expected, 7)


def test_a_chunk_is_consecutive_rows(features):
    """192 frames are 12 rows of 16; a shorter array starts again."""
    records = read_folder(features, file_suffix=".h5").records
    source = FeatureClipSource(records, ["kick", "wave"], [features], num_steps=(12,))
    (clips, labels), *_ = source.dataset().as_numpy_iterator()
    assert labels.tolist() == [0, 0, 1, 1]
    assert clips[..., 0].tolist() == [[number] * 12 for number in range(4)]
    expected = [range(12), range(4, 16), [0, 1, 2] * 4, range(12)]
    assert clips[..., 1].tolist() == [list(rows) for rows in expected]
    assert source.clip_frames() == [16 * length for length in LENGTHS.values()]


class TestLists:
    def test_class_folders(self, features):
        found = read_folder(features, file_suffix=".h5")
        assert found.class_names == ("kick", "wave")
        assert [r.path for r in found.records] == [str(features / f"{n}.h5") for n in LENGTHS]

    @pytest.mark.parametrize("suffix", [".npy", ".avi", ""])
    def test_csv(self, suffix, features, tmp_path):
        write_text(tmp_path / "list.csv", f"kick/a{suffix},x\nwave/d{suffix},y\n")
        found = read_csv(tmp_path / "list.csv", features, file_suffix=".h5")
        assert [r.path for r in found.records] == [
            str(features / f"{name}.h5") for name in ("kick/a", "wave/d")
        ]

    def test_official_lists(self, features, tmp_path):
        write_text(tmp_path / "kick_test_split1.txt", "a.avi 1\nb.avi 2\n")
        write_text(tmp_path / "wave_test_split1.txt", "c.avi 1\nd.avi 2\n")
        split = read_hmdb51(features, tmp_path, file_suffix=".h5")
        assert [r.path for r in split.test] == [
            str(features / f"{name}.h5") for name in ("kick/b", "wave/d")
        ]

    def test_arrays_named_after_their_videos(self, tmp_path):
        (tmp_path / "arrays").mkdir()
        np.savez(tmp_path / "arrays" / "a.avi.npz", rows=np.ones((2, 3)))
        import_features(tmp_path / "arrays", tmp_path / "set", key="rows", progress=False)
        assert (tmp_path / "set" / "a.avi.h5").exists()
        assert FeatureSet.load(tmp_path / "set").layer == "rows"
        for name in ("a.avi", "a.avi.npz"):
            write_text(tmp_path / "list.csv", f"{name},x\n")
            found = read_csv(tmp_path / "list.csv", tmp_path / "set", file_suffix=".h5")
            assert found.records[0].path == str(tmp_path / "set" / "a.avi.h5")

    def test_segments_need_times(self, arrays, features, tmp_path):
        write_text(tmp_path / "list.csv", "kick/b.npy,x,1,3.2\n")
        (record,) = read_csv(tmp_path / "list.csv", features, file_suffix=".h5").records
        with pytest.raises(ValueError, match=r"from 1.0 to 3.2 s cannot be found: .* `frames_per_"):
            drop_without_features([record], [features])
        folder = import_features(arrays, tmp_path / "timed", frames_per_second=16).folder
        (record,) = read_csv(tmp_path / "list.csv", folder, file_suffix=".h5").records
        (kept,), _ = drop_without_features([record], [folder])
        source = FeatureClipSource([kept], "x", [folder], num_steps=(2,), chunk_frames=None)
        assert source.clip_frames() == [36]  # 16 to 51: a row starts each second


def test_a_second_set(features, tmp_path):
    """Of other features of the same videos, in the model's second input."""
    shutil.copytree(tmp_path / "arrays", tmp_path / "others")
    np.save(tmp_path / "others" / "kick" / "b.npy", np.ones((20, 4)))
    other = import_features(tmp_path / "others", tmp_path / "other", progress=False).folder
    records = read_folder(features, file_suffix=".h5").records
    source = FeatureClipSource(records, ["kick", "wave"], [features, other], num_steps=(12, 6))
    ((inputs, attended), _), *_ = source.dataset().as_numpy_iterator()
    assert inputs.shape == (4, 12, 4)
    assert attended.shape == (4, 6, 4)
    assert (attended[1] == 1).all()


def test_broken_arrays_are_left_out_and_named(arrays, tmp_path, caplog):
    np.save(arrays / "kick" / "short.npy", np.ones((2, 3)))
    np.save(arrays / "kick" / "nan.npy", np.full((2, 4), np.nan))
    np.save(arrays / "kick" / "maps.npy", np.ones((2, 7, 7, 4)))
    (arrays / "wave" / "cut.npy").write_bytes((arrays / "wave" / "d.npy").read_bytes()[:-3])
    done = import_features(arrays, tmp_path / "set", progress=False)
    assert done.num_videos == 4
    paths = [str(arrays / name) for name in ("kick/maps", "kick/nan", "kick/short", "wave/cut")]
    assert [one.path for one in done.broken] == [f"{path}.npy" for path in paths]
    assert done.broken[2].reason == "its rows have 3 channels, and those of 4 arrays 4"
    assert f"4 of 8 arrays are broken and have no features:\n  {paths[0]}.npy: its " in caplog.text
    assert not (tmp_path / "set" / "kick" / "nan.h5").exists()
    message = r"4 of 8 arrays are broken .*, more than the 3 allowed by `max_broken`"
    with pytest.raises(ValueError, match=message):
        import_features(arrays, tmp_path / "set", max_broken=3, progress=False)


def test_no_array_that_can_be_used(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "a.npz", rgb=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"None of 1 arrays can be used, first: .*a.npz: it has n"):
        import_features(tmp_path / "arrays", tmp_path / "set", key="flow", progress=False)
    assert not (tmp_path / "set").exists()


def test_changed_arrays_are_imported_again(arrays, features):
    path, target = arrays / "kick" / "a.npy", features / "kick" / "a.h5"
    others = {file: file.stat().st_mtime_ns for file in features.rglob("*.h5") if file != target}
    np.save(path, rows_of("kick/a", 12) + 1)
    later = target.stat().st_mtime + 5
    os.utime(path, (later, later))
    import_features(arrays, features, progress=False)
    np.testing.assert_array_equal(read_features(target), rows_of("kick/a", 12) + 1)
    assert {file: file.stat().st_mtime_ns for file in others} == others

    path.write_bytes(b"no array")
    done = import_features(arrays, features, progress=False)
    assert [one.path for one in done.broken] == [str(path)]
    assert not target.exists()


def test_an_interrupted_import_goes_on(arrays, tmp_path, monkeypatch):
    written = []

    def write(path, *arguments, **options):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_features(path, *arguments, **options)

    write_features = importing.write_features
    monkeypatch.setattr(importing, "write_features", write)
    with pytest.raises(KeyboardInterrupt):
        import_features(arrays, tmp_path / "set", progress=False)
    monkeypatch.undo()
    stamps = [(tmp_path / "set" / "kick" / f"{n}.h5").stat().st_mtime_ns for n in "ab"]
    assert import_features(arrays, tmp_path / "set", progress=False).num_videos == 4
    assert stamps == [(tmp_path / "set" / "kick" / f"{n}.h5").stat().st_mtime_ns for n in "ab"]
    assert (tmp_path / "set" / "wave" / "d.h5").exists()
    with pytest.raises(ValueError, match=r"frame_step: 16 there, 8 here"):
        import_features(arrays, tmp_path / "set", frame_step=8, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_step": 0}, r"`frame_step` must be a positive integer\. Received: frame_step=0"),
        ({"frame_step": True}, r"`frame_step` must be a positive integer\. Received"),
        ({"frames_per_second": 0}, r"`frames_per_second` must be a positive .*Received: .*=0"),
        ({"frames_per_second": float("nan")}, r"`frames_per_second` must be a positive number"),
        ({"key": "rgb"}, r"`key` has no effect on \.npy files, .* Received: key='rgb'"),
    ],
)
def test_arguments_are_checked(options, message, arrays, tmp_path):
    with pytest.raises(ValueError, match=message):
        import_features(arrays, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_folders_are_checked(arrays, features, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"set is a feature set already: train on it\."):
        import_features(features, tmp_path / "again")
    with pytest.raises(ValueError, match=r"`folder` must not lie within `arrays`\. Received"):
        import_features(arrays, arrays / "set")
    np.savez(arrays / "kick" / "a.npz", rows=np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"different names, .* Received: .*a\.npy and .*a\.npz\."):
        import_features(arrays, tmp_path / "again")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There is no array below .*empty\."):
        import_features(tmp_path / "empty", tmp_path / "again")
    with pytest.raises(ValueError, match=r"`arrays` must name at least one array\. Received: an"):
        import_features([], tmp_path / "again")
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(importing.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"need about 0.0 GiB and .*again has 0.0 GiB free"):
        import_features(arrays / "wave", tmp_path / "again", progress=False)


def test_a_few_arrays_for_a_model_of_a_set(arrays, features, tmp_path):
    described = FeatureSet.load(features)
    np.save(tmp_path / "other.npy", np.ones((2, 3)))
    np.save(tmp_path / "half.npy", np.ones((5, 4), "float16"))
    named = [str(arrays / "kick" / "a.npy"), str(tmp_path / "other.npy"), "none.npy"]
    named += [str(tmp_path / "half.npy"), named[0]]
    files, broken = import_like(described, named, tmp_path / "few")
    assert list(files) == [named[0], named[3]]
    np.testing.assert_array_equal(read_features(files[named[0]]), rows_of("kick/a", 12))
    assert [Path(path).name for path in files.values()] == ["a.h5", "half.h5"]
    for path in files.values():
        read_info(path).check(path, FeatureSet.load(tmp_path / "few"))
    assert broken == [
        BrokenVideo(named[1], "its rows have 3 channels, and the model takes 4"),
        BrokenVideo("none.npy", "there is no such file"),
    ]


def test_players_are_groups(data_folder):
    """Every clip of a player is of one group, whatever the stroke."""
    paths = list((data_folder / "thetis_inception").glob("*/*.npy"))
    found = Counter(source_group(path.with_suffix(".h5"), path.parent.name) for path in paths)
    assert found == {f"p{number:02}": 36 for number in range(1, 31)}
