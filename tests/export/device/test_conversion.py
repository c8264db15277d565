"""LiteRT files against the Keras models they are made of."""

from __future__ import annotations

import itertools
import re
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from export.device import conversion
from export.device.conversion import convert_litert
from export.device.metadata import read_class_names
from tests.helpers import slow_except, tiny_backbone
from tfvlad import compat
from tfvlad.backbones import (
    FeatureExtractor,
    from_model,
    mobilenet_v2,
    small_cnn,
    small_cnn_backbone,
)
from tfvlad.live import initial_state, streaming_model
from tfvlad.models import (
    ClipModel,
    action_vlad,
    attention_lstm,
    average_pooling,
    end_to_end,
    ensemble,
    max_pooling,
    plain_lstm,
    ta_vlad,
    two_stream,
)

NUM_FRAMES = 5
NAMES = ("climb", "jump", "swing")


def _clips(number: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """Blocks of random colours, tinted: clips, and the frames of each, differ."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (number, 1, NUM_FRAMES, side // 8, side // 8, channels))
    tints = rng.uniform(0.1, 1, (number, 1, NUM_FRAMES, 1, 1, channels))
    return (tints * blocks).repeat(8, axis=3).repeat(8, axis=4).astype("uint8")


def _clips_of(clip_model: ClipModel, number: int = 2) -> list[dict[str, np.ndarray]]:
    clips = {
        stream: _clips(number, shape[1], shape[3]) for stream, shape in clip_model.inputs.items()
    }
    return [{stream: x[n] for stream, x in clips.items()} for n in range(number)]


def _sharpened(clip_model: ClipModel) -> ClipModel:
    """Random scores differ little: centred and scaled, they make an error visible."""
    model = clip_model.model
    scores = [model(clip_model.model_inputs(clip)).numpy() for clip in _clips_of(clip_model)]
    factor = 2 / np.ptp(scores, axis=0).max()
    bias = -factor * np.mean(scores, axis=(0, 1))
    for layer in compat.walk_layers(model):
        if layer.name.endswith("logits"):
            layer.set_weights([factor * layer.kernel.numpy(), bias])
    return clip_model


def _assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Probabilities `(clips, C)`; the clips' must differ by much more than the tolerance."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert np.ptp(expected, axis=0).max() >= 5 * tolerance
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def _backbone(seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    return small_cnn_backbone(small_cnn(5, image_size=48))


def _ta_vlad(backbone: Any, units: int = 8, **arguments: Any) -> ClipModel:
    keras.utils.set_random_seed(1)
    # An input that moves the states of random weights: else all clips have the same scores.
    model = ta_vlad(
        backbone,
        3,
        num_frames=NUM_FRAMES,
        num_clusters=4,
        units=units,
        alpha=20.0,
        attention_temperature=1.0,
        input_scale="sqrt_channels",
        update_bias=0.0,
        **arguments,
    )
    return _sharpened(ClipModel(model, NAMES))


def _action_vlad(backbone: Any) -> ClipModel:
    keras.utils.set_random_seed(1)
    model = action_vlad(backbone, 3, num_frames=NUM_FRAMES, num_clusters=4, alpha=20.0)
    return _sharpened(ClipModel(model, NAMES))


def _flow_backbone() -> Any:
    stacks = keras.Input((32, 32, 4))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(stacks)
    maps = keras.layers.Conv2D(6, 3, strides=8, name="conv")(x)
    return from_model(keras.Model(stacks, maps), name="flow")


def _extractor() -> FeatureExtractor:
    keras.utils.set_random_seed(2)
    frames = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(40, 3, strides=4)(keras.layers.Rescaling(1 / 16)(frames))
    network = keras.Model(frames, keras.layers.GlobalAveragePooling2D()(maps))
    return FeatureExtractor("tiny/pooled", network)


def _attention_lstm() -> ClipModel:
    extractor = _extractor()
    model = attention_lstm(
        3, 40, 40, num_steps=NUM_FRAMES, num_attended=NUM_FRAMES, units=32, matching_units=32
    )
    whole = end_to_end(model, extractor, extractor, num_frames=NUM_FRAMES)
    return _sharpened(ClipModel(whole, NAMES))


def _plain_lstm() -> ClipModel:
    model = plain_lstm(3, 40, num_steps=NUM_FRAMES, units=32)
    whole = end_to_end(model, _extractor(), num_frames=NUM_FRAMES)
    return _sharpened(ClipModel(whole, NAMES))


def _two_stream(fusion: str) -> ClipModel:
    model = two_stream(
        tiny_backbone(),
        _flow_backbone(),
        3,
        fusion=fusion,
        num_frames=NUM_FRAMES,
        num_clusters=4,
        alpha=20.0,
    )
    return _sharpened(ClipModel(model, NAMES, ("frames", "flow")))


def _ensemble() -> ClipModel:
    members = [_ta_vlad(tiny_backbone(seed=seed)).model for seed in (0, 1)]
    model = ensemble(members, multi_label=True)
    return ClipModel(model, NAMES, ("frames", "frames"), multi_label=True)


MODELS = {
    "bidirectional": lambda: _ta_vlad(tiny_backbone(), bidirectional=True),
    "separate_grus": lambda: _ta_vlad(tiny_backbone(), temporal="separate_grus"),
    "flattened_gru": lambda: _ta_vlad(tiny_backbone(), temporal="flattened_gru"),
    "attention_lstm": _attention_lstm,
    "concat": lambda: _two_stream("concat"),
    "late": lambda: _two_stream("late"),
    "ensemble": _ensemble,
}


def _probabilities(content: bytes, clips: list[dict[str, np.ndarray]]) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    assert list(interpreter.get_signature_list()) == ["classify"]
    runner = interpreter.get_signature_runner("classify")
    answers = [runner(**clip)["probabilities"] for clip in clips]
    assert {answer.shape for answer in answers} == {(1, 3)}
    return np.concatenate(answers)


def _expected(clip_model: ClipModel, clips: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.concatenate([clip_model.probabilities(clip) for clip in clips])


@pytest.mark.parametrize("name", slow_except(MODELS, "attention_lstm", "late"))
def test_file_equals_model(name: str) -> None:
    clip_model = MODELS[name]()
    clips = _clips_of(clip_model)
    actual = _probabilities(convert_litert(clip_model), clips)
    _assert_close(actual, _expected(clip_model, clips), 1e-5)


def test_trained_in_half_precision() -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = action_vlad(tiny_backbone(), 3, num_frames=NUM_FRAMES, num_clusters=4, alpha=20.0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    clip_model = _sharpened(ClipModel(model, NAMES))
    model.set_weights(clip_model.model.get_weights())
    clips = _clips_of(clip_model)
    expected = [tf.nn.softmax(model(clip["frames"].astype("float32")))[0].numpy() for clip in clips]
    _assert_close(_probabilities(convert_litert(clip_model), clips), expected, 5e-3)


def test_converts_on_a_machine_with_a_gpu() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", lambda kind=None: [kind])
        clip_model = MODELS["flattened_gru"]()
        content = convert_litert(clip_model)
    clips = _clips_of(clip_model)
    _assert_close(_probabilities(content, clips), _expected(clip_model, clips), 1e-5)


# Kernels of other processors round otherwise.
TOLERANCES = {"float32": 1e-4, "float16": 2e-3, "dynamic": 0.06, "int8": 0.1}


@pytest.fixture(scope="module")
def clip_model() -> ClipModel:
    return _ta_vlad(_backbone())


@pytest.fixture(scope="module")
def files(clip_model: ClipModel) -> dict[str, bytes]:
    """In every precision, each from one and the same float32 file."""
    clips = _clips_of(clip_model, 4)
    float32 = conversion._converted(conversion._clip_signature(clip_model))
    with mock.patch.object(conversion, "_converted", return_value=float32):
        return {
            precision: convert_litert(
                clip_model,
                precision=precision,
                calibration_clips=clips if precision == "int8" else None,
            )
            for precision in TOLERANCES
        }


@pytest.mark.parametrize(
    ("precision", "size"), [("float32", 1.0), ("float16", 0.53), ("dynamic", 0.33), ("int8", 0.4)]
)
def test_precisions(
    clip_model: ClipModel, files: dict[str, bytes], precision: str, size: float
) -> None:
    clips = _clips_of(clip_model, 4)
    actual = _probabilities(files[precision], clips)
    _assert_close(actual, _expected(clip_model, clips), TOLERANCES[precision])
    assert len(files[precision]) <= size * len(files["float32"])


def _constants(content: bytes) -> list[np.ndarray]:
    """The float32 constants of a file."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    return [
        np.frombuffer(model.buffers[tensor.buffer].data, "<f4").reshape(tensor.shape)
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if tensor.type == 0 and model.buffers[tensor.buffer].data is not None
    ]


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
def test_vlad_and_norms_keep_single_precision(
    clip_model: ClipModel, files: dict[str, bytes], precision: str
) -> None:
    constants = _constants(files[precision])
    vlad = clip_model.model.get_layer("vlad")
    for expected in (vlad.kernel.numpy().T, vlad.bias.numpy(), vlad.centers.numpy()):
        assert any(
            constant.size == expected.size
            and np.allclose(constant.reshape(expected.shape), expected, rtol=1e-6, atol=0)
            for constant in constants
        )
    # The epsilon of the norms would vanish in half precision.
    assert any(constant.size == 1 and 0 < constant.item() < 6e-8 for constant in constants)
    # Everything else that is large is stored smaller.
    others = [c for c in constants if c.size >= 1024 and c.size != vlad.kernel.shape[0] * 4]
    assert not others


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES.items())
def test_black_frames(
    clip_model: ClipModel, files: dict[str, bytes], precision: str, tolerance: float
) -> None:
    black = [{"frames": np.zeros((1, NUM_FRAMES, 48, 48, 3), np.uint8)}]
    probabilities = _probabilities(files[precision], black)
    np.testing.assert_allclose(probabilities, _expected(clip_model, black), rtol=0, atol=tolerance)


