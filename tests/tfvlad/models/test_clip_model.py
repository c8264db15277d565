"""What an exported model must say of itself."""

import keras
import numpy as np
import pytest

from tests.helpers import tiny_backbone, uniform
from tfvlad.models import ClipModel, action_vlad, late_fusion, plain_lstm, two_stream

pytestmark = pytest.mark.current

NAMES = ("run", "jump", "sit")


@pytest.fixture(scope="module")
def model():
    return action_vlad(tiny_backbone(), 3, num_frames=4, num_clusters=2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_probabilities(model, multi_label):
    clips = (255 * uniform(2, 4, 32, 32, 3)).astype("uint8")
    clip_model = ClipModel(model, NAMES, multi_label=multi_label)
    logits = model.predict(clips.astype("float32"), verbose=0).astype("float64")
    if multi_label:
        expected = 1 / (1 + np.exp(-logits))
    else:
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(clip_model.probabilities({"frames": clips}), expected, atol=1e-5)
    assert clip_model.num_classes == 3
    assert clip_model.inputs == {"frames": (4, 32, 32, 3)}


def test_streams_of_a_fusion_may_be_shared(model):
    other = two_stream(tiny_backbone(), _flow(), 3, num_frames=4, num_clusters=2)
    fused = late_fusion([model, other])
    clip_model = ClipModel(fused, NAMES, ("frames", "frames", "flow"))
    assert clip_model.inputs == {"frames": (4, 32, 32, 3), "flow": (4, 32, 32, 4)}
    clips = {
        "frames": 255 * uniform(1, 4, 32, 32, 3, seed=1),
        "flow": 255 * uniform(1, 4, 32, 32, 4, seed=2),
    }
    expected = fused([clips["frames"], clips["frames"], clips["flow"]])
    np.testing.assert_allclose(
        clip_model.probabilities(clips), keras.ops.softmax(expected), atol=1e-6
    )


def _flow():
    from tfvlad.backbones import flow_backbone

    return flow_backbone(tiny_backbone(), stack_frames=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": NAMES[:2]}, r"`class_names` must be 3 different names.*Received: 2 names"),
        ({"class_names": ("a", "b", "a")}, "different names"),
        ({"class_names": ("a", "b", "c\u2028d")}, "single lines of text. Received: 'c"),
        ({"streams": ("rgb",)}, r"`streams` must be one of .*Received: streams=\('rgb',\)"),
        ({"streams": ("frames", "flow")}, "each of the model's 1 inputs"),
        ({"short_side": 16}, "at least the model's image size of 32 pixels.*short_side=16"),
    ],
)
def test_refusals(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipModel(model, **{"class_names": NAMES, **arguments})


def test_models_of_features_and_of_any_length_are_refused():
    with pytest.raises(ValueError, match=r"clips \(batch, frames, height.*end_to_end"):
        ClipModel(plain_lstm(3, 5), NAMES)
    endless = action_vlad(tiny_backbone(), 3, num_frames=None, num_clusters=2)
    with pytest.raises(ValueError, match="with_num_frames"):
        ClipModel(endless, NAMES)


def test_models_that_share_a_stream_take_the_same_clips(model):
    longer = action_vlad(tiny_backbone(), 3, num_frames=5, num_clusters=2)
    with pytest.raises(ValueError, match="share a stream must take clips of one shape"):
        ClipModel(late_fusion([model, longer]), NAMES, ("frames", "frames"))
