"""One GRU shared by the clusters: `SharedGRU` against `TimeDistributed(GRU)`.

python benchmarks/shared_gru.py --quick --json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from measure import alternating_medians

from tfvlad.layers import SharedGRU

NUM_CLUSTERS, NUM_FRAMES, CHANNELS, UNITS = 64, 25, 512, 256


def make_layers() -> dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], list[tf.Variable]]]:
    """Both layers with equal weights: a call on `(B, T, K, D)`, and the weights."""
    shared, gru = SharedGRU(UNITS), keras.layers.GRU(UNITS)
    shared.build((None, NUM_FRAMES, NUM_CLUSTERS, CHANNELS))
    gru.build((None, NUM_FRAMES, CHANNELS))
    gru.set_weights(shared.get_weights())
    over_clusters = keras.layers.TimeDistributed(gru)

    def time_distributed(vlad: tf.Tensor) -> tf.Tensor:
        return over_clusters(tf.transpose(vlad, (0, 2, 1, 3)))

    return {
        "shared": (shared, shared.trainable_variables),
        "time_distributed": (time_distributed, gru.trainable_variables),
    }


def make_steps(
    call: Callable[[tf.Tensor], tf.Tensor], weights: list[tf.Variable], vlad: tf.Tensor
) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """A forward pass and a training step (forward and backward)."""
    forward = tf.function(call)

    @tf.function
    def train(vlad: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(vlad)
            loss = tf.reduce_sum(forward(vlad) ** 2)  # traced once for both
        return tape.gradient(loss, [vlad, *weights])

    return lambda: forward(vlad).numpy(), lambda: train(vlad)[0].numpy()


def seconds_of_first_call(function: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="batch 2, one measured call")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    batch, repeats = (2, 1) if arguments.quick else (4, 9)

    vlad = tf.random.stateless_normal((batch, NUM_FRAMES, NUM_CLUSTERS, CHANNELS), seed=(0, 0))
    steps = {name: make_steps(*layer, vlad) for name, layer in make_layers().items()}
    traces = {
        name: [seconds_of_first_call(function) for function in functions]
        for name, functions in steps.items()
    }
    forward = alternating_medians({name: steps[name][0] for name in steps}, repeats, warmups=0)
    train = alternating_medians({name: steps[name][1] for name in steps}, repeats, warmups=0)
    print(f"K={NUM_CLUSTERS} T={NUM_FRAMES} D={CHANNELS} U={UNITS} batch {batch}")
    print(f"{'':18}{'forward ms':>12}{'train ms':>12}{'first training call s':>24}")
    for name in steps:
        cells = f"{1000 * forward[name]:12.0f}{1000 * train[name]:12.0f}{traces[name][1]:24.1f}"
        print(f"{name:18}{cells}")
    if arguments.json:
        result = {
            "forward_ratio": forward["time_distributed"] / forward["shared"],
            "train_ratio": train["time_distributed"] / train["shared"],
            "trace_ratio": traces["time_distributed"][1] / traces["shared"][1],
            **{f"{name}_forward_ms": 1000 * forward[name] for name in steps},
            **{f"{name}_train_ms": 1000 * train[name] for name in steps},
            "batch": batch,
        }
        print(json.dumps({key: round(value, 2) for key, value in result.items()}))


if __name__ == "__main__":
    main()