_RECURRENCES = {
    "attention_lstm": (
        _attention_lstm,
        {"memory_projection", "context_projection", "query_projection", "recurrent_projection"},
    ),
    "plain_lstm": (_plain_lstm, {"/while/"}),
    "flattened_gru": (
        lambda: _ta_vlad(tiny_backbone(), 32, temporal="flattened_gru"),
        {"/while/"},
    ),
    "separate_grus": (
        lambda: _ta_vlad(tiny_backbone(), 32, temporal="separate_grus"),
        {"/while/"},
    ),
    "shared_gru": (lambda: _ta_vlad(tiny_backbone(), 32), {"/while/"}),
}


def _products(content: bytes) -> list[tuple[str, int, int]]:
    """Each product with a constant: its names, the type that is stored, and the size."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    products = []
    for subgraph in model.subgraphs:
        stored = {}
        for operator in subgraph.operators:
            name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
            if name == "DEQUANTIZE":
                stored[operator.outputs[0]] = operator.inputs[0]
            if name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
                weights = operator.inputs[1]
                tensor = subgraph.tensors[stored.get(weights, weights)]
                names = subgraph.tensors[operator.outputs[0]].name.decode()
                if model.buffers[tensor.buffer].data is not None:
                    products.append((names, tensor.type, int(np.prod(tensor.shape))))
    return products


@pytest.mark.parametrize(
    ("name", "precision"),
    slow_except(
        itertools.product(_RECURRENCES, ["dynamic", "int8"]),
        ("attention_lstm", "int8"),
        ("shared_gru", "dynamic"),
    ),
)
def test_recurrences_and_logits_are_not_in_8_bits(name: str, precision: str) -> None:
    build, recurrent = _RECURRENCES[name]
    clip_model = build()
    clips = _clips_of(clip_model)
    content = convert_litert(
        clip_model, precision=precision, calibration_clips=clips if precision == "int8" else None
    )
    parts = "|".join({*recurrent, "logits"})
    found = set()
    float32, float16 = 0, 1
    for names, kind, size in _products(content):
        match = re.search(parts, names)
        if match:
            found.add(match[0])
            assert kind == (float16 if size >= 1024 else float32)
    assert found == {*recurrent, "logits"}
    expected = _expected(clip_model, clips)
    _assert_close(_probabilities(content, clips), expected, np.ptp(expected, axis=0).max() / 5)


def test_int8_computes_the_wide_convolution_in_integers(files: dict[str, bytes]) -> None:
    model = flatbuffer_utils.read_model_from_bytearray(files["int8"])
    tensors = model.subgraphs[0].tensors
    convolutions = [
        (tensors[operator.inputs[0]].shape[-1], tensors[operator.inputs[0]].type)
        for operator in model.subgraphs[0].operators
        if flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) == "CONV_2D"
    ]
    int8, float32 = 9, 0
    assert convolutions == [(3, float32), (16, float32), (48, float32), (96, int8)]


def _streamed(content: bytes, clip: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What the file answers after each frame; the states are zeros at first."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    runner = interpreter.get_signature_runner("stream")
    frames = {{"frames": "frame", "flow": "flow"}[stream]: x for stream, x in clip.items()}
    states = {
        name: np.zeros(details["shape"], details["dtype"])
        for name, details in runner.get_input_details().items()
        if name not in frames
    }
    answers = []
    for step in range(NUM_FRAMES):
        answer = runner(**{name: x[:, step] for name, x in frames.items()}, **states)
        assert set(answer) == {"probabilities", *states}
        states = {name: answer[name] for name in states}
        answers.append(answer)
    return answers


@pytest.mark.parametrize(
    ("build", "precision"),
    slow_except(
        itertools.product([_ta_vlad, _action_vlad], ["float32", "int8"]),
        (_ta_vlad, "float32"),
        (_action_vlad, "int8"),
    ),
)
def test_stream_equals_clip_model(build: Any, precision: str) -> None:
    clip_model = build(_backbone())
    clips = _clips_of(clip_model)
    content = convert_litert(
        clip_model,
        precision=precision,
        streaming=True,
        calibration_clips=clips if precision == "int8" else None,
    )
    actual = [_streamed(content, clip)[-1]["probabilities"][0] for clip in clips]
    _assert_close(actual, _expected(clip_model, clips), TOLERANCES[precision])


def _pooling(build: Any) -> ClipModel:
    return ClipModel(build(tiny_backbone(), 3, num_frames=NUM_FRAMES), NAMES)


STREAMS = {
    "attention_lstm": MODELS["attention_lstm"],
    "plain_lstm": _plain_lstm,
    "average": lambda: _pooling(average_pooling),
    "maximum": lambda: _pooling(max_pooling),
    "flattened_gru": MODELS["flattened_gru"],
    "concat": MODELS["concat"],
}


@pytest.mark.parametrize("name", slow_except(STREAMS, "concat"))
def test_stream_equals_streaming_model(name: str) -> None:
    clip_model = STREAMS[name]()
    clip = _clips_of(clip_model)[1]
    model = streaming_model(clip_model.model)
    frames = {{"frames": "frame", "flow": "flow"}[stream]: x for stream, x in clip.items()}
    states = initial_state(model)
    expected = []
    answers = _streamed(convert_litert(clip_model, streaming=True), clip)
    for step, answer in enumerate(answers):
        outputs = model({**{key: x[:, step] for key, x in frames.items()}, **states})
        states = {key: outputs[key].numpy() for key in states}
        for key, state in states.items():
            np.testing.assert_allclose(answer[key], state, rtol=1e-5, atol=1e-5)
        expected.append(clip_model.normalized(outputs["scores"])[0].numpy())
    # Here the frames of one clip must make the difference.
    _assert_close([answer["probabilities"][0] for answer in answers], expected, 1e-5)


@pytest.mark.slow
def test_int8_of_mobilenet_is_at_most_two_fifths_of_float32() -> None:
    keras.utils.set_random_seed(0)
    model = ta_vlad(mobilenet_v2(weights=None), 3, num_frames=2, num_clusters=32, units=64)
    clip_model = ClipModel(model, NAMES)
    clip = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    small = convert_litert(clip_model, precision="int8", calibration_clips=[{"frames": clip}])
    assert len(small) <= 0.4 * len(convert_litert(clip_model))


def test_class_names_are_in_the_file(files: dict[str, bytes], tmp_path: Any) -> None:
    for content in files.values():
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        assert read_class_names(path) == NAMES


def test_unknown_precision(clip_model: ClipModel) -> None:
    with pytest.raises(ValueError, match=r"`precision` must be one of .*precision='int4'\.$"):
        convert_litert(clip_model, precision="int4")


@pytest.mark.parametrize(("precision", "clips"), [("int8", None), ("float32", [])])
def test_calibration_clips_only_for_int8(clip_model: ClipModel, precision: str, clips: Any) -> None:
    with pytest.raises(ValueError, match='are needed for precision="int8", and only there'):
        convert_litert(clip_model, precision=precision, calibration_clips=clips)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], r"must hold at least one clip\. Received: none\."),
        ([{}], r"clips \(5, 48, 48, 3\) for 'frames'\. Received: None in clip 0\."),
        ([{"frames": np.zeros((5, 48, 48, 3))}], r"Received: float64 \(5, 48, 48, 3\) in clip 0"),
        ([{"frames": np.zeros((4, 48, 48, 3), "u1")}], r"Received: uint8 \(4, 48, 48, 3\)"),
        ([{"frames": np.zeros((2, 5, 48, 48, 3), "u1")}], r"Received: uint8 \(2, 5, 48, 48, 3\)"),
    ],
)
def test_wrong_calibration_clips(clip_model: ClipModel, clips: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_litert(clip_model, precision="int8", calibration_clips=clips)


def test_names_what_is_not_built_in() -> None:
    frames = keras.Input((NUM_FRAMES, 32, 32, 3))
    pooled = keras.layers.MaxPooling3D(2)(frames)
    scores = keras.layers.Dense(3)(keras.layers.Flatten()(pooled))
    model = keras.Model(frames, scores, name="pooling")
    with pytest.raises(
        ValueError, match=r"^'pooling' cannot become a LiteRT file: .* built in MaxPool3D\.$"
    ):
        convert_litert(ClipModel(model, NAMES))


def test_refuses_what_does_not_stream() -> None:
    with pytest.raises(ValueError, match="cannot stream"):
        convert_litert(_ensemble(), streaming=True)
