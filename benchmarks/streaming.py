"""Live video, frame by frame: memory and time as the stream goes on, and LiteRT's latency.

python benchmarks/streaming.py --quick --json

ActionVLAD, TA-VLAD and the attention LSTM on MobileNetV2, 224x224. The Keras models of single
frames run over 5,000 frames (1,000 with --quick): resident memory after 100 frames (`early`) and at
the end (`late`), and the time a frame from both states, measured in turns. LiteRT's float32 files
run on two threads, in turns with the backbone alone, converted in the same way: `litert_outside` is
the share of a frame's time that is spent outside the backbone. Weights are random without
--weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import psutil
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from measure import alternating_medians

from export.device.conversion import convert_litert
from tfvlad import models
from tfvlad.backbones import Backbone, feature_extractor, mobilenet_v2
from tfvlad.live import initial_state, streaming_model
from tfvlad.models import ClipModel

NUM_CLASSES, NUM_CLUSTERS, UNITS, NUM_FRAMES, SIZE = 51, 64, 256, 12, 224
EARLY = 100

State = dict[str, tf.Tensor]


def make_models(backbone: Backbone) -> dict[str, keras.Model]:
    sizes = {"num_frames": NUM_FRAMES, "num_clusters": NUM_CLUSTERS}
    extractor = feature_extractor(backbone)
    lstm = models.attention_lstm(
        NUM_CLASSES,
        extractor.num_channels,
        extractor.num_channels,
        num_steps=NUM_FRAMES,
        num_attended=NUM_FRAMES,
    )
    return {
        "action_vlad": models.action_vlad(backbone, NUM_CLASSES, **sizes),
        "ta_vlad": models.ta_vlad(backbone, NUM_CLASSES, units=UNITS, **sizes),
        "attention_lstm": models.end_to_end(lstm, extractor, extractor, num_frames=NUM_FRAMES),
    }


def follow(model: keras.Model, num_frames: int, repeats: int) -> dict[str, float]:
    """Time a frame and resident memory, early and late in a stream."""
    stream = streaming_model(model)
    step = tf.function(lambda inputs: stream(inputs, training=False), autograph=False)
    frames = np.random.default_rng(0).integers(0, 256, (16, 1, SIZE, SIZE, 3)).astype("float32")

    def next_state(state: State, number: int = 0) -> State:
        outputs = step({"frame": tf.constant(frames[number % len(frames)]), **state})
        outputs["scores"].numpy()  # waits
        return {name: outputs[name] for name in state}

    state = {name: tf.constant(value) for name, value in initial_state(stream).items()}
    kept: dict[str, State] = {}
    resident: dict[str, float] = {}
    for number in range(1, num_frames + 1):
        state = next_state(state, number)
        if number in (EARLY, num_frames):
            name = "early" if number == EARLY else "late"
            kept[name] = state
            resident[name] = psutil.Process().memory_info().rss / 2**20
    seconds = alternating_medians(
        {name: functools.partial(next_state, value) for name, value in kept.items()}, repeats
    )
    return {
        "keras_ms": 1000 * seconds["late"],
        "late_to_early_time": seconds["late"] / seconds["early"],
        "early_mib": resident["early"],
        "late_mib": resident["late"],
    }


def runner(content: bytes) -> Callable[[], object]:
    """One frame of a LiteRT file on two threads."""
    interpreter = Interpreter(model_content=content, num_threads=2)
    (name,) = interpreter.get_signature_list()
    run = interpreter.get_signature_runner(name)
    generator = np.random.default_rng(0)
    inputs = {
        key: generator.integers(0, 256, detail["shape"]).astype(np.uint8)
        if detail["dtype"] == np.uint8
        else np.zeros(detail["shape"], detail["dtype"])
        for key, detail in run.get_input_details().items()
    }
    return lambda: run(**inputs)


def converted_backbone(backbone: keras.Model) -> bytes:
    """The backbone alone, from uint8 frames, as `convert_litert` converts a whole model."""
    archive = keras.export.ExportArchive()
    archive.track(backbone)
    frame = tf.TensorSpec((1, SIZE, SIZE, 3), tf.uint8, name="frame")
    function = tf.function(
        lambda frame: {"maps": backbone(tf.cast(frame, tf.float32), training=False)},
        input_signature=[frame],
    )
    archive.add_endpoint("maps", function)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["maps"])
        return converter.convert()


def measure_litert(
    built: dict[str, keras.Model], backbone: Backbone, repeats: int
) -> dict[str, dict[str, float]]:
    names = tuple(map(str, range(NUM_CLASSES)))
    runners = {
        name: runner(convert_litert(ClipModel(model, names), streaming=True))
        for name, model in built.items()
    }
    runners["backbone"] = runner(converted_backbone(backbone.model))
    seconds = alternating_medians(runners, repeats, warmups=5)
    alone = seconds.pop("backbone")
    return {
        name: {
            "litert_ms": 1000 * value,
            "litert_backbone_ms": 1000 * alone,
            "litert_outside": max(1 - alone / value, 0.0),
        }
        for name, value in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 frames, fewer LiteRT calls")
    parser.add_argument("--weights", help="MobileNetV2's weights file, or imagenet")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    num_frames, repeats = (1000, 50) if arguments.quick else (5000, 200)

    backbone = mobilenet_v2(weights=arguments.weights, image_size=SIZE)
    built = make_models(backbone)
    result = measure_litert(built, backbone, repeats)
    for name, model in built.items():
        result[name] |= follow(model, num_frames, repeats)
    columns = list(result["ta_vlad"])
    print(f"{'':16}" + "".join(f"{column:>20}" for column in columns))
    for name, values in result.items():
        print(f"{name:16}" + "".join(f"{values[column]:20.3f}" for column in columns))
    if arguments.json:
        rounded = {
            name: {column: round(value, 3) for column, value in values.items()}
            for name, values in result.items()
        }
        print(json.dumps(rounded))


if __name__ == "__main__":
    main()
