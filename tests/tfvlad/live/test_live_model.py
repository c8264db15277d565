"""A model that sees one frame after the other, against the clip model on all of them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal, tiny_backbone
from tfvlad.live import LiveModel
from tfvlad.models import ClipModel, action_vlad, max_pooling, ta_vlad, two_stream, with_num_frames

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

NAMES = ("green", "red", "blue")
FRAMES = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3)).astype("uint8")
FRAMES = (FRAMES * np.linspace(0.2, 1, 6)[:, np.newaxis, np.newaxis, np.newaxis]).astype("uint8")
SMALL = {"num_frames": 4, "num_clusters": 4, "alpha": 5.0}


def clip_model(build, **options):
    model = build(tiny_backbone(), 3, **options)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([20 * normal(*kernel.shape), bias])
    return ClipModel(model, NAMES, short_side=36)


def test_what_it_has_seen_up_to_now():
    model = clip_model(ta_vlad, units=5, **SMALL)
    live = LiveModel(model)
    assert live.frame_size == (32, 32)
    # Only a sum over time fades with the time.
    for second, frame in enumerate(FRAMES):
        found = live.see(frame, 10.0 * second)
    whole = with_num_frames(model.model, 6)(FRAMES[np.newaxis].astype("float32"))
    np.testing.assert_allclose(found.probabilities, tf.nn.softmax(whole)[0], atol=1e-4)
    assert found.attention.shape == (4, 4)
    assert found.attention.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("given", "half_life"), [(0.5, 0.5), (None, 2.0)])
def test_sums_over_time_fade(given, half_life):
    model = clip_model(action_vlad, **SMALL)
    live = LiveModel(model, given)
    times = np.array([0.0, 0.1, 0.5, 0.6, 1.5, 1.6])
    for seconds, frame in zip(times, FRAMES, strict=True):
        found = live.see(frame, float(seconds))
    network = model.model
    maps = network.get_layer("backbone")(FRAMES[np.newaxis].astype("float32"))
    weights = 0.5 ** ((times[-1] - times) / half_life).reshape(1, -1, 1, 1)
    weights = weights * np.ones(maps.shape[:-1])
    descriptor, _ = network.get_layer("vlad")(maps, tf.constant(weights, tf.float32))
    expected = tf.nn.softmax(network.get_layer("logits")(descriptor))[0]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert found.attention is None


def test_errors():
    model = clip_model(ta_vlad, units=5, **SMALL)
    sentence = r"`memory_seconds` is of models that sum over time .* 'ta_vlad' forgets by itself"
    with pytest.raises(ValueError, match=sentence):
        LiveModel(model, 3)
    summing = clip_model(max_pooling, num_frames=4)
    with pytest.raises(ValueError, match=r"`memory_seconds` must be positive. .*seconds=0\."):
        LiveModel(summing, 0)
    both = two_stream(tiny_backbone(), tiny_backbone(), 3, num_frames=4, num_clusters=4)
    flow = ClipModel(both, NAMES, ("frames", "flow"), short_side=36)
    with pytest.raises(ValueError, match=r"optical flow is not computed live. Watch with a model"):
        LiveModel(flow)
    backwards = clip_model(ta_vlad, units=5, bidirectional=True, **SMALL)
    with pytest.raises(ValueError, match="cannot stream: it is bidirectional"):
        LiveModel(backwards)
