"""Videos that play in real time, watched."""

import itertools
import os
import time
from contextlib import closing

import numpy as np
import pytest
import tensorflow as tf

from pipelines.video.codec.decoding import check_video, read_frames
from pipelines.video.codec.encoding import write_video
from pipelines.video.codec.live import LiveFrames
from pipelines.video.codec.streaming import WindowStream
from pipelines.video.info import BrokenVideoError
from tests.helpers import normal, tiny_backbone
from tfvlad.live import watch
from tfvlad.models import ClipModel, average_pooling, ta_vlad, with_num_frames

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

NAMES = ("green", "red", "blue")
RATE = 10


def clip_model(build, **options):
    model = build(tiny_backbone(), 3, num_frames=4, **options)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([20 * normal(*kernel.shape), bias])
    return ClipModel(model, NAMES, short_side=36)


@pytest.fixture(scope="module")
def model():
    return clip_model(average_pooling)


@pytest.fixture(scope="module")
def recurrent():
    return clip_model(ta_vlad, num_clusters=4, units=5, alpha=5.0)


def noise(path, num_frames):
    generator = np.random.default_rng(0)
    images = (generator.integers(0, 256, (64, 64, 3)) for _ in range(num_frames))
    write_video(path, (image.astype("uint8") for image in images), RATE)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """1.5 seconds at 10 frames a second."""
    return noise(tmp_path_factory.mktemp("videos") / "noise.mp4", 15)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """30 seconds."""
    return noise(tmp_path_factory.mktemp("videos") / "long.mp4", 300)


def test_follows_a_video_in_real_time(recurrent, video):
    start = time.monotonic()
    moments = list(watch(recurrent, video, frames_per_second=RATE))
    assert time.monotonic() - start > 1.4
    # A busy machine drops some of the frames.
    exact = RATE * np.array([moment.seconds for moment in moments])
    np.testing.assert_allclose(exact, exact.round(), atol=1e-6)
    seen = exact.round().astype(int)
    last = moments[-1]
    assert len(seen) + last.num_dropped == 15
    stream = WindowStream(str(video), frame_step=1, image_size=32, short_side=36, batch_windows=15)
    frames = next(stream).windows[seen, 0]
    np.testing.assert_array_equal([moment.frame for moment in moments], frames)
    whole = with_num_frames(recurrent.model, len(seen))(frames[np.newaxis].astype("float32"))
    np.testing.assert_allclose(last.probabilities, tf.nn.softmax(whole)[0], atol=2e-3)
    assert last.class_names == NAMES
    assert last.attention.shape == (4, 4)
    assert 0 < last.frames_per_second < 2 * RATE


def test_no_more_frames_than_wanted(model, video):
    moments = watch(model, str(video), frames_per_second=RATE / 2)
    times = {round(RATE * moment.seconds) for moment in moments}
    assert times <= set(range(0, 15, 2))


def test_seconds_end_it(model, video):
    moments = list(watch(model, video, frames_per_second=RATE, seconds=0.5))
    assert moments[-1].seconds < 0.5


def test_frames_that_were_opened(model, video):
    with LiveFrames(str(video)) as frames:
        moments = watch(model, frames, frames_per_second=RATE, seconds=0.15)
        assert next(moments).frame.shape == (32, 32, 3)
    with pytest.raises(StopIteration):
        next(moments)


@pytest.mark.parametrize("name", ["model", "recurrent"])
def test_writes_what_was_seen(name, video, tmp_path, request):
    path = tmp_path / "seen.mp4"
    whole = watch(request.getfixturevalue(name), video, frames_per_second=RATE, output=path)
    for _ in whole:
        assert not path.exists()
    info = check_video(str(path))
    # A dropped frame repeats the one before it: the times stay.
    assert info.num_frames == 15
    assert info.frames_per_second == pytest.approx(RATE)
    assert (info.width, info.height) == (448, 448)
    band = read_frames(str(path), [14])[0][:40]
    assert (band < 40).mean() > 0.5  # black
    assert (band > 200).mean() > 0.02  # with words
    assert os.listdir(tmp_path) == ["seen.mp4"]


