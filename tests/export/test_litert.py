"""LiteRT files against the Keras models they are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from export.clip_model import ClipModel
from export.litert import convert_litert
from export.litert_metadata import read_class_names
from export.streaming import initial_state, streaming_model
from tests.helpers import tiny_backbone
from tfvlad.backbones import (
    FeatureExtractor,
    from_model,
    mobilenet_v2,
    small_cnn,
    small_cnn_backbone,
)
from tfvlad.models import action_vlad, attention_lstm, end_to_end, ensemble, ta_vlad, two_stream

NUM_FRAMES = 5
NAMES = ("climb", "jump", "swing")


def _clips(number: int, side: int = 32, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (number, 1, NUM_FRAMES, side, side, channels), np.uint8)


def _backbone(seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    return small_cnn_backbone(small_cnn(5, image_size=48))


def _ta_vlad(backbone: Any, **arguments: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    return ta_vlad(
        backbone, 3, num_frames=NUM_FRAMES, num_clusters=4, units=8, alpha=20.0, **arguments
    )


def _flow_backbone() -> Any:
    stacks = keras.Input((32, 32, 4))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(stacks)
    maps = keras.layers.Conv2D(6, 3, strides=8, name="conv")(x)
    return from_model(keras.Model(stacks, maps), name="flow")


def _attention_lstm() -> keras.Model:
    frames = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(6, 3, strides=4)(keras.layers.Rescaling(1 / 255)(frames))
    network = keras.Model(frames, keras.layers.GlobalAveragePooling2D()(maps))
    extractor = FeatureExtractor("tiny/pooled", network)
    model = attention_lstm(
        3, 6, 6, num_steps=NUM_FRAMES, num_attended=NUM_FRAMES, units=8, matching_units=4
    )
    return end_to_end(model, extractor, extractor, num_frames=NUM_FRAMES)


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
    return ClipModel(model, NAMES, ("frames", "flow"))


def _ensemble() -> ClipModel:
    members = [_ta_vlad(tiny_backbone(seed=seed)) for seed in (0, 1)]
    model = ensemble(members, multi_label=True)
    return ClipModel(model, NAMES, ("frames", "frames"), multi_label=True)


MODELS = {
    "bidirectional": lambda: ClipModel(_ta_vlad(tiny_backbone(), bidirectional=True), NAMES),
    "separate_grus": lambda: ClipModel(_ta_vlad(tiny_backbone(), temporal="separate_grus"), NAMES),
    "flattened_gru": lambda: ClipModel(_ta_vlad(tiny_backbone(), temporal="flattened_gru"), NAMES),
    "attention_lstm": lambda: ClipModel(_attention_lstm(), NAMES),
    "concat": lambda: _two_stream("concat"),
    "late": lambda: _two_stream("late"),
    "ensemble": _ensemble,
}


def _probabilities(content: bytes, clip: dict[str, np.ndarray]) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    assert list(interpreter.get_signature_list()) == ["classify"]
    return interpreter.get_signature_runner("classify")(**clip)["probabilities"]


@pytest.mark.parametrize("name", MODELS)
def test_file_equals_model(name: str) -> None:
    clip_model = MODELS[name]()
    clip = {stream: _clips(1, shape[1], shape[3])[0] for stream, shape in clip_model.inputs.items()}
    expected = clip_model.probabilities(clip).numpy()
    actual = _probabilities(convert_litert(clip_model), clip)
    assert actual.shape == (1, 3)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-4


@pytest.fixture(scope="module")
def clip_model() -> ClipModel:
    return ClipModel(_ta_vlad(_backbone()), NAMES)


@pytest.fixture(scope="module")
def files(clip_model: ClipModel) -> dict[str, bytes]:
    clips = [{"frames": clip[0]} for clip in _clips(4, 48)]
    return {
        precision: convert_litert(
            clip_model,
            precision=precision,
            calibration_clips=clips if precision == "int8" else None,
        )
        for precision in ("float32", "float16", "dynamic", "int8")
    }


@pytest.mark.parametrize(
    ("precision", "tolerance", "size"),
    [("float32", 1e-5, 1.0), ("float16", 1e-3, 0.53), ("dynamic", 0.02, 0.33), ("int8", 0.02, 0.4)],
)
def test_precisions(
    clip_model: ClipModel,
    files: dict[str, bytes],
    precision: str,
    tolerance: float,
    size: float,
) -> None:
    for clip in _clips(4, 48):
        expected = clip_model.probabilities({"frames": clip}).numpy()
        actual = _probabilities(files[precision], {"frames": clip})
        np.testing.assert_allclose(actual, expected, atol=tolerance)
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


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_black_frames_give_numbers(files: dict[str, bytes], precision: str) -> None:
    black = np.zeros((1, NUM_FRAMES, 48, 48, 3), np.uint8)
    probabilities = _probabilities(files[precision], {"frames": black})
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)


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


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("build", [_ta_vlad, None])
def test_stream_equals_streaming_model(build: Any, precision: str) -> None:
    if build is None:
        model = action_vlad(_backbone(), 3, num_frames=NUM_FRAMES, num_clusters=4, alpha=20.0)
    else:
        model = build(_backbone())
    clip_model = ClipModel(model, NAMES)
    clips = [{"frames": clip} for clip in _clips(2, 48)] if precision == "int8" else None
    content = convert_litert(
        clip_model, precision=precision, streaming=True, calibration_clips=clips
    )
    interpreter = Interpreter(model_content=content, num_threads=1)
    runner = interpreter.get_signature_runner("stream")
    states = initial_state(streaming_model(model))
    assert set(runner.get_input_details()) == {"frame", *states}
    clip = _clips(1, 48)[0]
    for step in range(NUM_FRAMES):
        outputs = runner(frame=clip[:, step], **states)
        assert set(outputs) == {"probabilities", *states}
        states = {name: outputs[name] for name in states}
    expected = clip_model.probabilities({"frames": clip}).numpy()
    tolerance = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=tolerance)


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
    model = dataclasses.replace(_ensemble())
    with pytest.raises(ValueError, match="cannot stream"):
        convert_litert(model, streaming=True)
