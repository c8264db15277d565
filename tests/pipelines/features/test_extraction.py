import json
import os
import re
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.clips.sampling import dense_windows
from pipelines.features import extraction
from pipelines.features.clips import FeatureClipSource
from pipelines.features.extraction import FeatureExtraction, extract_features
from pipelines.features.feature_set import FeatureSet
from pipelines.features.files import read_features, read_info
from pipelines.lists.annotations import read_folder
from pipelines.storage.process_lock import InUseError
from pipelines.video.codec.decoding import check_video
from pipelines.video.codec.streaming import WindowStream
from tests.pipelines.storage.other_process import held_elsewhere
from tests.pipelines.video_files import write_video

DESCRIPTION = {"network": "corners", "layer": "mean", "weights": None, "fingerprint": "abc"}
SETTINGS = {
    "description": DESCRIPTION,
    "frame_step": 4,
    "image_size": 16,
    "short_side": 24,
    "batch_windows": 3,
    "progress": False,
}


def corners(windows):
    """Features: means of the left and of the right half, over the frames of a window."""
    left, right = np.split(windows.astype(np.float32), 2, axis=-2)
    return np.stack([half.reshape(len(half), -1).mean(-1) for half in (left, right)], axis=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(["a/x.mp4", "a/y.mp4", "b/z.mkv"]):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / name, 5 + 9 * i)
    return str(folder)


def extract(root, folder, network=corners, videos=("a/x.mp4", "a/y.mp4", "b/z.mkv"), **changes):
    paths = [os.path.join(root, video) for video in videos]
    return extract_features(paths, folder, network, root=root, **{**SETTINGS, **changes})


@pytest.mark.parametrize("window_frames", [1, 3])
@pytest.mark.parametrize(
    ("file_format", "dtype"), [("hdf5", "float32"), ("hdf5", "float16"), ("tfrecord", "float32")]
)
def test_files_hold_the_networks_outputs(root, tmp_path, window_frames, file_format, dtype):
    options = {"window_frames": window_frames, "file_format": file_format, "dtype": dtype}
    assert extract(root, tmp_path, flipped=True, **options) == FeatureExtraction(tmp_path, 3, 2, ())
    feature_set = FeatureSet.load(str(tmp_path))
    assert (feature_set.num_channels, feature_set.image_size) == (2, (16, 16))
    video = os.path.join(root, "b/z.mkv")
    path = str(tmp_path / "b" / "z.mkv") + feature_set.file_suffix
    info, video_info = read_info(path), check_video(video)
    info.check(path, feature_set)
    assert info.num_frames == video_info.num_frames == 23
    assert info.frames_per_second == pytest.approx(video_info.frames_per_second)
    starts = dense_windows(23, window_frames, 4, "repeat_last")[:, 0]
    np.testing.assert_allclose(info.seconds, video_info.frame_seconds()[starts], atol=1e-6)
    stream = WindowStream(
        video, frame_step=4, window_frames=window_frames, image_size=16, short_side=24
    )
    windows = np.concatenate([batch.windows for batch in stream])
    np.testing.assert_array_equal(read_features(path), corners(windows).astype(dtype))
    mirrored = corners(windows[..., ::-1, :]).astype(dtype)
    np.testing.assert_array_equal(read_features(path, flipped=True), mirrored)


def test_extracted_features_are_a_source_of_clips(root, tmp_path):
    extract(root, tmp_path)
    annotations = read_folder(str(tmp_path), file_suffix=".h5")
    source = FeatureClipSource(
        annotations.records, annotations.class_names, [str(tmp_path)], chunk_frames=None
    )
    inputs, labels = next(source.dataset().as_numpy_iterator())
    assert inputs.shape == (3, 12, 2)
    assert labels.tolist() == [0, 0, 1]


def test_files_grow_batch_by_batch(root, tmp_path):
    sizes = []

    def network(windows):
        sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("z.mkv.h5")))
        return np.zeros((len(windows), 100_000), np.float32)

    extract(root, tmp_path, network, videos=["b/z.mkv"], frame_step=2)
    # The look at the output's shape; batches of 3 windows, and chunks are written whole.
    assert len(sizes) == 1 + 4
    grown = np.diff(sizes)
    assert (grown[1:] >= 3 * 400_000).all()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["z.mkv.h5"]