class TestEnd:
    """Whatever ends it, the file is finished."""

    def test_stop(self, model, long_video, tmp_path):
        moments = watch(model, long_video, frames_per_second=RATE, output=tmp_path / "seen.mp4")
        count = 0
        for count, _ in enumerate(moments, 1):
            if count == 3:
                moments.stop()
        assert count == 3
        assert 3 <= check_video(str(tmp_path / "seen.mp4")).num_frames < 100

    def test_close(self, model, long_video, tmp_path):
        path = tmp_path / "seen.mp4"
        with closing(watch(model, long_video, frames_per_second=RATE, output=path)) as moments:
            next(moments)
            next(moments)
        assert 2 <= check_video(str(path)).num_frames < 100
        with pytest.raises(StopIteration):
            next(moments)
        assert moments._frames._stopped.is_set()

    def test_the_loop_is_left(self, model, long_video, tmp_path):
        path = tmp_path / "seen.mp4"
        for _ in itertools.islice(watch(model, long_video, frames_per_second=9, output=path), 2):
            pass
        assert 2 <= check_video(str(path)).num_frames < 100

    def test_an_error_in_the_block(self, model, long_video, tmp_path):
        path = tmp_path / "seen.mp4"

        def interrupted():
            with watch(model, long_video, frames_per_second=RATE, output=path) as moments:
                next(moments)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert check_video(str(path)).num_frames == 1

    def test_before_the_first_frame(self, model, long_video, tmp_path):
        moments = watch(model, long_video, frames_per_second=RATE, output=tmp_path / "seen.mp4")
        moments.close()
        assert os.listdir(tmp_path) == []

    def test_a_video_that_breaks(self, model, tmp_path):
        import av

        whole = tmp_path / "whole.mp4"
        with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for i in range(30):
                image = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype("uint8")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        path = tmp_path / "half.mp4"
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        output = tmp_path / "seen.mp4"
        moments = watch(model, path, frames_per_second=RATE, output=output)
        seen = []
        with pytest.raises(BrokenVideoError, match=f"^{path}: "):
            seen.extend(moments)
        assert check_video(str(output)).num_frames > 5


class TestErrors:
    @pytest.mark.parametrize("name", ["frames_per_second", "seconds"])
    def test_positive_numbers(self, name, model, video):
        options = {"frames_per_second": RATE, name: 0}
        with pytest.raises(ValueError, match=rf"`{name}` must be positive. Received: {name}=0\."):
            watch(model, video, **options)

    def test_output(self, model, video, tmp_path):
        path = tmp_path / "seen.mp4"
        path.write_text("mine")
        sentence = r"seen.mp4' exists and is left as it is. Choose another `output`\."
        with pytest.raises(ValueError, match=sentence):
            watch(model, video, frames_per_second=RATE, output=path)
        assert path.read_text() == "mine"
        with pytest.raises(ValueError, match=r"`output` must lie in an existing folder\."):
            watch(model, video, frames_per_second=RATE, output=tmp_path / "none" / "seen.mp4")

    def test_source(self, model, tmp_path):
        path = tmp_path / "none.mp4"
        with pytest.raises(BrokenVideoError, match=r"none\.mp4: No such file or directory"):
            watch(model, path, frames_per_second=RATE)
        with pytest.raises(BrokenVideoError, match=r"^99: "):
            watch(model, 99, frames_per_second=RATE)

    def test_the_source_is_closed_where_the_model_does_not_suit(self, recurrent, video):
        frames = LiveFrames(str(video))
        with pytest.raises(ValueError, match="forgets by itself"):
            watch(recurrent, frames, frames_per_second=RATE, memory_seconds=1)
        assert frames._stopped.is_set()
