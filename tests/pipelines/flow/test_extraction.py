import json
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import av
import cv2
import numpy as np
import pytest

from pipelines.flow import extraction
from pipelines.flow.extraction import FlowExtraction, extract_flow
from pipelines.flow.optical_flow import compute_flow, dequantize_flow, quantize_flow
from pipelines.lists.listing import videos_below
from pipelines.video.codec.decoding import check_video, iterate_frames, read_frames
from pipelines.video.index import BrokenVideo
from tests.pipelines.flow.test_optical_flow import texture
from tests.pipelines.video_files import write_images, write_video

SETTINGS = {"method": "dis", "short_side": 64, "progress": False}


def write_pan(path, num_frames=5, velocity=3, size=(96, 64)):
    """A video of a picture that moves to the right."""
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = texture(height, width + velocity * num_frames).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            left = velocity * (num_frames - i)
            image = np.ascontiguousarray(picture[:, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_pan(root / "a" / "1.mp4", num_frames=5)
    write_pan(root / "a" / "deep" / "2.avi", num_frames=4, velocity=1)
    write_pan(root / "b" / "3.x.mkv", num_frames=6, velocity=2)
    return str(root)


def extract(videos, folder, **changes):
    return extract_flow(videos, folder, **{**SETTINGS, **changes})


def tree(folder):
    """Every file and when it was written, but the lock, which an old filelock writes anew."""
    files = [(base, name) for base, _, names in os.walk(folder) for name in names]
    paths = [os.path.join(base, name) for base, name in files if name != ".lock"]
    return {os.path.relpath(path, folder): os.stat(path).st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def flow(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    assert extract(videos, folder) == FlowExtraction(folder, 3, "dis", ())
    return folder


def test_the_tree_is_mirrored(videos, flow):
    expected = {"flow.json"}
    for name, count in (("a/1", 4), ("a/deep/2", 3), ("b/3.x", 5)):
        pairs = (f"flow_{axis}_{i:05d}.jpg" for axis in "xy" for i in range(1, count + 1))
        expected |= {f"{name}/{file}" for file in ("video.json", *pairs)}
    assert set(tree(flow)) == expected
    found = json.loads((flow / "flow.json").read_text())
    assert found == {"method": "dis", "bound": 20.0, "short_side": 64, "images": False}


def test_pairs_are_the_motion_to_the_next_frame(videos, flow):
    video = os.path.join(videos, "a", "1.mp4")
    frames = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in iterate_frames(video, 64)]
    for number in (1, 4):
        expected = quantize_flow(compute_flow(frames[number - 1], frames[number], "dis"))
        for axis, name in enumerate("xy"):
            path = flow / "a" / "1" / f"flow_{name}_{number:05d}.jpg"
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            np.testing.assert_allclose(image, expected[..., axis].astype(int), atol=6)
            motion = dequantize_flow(image)[8:-8, 8:-8].mean()
            assert motion == pytest.approx(3 if name == "x" else 0, abs=0.2)


@pytest.mark.parametrize("method", ["tvl1", "dis", "farneback"])
def test_each_method_from_a_video_to_images(tmp_path, method):
    write_pan(tmp_path / "videos" / "v.mp4", num_frames=2)
    extract(str(tmp_path / "videos"), tmp_path / "flow", method=method)
    errors = []
    for name, motion in (("x", 3), ("y", 0)):
        path = tmp_path / "flow" / "v" / f"flow_{name}_00001.jpg"
        errors.append(dequantize_flow(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) - motion)
    assert np.linalg.norm(errors, axis=0)[4:-4, 4:-4].mean() < 0.2


def test_folders_know_the_times_of_their_frames(videos, flow):
    for name in ("a/1.mp4", "b/3.x.mkv"):
        info = check_video(os.path.join(videos, name))
        found = check_video(str(flow / os.path.splitext(name)[0]), "flow")
        assert found.num_frames == info.num_frames
        np.testing.assert_array_equal(found.frame_seconds(), info.frame_seconds())
        assert found.segment(0.1, 0.3) == info.segment(0.1, 0.3)


def test_frames_too(videos, tmp_path):
    extract(videos, tmp_path, images=True, short_side=32)
    video, folder = os.path.join(videos, "a", "1.mp4"), str(tmp_path / "a" / "1")
    assert check_video(folder).num_frames == 5 == check_video(folder, "flow").num_frames
    expected = list(iterate_frames(video, 32))
    np.testing.assert_allclose(read_frames(folder, range(5)), np.stack(expected), atol=12)


def test_frame_folders_are_videos_too(videos, flow, tmp_path):
    video = os.path.join(videos, "a", "1.mp4")
    write_images(tmp_path / "frames" / "1", list(iterate_frames(video, 64)))
    extract(str(tmp_path / "frames"), tmp_path / "flow")
    for name in ("flow_x_00001.jpg", "flow_y_00004.jpg"):
        expected = (flow / "a" / "1" / name).read_bytes()
        assert (tmp_path / "flow" / "1" / name).read_bytes() == expected


def test_workers_do_not_matter(videos, flow, tmp_path):
    extract(videos, tmp_path, num_workers=3)
    for name in tree(flow):
        assert (tmp_path / name).read_bytes() == (flow / name).read_bytes()


def test_finished_videos_are_kept(videos, flow, tmp_path):
    folder = shutil.copytree(flow, tmp_path / "flow")
    before = tree(folder)
    shutil.rmtree(folder / "b")
    assert extract(videos, folder).num_videos == 3
    after = tree(folder)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {
        name for name in after if name.startswith("b/")
    }


KILLED = """
import sys
from pipelines.flow.extraction import extract_flow
extract_flow(sys.argv[1], sys.argv[2], method="tvl1", num_workers=1, progress=False)
"""


def test_a_killed_extraction_goes_on(tmp_path):
    root, folder = tmp_path / "videos", tmp_path / "flow"
    write_pan(root / "1.mp4", num_frames=3, size=(32, 32))
    write_pan(root / "2.mp4", num_frames=500)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root), str(folder)])
    deadline = time.monotonic() + 60
    while not list(folder.glob(".partial-*/2/flow_y_00002.jpg")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = tree(folder / "1")
    assert len(list(folder.glob(".partial-*"))) == 1
    assert not (folder / "2").exists()
    assert videos_below(str(folder)) == [str(folder / "1")]
    write_pan(root / "2.mp4", num_frames=3, size=(32, 32))
    extract_flow(str(root), str(folder), progress=False)
    assert sorted(os.listdir(folder)) == [".lock", "1", "2", "flow.json"]
    assert tree(folder / "1") == kept
    assert check_video(str(folder / "2"), "flow").num_frames == 3


def test_an_error_stops_the_other_videos(videos, tmp_path, monkeypatch):
    write = extraction._write_image

    def full_disk(folder, name, image):
        if folder.name == "1" and name == "flow_y_00002":
            raise OSError(28, "No space left on device")
        write(folder, name, image)

    monkeypatch.setattr(extraction, "_write_image", full_disk)
    message = r"The flow of .*1.mp4 cannot be written to .*1: No space left on device\."
    with pytest.raises(OSError, match=message):
        extract(videos, tmp_path, num_workers=1)
    assert set(tree(tmp_path)) == {"flow.json"}


def test_an_interrupt_ends_within_a_frame(tmp_path, monkeypatch):
    write_pan(tmp_path / "videos" / "long.mp4", num_frames=500)
    write_pan(tmp_path / "videos" / "other.mp4", num_frames=2)
    interrupted = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(extraction, "as_completed", interrupted)
    written = []
    write = extraction._write_image
    monkeypatch.setattr(
        extraction, "_write_image", lambda *args: written.append(args) or write(*args)
    )
    with pytest.raises(KeyboardInterrupt):
        extract(str(tmp_path / "videos"), tmp_path / "flow", num_workers=1)
    # Of 998 images. A busy machine lets the main thread wait.
    assert len(written) < 600
    assert sorted(os.listdir(tmp_path / "flow")) == [".lock", "flow.json"]


def test_broken_videos_are_named(tmp_path, caplog):
    root = tmp_path / "videos"
    write_pan(root / "good.mp4", num_frames=2)
    (root / "bad.mp4").write_bytes(b"no video")
    write_video(root / "one.mp4", 1)
    done = extract(str(root), tmp_path / "flow")
    (message,) = caplog.messages
    assert message.startswith("2 of 3 videos are broken and have no optical flow:\n  ")
    assert done.to_dict()["num_videos"] == 1
    assert {video["path"] for video in done.to_dict()["broken"]} == {v.path for v in done.broken}
    assert sorted(done.broken, key=lambda video: video.path) == [
        BrokenVideo(str(root / "bad.mp4"), "Invalid data found when processing input"),
        BrokenVideo(str(root / "one.mp4"), "it has one frame; optical flow needs two"),
    ]
    assert sorted(os.listdir(tmp_path / "flow")) == [".lock", "flow.json", "good"]
    message = r"2 of 3 videos are broken and have no optical flow, more than the 1 allowed by `max"
    with pytest.raises(ValueError, match=message):
        extract(str(root), tmp_path / "flow", max_broken=1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"method": "tvl1", "bound": 10},
            r"holds optical flow with other settings and is left as it is \(method: 'dis' there, "
            r"'tvl1' here; bound: 20\.0 there, 10\.0 here\)\. Choose another folder",
        ),
        ({"short_side": 32}, r"\(short_side: 64 there, 32 here\)"),
        ({"images": True}, r"\(images: False there, True here\)"),
        ({"bound": 0}, r"`bound` must be positive. Received: bound=0"),
        ({"short_side": 0}, r"`short_side` must be a positive integer. Received: short_side=0"),
        ({"num_workers": -1}, r"`num_workers` must be a positive integer. .*num_workers=-1"),
        ({"method": "raft"}, r"`method` must be one of .*Received: 'raft'"),
    ],
)
def test_arguments_are_checked(videos, flow, changes, error):
    before = tree(flow)
    with pytest.raises(ValueError, match=error):
        extract(videos, flow, **changes)
    assert tree(flow) == before


