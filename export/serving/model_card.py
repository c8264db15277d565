"""What someone who receives a SavedModel has to know, in one page of Markdown."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping

import keras
import tensorflow as tf

from tfvlad import compat
from tfvlad.layers import AttentionLSTM
from tfvlad.models import ClipModel

_PURPOSES = {
    "serving_default": "Class probabilities of clips of raw frames.",
    "encoded_frames": "The same of JPEG or PNG files, which keep a clip far below the 4 MB of a "
    'gRPC message; in REST, `{"b64": "..."}`. The frames of a clip may differ in size.',
    "features": "Class probabilities of features that a client has extracted, or kept, itself.",
    "highlight": "Class probabilities, and which frames and places speak for them.",
    "stream": "Live video: one frame a request. Send zeros as the first states, then the states "
    "of each answer with the next frame. The probabilities are of all that has been seen.",
}

# By the tensor's name, and where it differs by its type.
_MEANINGS = {
    ("frames", "uint8"): "RGB, 0 to 255, of any height H and width W",
    ("frames", "string"): "JPEG or PNG files, one a frame",
    ("flow", "uint8"): "stacks of optical flow, x and y of each field in turn, no motion at 127.5",
    ("flow", "string"): "the same, a grey JPEG or PNG file for each channel",
    ("frame", "uint8"): "RGB, 0 to 255, of any height H and width W",
    "features": "the backbone's maps of the frames, before the last activation",
    "rgb_features": "the RGB backbone's maps of the frames, before the last activation",
    "flow_features": "the flow backbone's maps of the stacks, before the last activation",
    "input_data": "the features of a clip's windows",
    "attended_data": "the features that the model attends to",
    "probabilities": "of the classes",
    "class_names": "of the probabilities, the same for each clip",
    "attention_maps": "where top-down attention looks in each frame",
    "attention": "where top-down attention looks in the frame",
}
_WEIGHTS = {
    True: "how much each attended frame is attended to, the mean over the steps",
    False: "what each frame adds to the score of the top class; they add up to it",
}

# The model is linear in the states of a sum or maximum.
_FORGETTING = (
    "The model sums over time and forgets nothing. To let a frame's weight halve every h seconds, "
    "multiply all states by `0.5 ** (t / h)` before each frame, t seconds after the one before it."
)

Specs = Mapping[str, tf.TensorSpec]


def model_card(
    clip_model: ClipModel,
    inputs: Mapping[str, Specs],
    outputs: Mapping[str, Specs],
    left_out: Mapping[str, str],
) -> str:
    """The card of a SavedModel in Markdown.

    Args:
        clip_model: what the SavedModel was made of.
        inputs: the inputs of each signature.
        outputs: the outputs of each signature.
        left_out: why the model has no other signature, one sentence by name.
    """
    model = clip_model.model
    attends = any(isinstance(layer, AttentionLSTM) for layer in compat.walk_layers(model))
    kind = "sigmoid: a clip may have several" if clip_model.multi_label else "softmax: one a clip"
    versions = ", ".join(
        [
            f"TensorFlow {tf.__version__}",
            f"Keras {keras.__version__}",
            f"tfvlad {importlib.metadata.version('tfvlad')}",
        ]
    )
    sections = [
        f"# {model.name}\n\nRecognises actions in video clips.",
        f"- Classes: {clip_model.num_classes} ({kind})\n"
        + "".join(f"- {_stream(*item)}\n" for item in clip_model.inputs.items())
        + f"- Parameters: {model.count_params():,}\n- Made with {versions}",
        "## Preprocessing\n\nNothing is left to the client: values are 0 to 255, as decoded; the "
        f"graph resizes frames to a short side of {clip_model.short_side} pixels, takes the centre "
        "crop of the model's size, and scales the values as the backbone wants them. Frames of "
        "exactly the model's size are taken as they are.",
        "## Signatures\n\nThe batch may be of any size from 1.",
        *(_signature(name, inputs[name], outputs[name], attends) for name in inputs),
    ]
    if left_out:
        reasons = "\n".join(f"- `{name}`: {reason}" for name, reason in left_out.items())
        sections.append(f"Not offered:\n\n{reasons}")
    if clip_model.description:
        described = json.dumps(clip_model.description, indent=2, ensure_ascii=False)
        sections.append(f"## How it was made and measured\n\n```json\n{described}\n```")
    classes = "\n".join(f"{number}. {name}" for number, name in enumerate(clip_model.class_names))
    sections.append(f"## Classes\n\n{classes}")
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _stream(name: str, shape: tuple[int, int, int, int]) -> str:
    num_frames, height, width, channels = shape
    what = f"stacks of {channels // 2} flow fields" if name == "flow" else "RGB frames"
    return f"`{name}`: {num_frames} {what} a clip, {height} by {width} pixels (height by width)"


def _signature(name: str, inputs: Specs, outputs: Specs, attends: bool) -> str:
    states = set(inputs) & set(outputs)
    rows = [
        f"| {way} | `{key}` | {spec.dtype.name} | {_shape(spec)} | "
        f"{_meaning(key, spec, states, attends)} |"
        for way, specs in (("in", inputs), ("out", outputs))
        for key, spec in specs.items()
    ]
    table = "\n".join(["| | name | type | shape | |", "|---|---|---|---|---|", *rows])
    purpose = _PURPOSES[name]
    if any(x.endswith("_sum") or x == "feature_maximum" for x in states):
        purpose += f"\n\n{_FORGETTING}"
    return f"### `{name}`\n\n{purpose}\n\n{table}"


def _meaning(name: str, spec: tf.TensorSpec, states: set[str], attends: bool) -> str:
    if name in states:
        return "state"
    if name == "frame_weights":
        return _WEIGHTS[attends]
    return _MEANINGS.get((name, spec.dtype.name)) or _MEANINGS[name]


def _shape(spec: tf.TensorSpec) -> str:
    # the batch, and height and width where they are free
    letters = iter("BHW")
    sizes = [str(size) if size is not None else next(letters) for size in spec.shape]
    return f"({', '.join(sizes)})"