def test_a_video_that_breaks_leaves_no_file(tmp_path):
    path = write_video(tmp_path / "v.mkv", 40, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(path) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    with open(path, "r+b") as file:
        file.seek(positions[30] + 20)
        file.write(bytes(2000))
    calls = []
    (broken,) = extract(
        tmp_path,
        tmp_path / "out",
        lambda windows: calls.append(len(windows)) or corners(windows),
        videos=["v.mkv"],
        max_broken=1,
    ).broken
    assert "Invalid data" in broken.reason
    assert sum(calls) == 1 + 8
    assert sorted(os.listdir(tmp_path / "out")) == [".lock", "features.json"]


def test_a_video_too_long_for_a_tfrecord_is_refused_before_the_work(root, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "estimate_num_frames", lambda _: 2**28)
    error = r"must fit into a TFRecord example of 2 GB. Received: .*x.mp4 with 67108864 rows of 2 "
    with pytest.raises(ValueError, match=error):
        extract(root, tmp_path, file_format="tfrecord")


def test_the_network_gets_batches_of_its_shape(root, tmp_path):
    shapes = []

    def network(windows):
        shapes.append(windows.shape)
        return corners(windows)

    extract(root, tmp_path / "1", network, image_size=(12, 16))
    assert {shape[1:] for shape in shapes} == {(12, 16, 3)}
    assert max(shape[0] for shape in shapes) == 3
    shapes.clear()
    extract(root, tmp_path / "2", network, window_frames=5)
    assert {shape[1:] for shape in shapes} == {(5, 16, 16, 3)}


def test_an_interrupted_extraction_goes_on(root, tmp_path):
    calls = []

    def failing(windows):
        calls.append(len(windows))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return corners(windows)

    with pytest.raises(KeyboardInterrupt):
        extract(root, tmp_path, failing)
    finished = list(tmp_path.rglob("*.h5"))
    assert 0 < len(finished) < 3
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    calls.clear()
    extract(root, tmp_path, lambda windows: calls.append(len(windows)) or corners(windows))
    assert len(list(tmp_path.rglob("*.h5"))) == 3
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps
    calls.clear()
    extract(root, tmp_path, lambda windows: calls.append(len(windows)) or corners(windows))
    assert calls == [1]  # only the look at the output's shape


def test_the_weights_may_have_moved(root, tmp_path):
    extract(root, tmp_path, videos=["a/x.mp4"])
    extract(root, tmp_path, description={**DESCRIPTION, "weights": "elsewhere.h5"})
    assert len(list(tmp_path.rglob("*.h5"))) == 3
    assert FeatureSet.load(str(tmp_path)).weights == "elsewhere.h5"  # where they are now


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"frame_step": 5, "flipped": True},
            r"holds features with other settings and is left as it is "
            r"\(frame_step: 4 there, 5 here; flipped: False there, True here\)\. Choose",
        ),
        (
            {"description": {**DESCRIPTION, "fingerprint": "x"}},
            r"\(fingerprint: 'abc' there, 'x' here\)",
        ),
    ],
)
def test_other_settings_are_refused(root, tmp_path, changes, error):
    extract(root, tmp_path, videos=["a/x.mp4"])
    with pytest.raises(ValueError, match=error):
        extract(root, tmp_path, **changes)


def test_a_folder_of_other_things_is_refused(root, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"does not hold features: .* but thesis\.txt\. Choose a"):
        extract(root, tmp_path)
    (tmp_path / "features.json").write_text('{"network": "x"}')
    with pytest.raises(ValueError, match=r"features\.json' does not describe features \('layer'\)"):
        extract(root, tmp_path)


def test_one_process_at_a_time(root, tmp_path):
    with (
        held_elsewhere(tmp_path / ".lock") as other,
        pytest.raises(InUseError, match=f"is in use by process {other.pid} on "),
    ):
        extract(root, tmp_path)
    assert not list(tmp_path.rglob("*.h5"))


