"""Highlights of several videos: what is looked at before the long work, and what is written."""

import json
import re

import av
import numpy as np
import pytest

from pipelines.video.index import BrokenVideo
from tests.tfvlad.highlights.test_finding import brightness, example_model
from tfvlad.highlights import VideoHighlights
from tfvlad.highlights.several_videos import highlight_videos, video_folders


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A whole video, the first half of one that tells its frames at its beginning, and a text."""
    place = tmp_path_factory.mktemp("videos")
    paths = [place / name for name in ("whole.mp4", "half.mp4", "text.mp4")]
    with av.open(str(paths[0]), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(20):
            image = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype("uint8")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    paths[1].write_bytes(paths[0].read_bytes()[: paths[0].stat().st_size // 2])
    paths[2].write_text("this is no video")
    return [str(path) for path in paths]


def test_what_cannot_be_opened_is_told_first(videos, tmp_path):
    folders = video_folders(videos, tmp_path / "out")
    assert [*folders] == videos
    names = [folder.relative_to(tmp_path / "out").as_posix() for folder in folders.values()]
    assert names == ["whole", "half", "text"]
    found = highlight_videos(example_model(brightness), folders, threshold=0, clip=True)
    folder, text = next(found)
    assert folder.name == "text"
    assert text == BrokenVideo(videos[2], text.reason)
    assert text.reason
    assert videos[2] not in text.reason
    assert not (tmp_path / "out").exists()
    (folder, whole), (_, half) = found
    assert isinstance(whole, VideoHighlights)
    written = json.loads((folder / "highlights.json").read_text())
    assert written == json.loads(json.dumps(whole.to_dict()))
    assert (folder / "highlight.mp4").exists()
    assert half == BrokenVideo(videos[1], half.reason)
    assert half.reason.startswith("decoding fails after")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_no_clip_of_no_moment(videos, tmp_path):
    folders = video_folders(videos[:1], tmp_path)
    ((folder, found),) = highlight_videos(
        example_model(brightness), folders, class_name="class 0", threshold=99, clip=True
    )
    assert (found.class_name, found.moments) == ("class 0", ())
    assert not (folder / "highlight.mp4").exists()


def test_folders(videos, tmp_path):
    message = f"{videos[0]} and other/whole.avi would both write to {tmp_path / 'whole'}."
    with pytest.raises(ValueError, match=re.escape(message)):
        video_folders([videos[0], "other/whole.avi"], tmp_path)
    assert len(video_folders([videos[0], videos[0]], tmp_path)) == 1
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"half' is not empty and is left as it is"):
        video_folders(videos, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": "blue"}, r"`class_name` must be one of class 0, class 1\."),
        ({"threshold": -1}, r"`threshold` must not be negative\."),
        ({"max_seconds": 3}, r"`max_seconds` has no effect without `clip`\. .*max_seconds=3\."),
        ({"clip": True, "max_seconds": 0}, r"`max_seconds` must be positive\."),
    ],
)
def test_mistakes(videos, tmp_path, options, message):
    folders = video_folders(videos, tmp_path)
    with pytest.raises(ValueError, match=message):
        next(highlight_videos(example_model(brightness), folders, **options))
