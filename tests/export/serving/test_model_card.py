"""The model card tells what the SavedModel takes and gives."""

import pytest
import tensorflow as tf

from export.serving.model_card import model_card
from tests.helpers import tiny_backbone
from tfvlad.models import ClipModel, action_vlad

CLIP = {"frames": tf.TensorSpec((None, 3, None, None, 3), tf.uint8)}
ANSWER = {
    "probabilities": tf.TensorSpec((None, 2), tf.float32),
    "class_names": tf.TensorSpec((None, 2), tf.string),
    "frame_weights": tf.TensorSpec((None, 3), tf.float32),
}


def card(**options):
    model = action_vlad(tiny_backbone(), 2, num_frames=3, num_clusters=4, alpha=5.0)
    clip_model = ClipModel(model, ("run", "jump"), short_side=40, **options)
    inputs = {
        "highlight": CLIP,
        "stream": {
            "frame": tf.TensorSpec((None, None, None, 3), tf.uint8),
            "vlad_sum": tf.TensorSpec((None, 4, 6), tf.float32),
        },
    }
    outputs = {"highlight": ANSWER, "stream": {"vlad_sum": inputs["stream"]["vlad_sum"]}}
    return model_card(clip_model, inputs, outputs, {"features": "There are none."})


@pytest.mark.parametrize(
    "line",
    [
        "# action_vlad",
        "- Classes: 2 (softmax: one a clip)",
        "- `frames`: 3 RGB frames a clip, 32 by 32 pixels (height by width)",
        "| in | `frames` | uint8 | (B, 3, H, W, 3) | RGB, 0 to 255, of any height H and width W |",
        "| out | `class_names` | string | (B, 2) | of the probabilities, the same for each clip |",
        "| in | `frame` | uint8 | (B, H, W, 3) | RGB, 0 to 255, of any height H and width W |",
        "| in | `vlad_sum` | float32 | (B, 4, 6) | state |",
        "- `features`: There are none.",
        '  "top1": 0.5',
        "1. jump",
    ],
)
def test_says(line):
    assert line in card(description={"top1": 0.5}).splitlines()


def test_how_a_sum_forgets():
    text = card()
    stream = text.index("### `stream`")
    assert text.count("multiply all states by `0.5 ** (t / h)` before each frame") == 1
    assert text.index("multiply all states") > stream


def test_several_classes_a_clip():
    assert "- Classes: 2 (sigmoid: a clip may have several)" in card(multi_label=True)
    assert "## How it was made" not in card()
