"""Keras models on chunks, against the models themselves."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.clips.augmentation import fixed_crops
from pipelines.video.codec.decoding import read_frames
from tests.helpers import tiny_backbone
from tfvlad.highlights import ChunkInput, attention_chunk_model, clip_chunk_model
from tfvlad.models import (
    attention_lstm,
    average_pooling,
    frame_attributions,
    intermediate_outputs,
    ta_vlad,
    with_num_frames,
)

pytestmark = pytest.mark.usefixtures("eagerly")

NAMES = ("green", "red", "blue")
STARTS = (0, 4, 8, 12, 16, 19)


def test_attributions_of_every_chunk(long_video):
    network = ta_vlad(tiny_backbone(), 3, num_frames=3, num_clusters=4, units=5)
    model = clip_chunk_model(network, NAMES, chunk_frames=8, short_side=36)
    found = model.predictions(long_video, 27)
    wanted = [[start + offset for offset in (1, 4, 6)] for start in STARTS]
    assert found.frames.tolist() == wanted
    crops = fixed_crops(36, 36, 32)
    clips = np.stack(
        [read_frames(str(long_video), chunk, crops=crops, image_size=32)[0] for chunk in wanted]
    )
    for c in range(3):
        expected, logits = frame_attributions(network, clips, c)
        np.testing.assert_allclose(found.weights[..., c], expected, atol=1e-3)
    np.testing.assert_allclose(found.probabilities, tf.nn.softmax(logits), atol=1e-4)


def test_several_labels(long_video):
    network = average_pooling(tiny_backbone(), 3, num_frames=3)
    model = clip_chunk_model(network, NAMES, chunk_frames=8, short_side=36)
    both = clip_chunk_model(network, NAMES, chunk_frames=8, short_side=36, multi_label=True)
    one, several = (m.predictions(long_video, 27).probabilities for m in (model, both))
    np.testing.assert_allclose(one.sum(axis=-1), 1, rtol=1e-5)
    odds = several / (1 - several)
    np.testing.assert_allclose(odds / odds.sum(axis=-1, keepdims=True), one, rtol=1e-4)


def means(frames):
    return frames.mean(axis=(1, 2)).astype("float32") / 255


def reds(frames):
    return means(frames)[:, :1]


def test_attention_to_every_chunk(long_video):
    """The input-data are of every frame, the attended-data of every second one."""
    network = attention_lstm(3, 3, 1, num_steps=3, num_attended=4, units=4, matching_units=4)
    inputs = [
        ChunkInput(means, 3, 1, 1, (32, 32), 36),
        ChunkInput(reds, 4, 2, 1, (32, 32), 36),
    ]
    model = attention_chunk_model(network, inputs, NAMES, chunk_frames=8)
    found = model.predictions(long_video, 27)
    starts = np.array(STARTS)[:, np.newaxis]
    # Of the frames 1, 3, 5 and 7 of a chunk, the even one, or the one before.
    attended = (starts + np.array([1, 3, 5, 7])) // 2 * 2
    np.testing.assert_array_equal(found.frames, attended)
    crops = fixed_crops(36, 36, 32)
    frames = read_frames(str(long_video), range(27), crops=crops, image_size=32)[0]
    features = [means(frames)[starts + np.array([1, 4, 6])], reds(frames)[attended]]
    outputs = intermediate_outputs(network, ["attention", "logits"])(features)
    np.testing.assert_allclose(
        found.weights[..., 0], outputs["attention"].numpy().mean(axis=1), atol=1e-5
    )
    np.testing.assert_allclose(found.probabilities, np.exp(outputs["logits"]), atol=1e-5)


def test_models_of_other_clips():
    network = with_num_frames(average_pooling(tiny_backbone(), 3, num_frames=3), None)
    sentence = r"`model` must take RGB clips .* Received: a model of \(None, None, 32, 32, 3\)."
    with pytest.raises(ValueError, match=sentence):
        clip_chunk_model(network, NAMES, chunk_frames=8)
