"""Live videos, watched with small runs."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.video.codec.encoding import write_video
from pipelines.video.codec.live import LiveFrames
from pipelines.video.codec.streaming import WindowStream
from tests.tfvlad.runs.run_folders import CLASSES, NUM_FRAMES, SIZE, make_feature_run, make_run
from tfvlad import models
from tfvlad.runs import Run

pytestmark = [pytest.mark.usefixtures("eagerly", "small_networks"), pytest.mark.current]

RATE = 10


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """1.5 seconds at 10 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    images = np.random.default_rng(0).integers(0, 256, (15, 64, 64, 3))
    write_video(path, images.astype("uint8"), RATE)
    return path


def every_frame(path):
    """The source waits for the model, however busy the machine is."""
    return LiveFrames(str(path), real_time=False)


def numbers(moments):
    """Of the frames that were looked at."""
    exact = RATE * np.array([moment.seconds for moment in moments])
    np.testing.assert_allclose(exact, exact.round(), atol=1e-6)
    return exact.round().astype(int)


def frames_of(video, short_side):
    stream = WindowStream(
        str(video), frame_step=1, image_size=SIZE, short_side=short_side, batch_windows=15
    )
    return next(stream).windows[:, 0].astype("float32")


def test_a_run_on_videos(video, tmp_path):
    model = make_run(tmp_path, "ta-vlad", options={"units": 8, "alpha": 20.0})
    moments = list(Run(tmp_path).watch(every_frame(video)))
    # The training clips are 10 frames of 25 a second, of which the model sees 4: 10 a second.
    assert numbers(moments).tolist() == [*range(15)]
    seen = frames_of(video, 40)[numbers(moments)]
    scores = models.with_num_frames(model, len(seen))(seen[np.newaxis])
    np.testing.assert_allclose(moments[-1].probabilities, tf.nn.softmax(scores)[0], atol=2e-3)
    assert moments[-1].class_names == tuple(CLASSES)


def test_a_run_on_features(video, tmp_path):
    model, extractor = make_feature_run(tmp_path)
    moments = list(Run(tmp_path).watch(every_frame(video)))
    # 4 steps in chunks of 20 frames: 5 a second.
    assert numbers(moments).tolist() == [*range(0, 15, 2)]
    seen = frames_of(video, round(SIZE * 256 / 224))[numbers(moments)[-NUM_FRAMES:]]
    whole = models.end_to_end(model, extractor, extractor, num_frames=NUM_FRAMES)
    scores = whole(seen[np.newaxis])
    np.testing.assert_allclose(moments[-1].probabilities, tf.nn.softmax(scores)[0], atol=2e-3)


def test_consecutive_frames_are_watched_at_their_rate(video, tmp_path):
    make_run(tmp_path, "average-pooling", sampling="chunk", clip_frames=None)
    with Run(tmp_path).watch(video) as moments:
        assert moments._frames.frames_per_second == 25


def test_options(video, tmp_path):
    make_run(tmp_path / "run", "average-pooling")
    output = tmp_path / "seen.mp4"
    options = {"frames_per_second": 5, "memory_seconds": 0.4, "seconds": 0.3, "output": output}
    moments = list(Run(tmp_path / "run").watch(every_frame(video), **options))
    assert numbers(moments).tolist() == [0, 2]
    assert output.exists()


def test_runs_that_cannot_be_watched(video, tmp_path):
    make_run(tmp_path / "old", "ta-vlad", clip_frames=None, options={"units": 4})
    sentence = r"does not say how long its training clips are. Give `frames_per_second`\."
    with pytest.raises(ValueError, match=sentence):
        Run(tmp_path / "old").watch(video)
    with pytest.raises(ValueError, match=r"`memory_seconds` .* 'ta_vlad' forgets by itself"):
        Run(tmp_path / "old").watch(video, frames_per_second=5, memory_seconds=1)
    with pytest.raises(ValueError, match=r"`frames_per_second` must be positive"):
        Run(tmp_path / "old").watch(video, frames_per_second=0)