def test_foreign_files_are_left_alone(videos, flow, tmp_path):
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"does not hold optical flow: .*, but a\. Choose"):
        extract(videos, tmp_path)
    shutil.copy(flow / "flow.json", tmp_path)
    with pytest.raises(ValueError, match=r"a/1 is there and is no finished flow. Remove it or"):
        extract(videos, tmp_path)
    assert (tmp_path / "a" / "1" / "mine.txt").read_text() == "mine"
    (tmp_path / "flow.json").write_text("{}")
    with pytest.raises(ValueError, match=r"flow.json' does not describe optical flow \(.*\)\. C"):
        extract(videos, tmp_path)


def test_folders_are_checked(videos, tmp_path):
    for folder in (videos, os.path.join(videos, "flow")):
        with pytest.raises(ValueError, match=r"`folder` must lie outside of the videos' folder"):
            extract(videos, folder)
    assert "flow.json" not in tree(videos)
    with pytest.raises(ValueError, match=r"Every video must lie below .*a\. Received: .*3.x.mkv"):
        extract(videos, tmp_path, root=os.path.join(videos, "a"))
    twins = [os.path.join(videos, "a", name) for name in ("1.mp4", "1.avi")]
    with pytest.raises(ValueError, match=r"The flow of .*1.mp4 and of .*1.avi would have the same"):
        extract(twins, tmp_path)


def test_unwritable_folder(videos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        extract(videos, tmp_path / "file" / "flow")