def test_what_a_kill_left_is_removed(root, tmp_path):
    extract(root, tmp_path, videos=["a/x.mp4"])
    (tmp_path / "b" / ".partial-abc").mkdir(parents=True)
    extract(root, tmp_path)
    assert os.listdir(tmp_path / "b") == ["z.mkv.h5"]


def test_broken_videos_are_left_out_and_named(root, tmp_path, caplog):
    shutil.copytree(root, tmp_path / "videos")
    (tmp_path / "videos" / "a" / "broken.mp4").touch()
    names = ["a/broken.mp4", "a/x.mp4"]
    done = extract(tmp_path / "videos", tmp_path / "out", videos=names)
    (message,) = caplog.messages
    assert re.match(
        r"1 of 2 videos are broken and have no features:\n  .*broken.mp4: .*Invalid", message
    )
    (broken,) = done.broken
    assert json.loads(json.dumps(done.to_dict())) == {
        "folder": str(tmp_path / "out"),
        "num_videos": 1,
        "num_channels": 2,
        "broken": [{"path": broken.path, "reason": broken.reason}],
    }
    assert broken.path == str(tmp_path / "videos" / "a" / "broken.mp4")
    assert [path.name for path in (tmp_path / "out" / "a").iterdir()] == ["x.mp4.h5"]
    message = r"1 of 2 videos are broken and have no features, more than the 0 allowed by `max_br"
    with pytest.raises(ValueError, match=message):
        extract(tmp_path / "videos", tmp_path / "out", videos=names, max_broken=0)
    with pytest.raises(ValueError, match=r"1 of 1 videos are broken .* the 0 allowed"):
        extract(tmp_path / "videos", tmp_path / "out", videos=names[:1])


def test_a_full_disk_is_told_before_the_work(root, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(80))
    # Rows: 2, 4 and 6, of 2 channels in 4 bytes each.
    with pytest.raises(
        OSError, match=r"need about 0.0 GiB and .* has 0.0 GiB free. Choose another"
    ):
        extract(root, tmp_path)
    assert not list(tmp_path.rglob("*.h5"))
    extract(root, tmp_path / "half", dtype="float16")


def test_arguments_are_checked(root, tmp_path):
    with pytest.raises(ValueError, match=r"`network` must return \(1, D\) .* Received: \(1, 16, 1"):
        extract(root, tmp_path, lambda windows: windows)
    with pytest.raises(
        ValueError, match=r"must name network, layer, weights and .*Received: layer"
    ):
        extract(root, tmp_path, description={"layer": "x"})
    with pytest.raises(ValueError, match=r"does not agree .* num_channels is 2. Received: .*=3"):
        extract(root, tmp_path, description={**DESCRIPTION, "num_channels": 3})
    with pytest.raises(ValueError, match=r"Every video must lie below .*/a. Received: .*z.mkv"):
        extract(os.path.join(root, "a"), tmp_path, videos=["../b/z.mkv"])
    with pytest.raises(ValueError, match=r"`videos` must be different files. Received: .* twice"):
        extract(root, tmp_path, videos=["a/x.mp4", "a/x.mp4"])
    with pytest.raises(ValueError, match=r"`dtype` must be one of float32, float16"):
        extract(root, tmp_path, dtype="int8")
    with pytest.raises(ValueError, match=r"`batch_windows` must be a positive integer"):
        extract(root, tmp_path, batch_windows=0)
    extract(root, tmp_path, description={**DESCRIPTION, "num_channels": 2, "image_size": [16, 16]})


def test_progress_is_shown(root, tmp_path, caplog):
    caplog.set_level("INFO", "pipelines")
    extract(root, tmp_path / "a", progress=True)
    assert caplog.messages[-1].startswith("Videos: 3/3 after ")
    caplog.clear()
    extract(root, tmp_path / "a", progress=True)  # nothing to do
    extract(root, tmp_path / "b")
    assert caplog.messages == []


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_of_videos(root, tmp_path, kind):
    extract_features(kind(root), kind(tmp_path), corners, **SETTINGS)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.h5")}
    assert found == {"a/x.mp4.h5", "a/y.mp4.h5", "b/z.mkv.h5"}
