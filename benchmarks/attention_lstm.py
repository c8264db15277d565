"""The attention LSTM: `AttentionLSTM` against the equations, taken step by step.

The plain transcription projects the attended data at every step and multiplies `[v_t, k_t]` with
one kernel. The time of the layer's matrix products alone stands beside that of the layer.

python benchmarks/attention_lstm.py --quick --json
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measure import alternating_medians

from tfvlad.layers import AttentionLSTM

NUM_STEPS, NUM_ATTENDED, UNITS, MATCHING_UNITS, CHANNELS = 12, 12, 512, 512, 4096
BATCH = 200

Forward = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]


def make_layer() -> AttentionLSTM:
    layer = AttentionLSTM(UNITS, matching_units=MATCHING_UNITS)
    layer(tf.zeros((1, NUM_STEPS, CHANNELS)), tf.zeros((1, NUM_ATTENDED, CHANNELS)))
    return layer


def make_transcription(layer: AttentionLSTM) -> tuple[Forward, list[tf.Variable]]:
    """The equations with the layer's weights, and these."""
    inputs, bias, context, recurrent, memory, query, query_bias, score = layer.get_weights()
    weights = [
        tf.Variable(weight)
        for weight in (
            np.concatenate([inputs, context]),
            bias,
            recurrent,
            memory,
            query,
            query_bias,
            score,
        )
    ]
    kernel, bias, recurrent, memory, query, query_bias, score = weights

    def call(input_data: tf.Tensor, attended_data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        hidden = state = tf.zeros((BATCH, UNITS))
        states, maps = [], []
        for inputs in tf.unstack(input_data, axis=1):
            keys = tf.tensordot(attended_data, memory, axes=1)
            matching = tf.tanh(keys + (hidden @ query + query_bias)[:, tf.newaxis])
            scores = tf.tensordot(matching, score, axes=1)
            attention = tf.nn.softmax(scores, axis=1)  # (B, T, 1)
            context = tf.reduce_sum(attention * attended_data, axis=1)
            gates = tf.concat([inputs, context], axis=-1) @ kernel
            gates += hidden @ recurrent + bias
            enter, forget, candidate, leave = tf.split(gates, 4, axis=-1)
            state = tf.sigmoid(forget) * state + tf.sigmoid(enter) * tf.tanh(candidate)
            hidden = tf.sigmoid(leave) * tf.tanh(state)
            states.append(hidden)
            maps.append(attention[..., 0])
        return tf.stack(states, axis=1), tf.stack(maps, axis=1)

    return call, weights


def make_products() -> tuple[Forward, list[tf.Variable]]:
    """The layer's matrix products alone, on matrices of their own."""
    rows = BATCH * NUM_STEPS
    kernels = {
        "input": tf.Variable(tf.random.normal((CHANNELS, 4 * UNITS))),
        "context": tf.Variable(tf.random.normal((CHANNELS, 4 * UNITS))),
        "memory": tf.Variable(tf.random.normal((CHANNELS, MATCHING_UNITS))),
        "state": tf.Variable(tf.random.normal((UNITS, 4 * UNITS))),
        "query": tf.Variable(tf.random.normal((UNITS, MATCHING_UNITS))),
    }
    states = [tf.Variable(tf.random.normal((BATCH, UNITS))) for _ in range(NUM_STEPS)]

    def call(input_data: tf.Tensor, attended_data: tf.Tensor) -> tuple[tf.Tensor, ...]:
        inputs = tf.reshape(input_data, (rows, CHANNELS))
        attended = tf.reshape(attended_data, (BATCH * NUM_ATTENDED, CHANNELS))
        flat = (
            inputs @ kernels["input"],
            attended @ kernels["context"],
            attended @ kernels["memory"],
        )
        loop = (state @ kernels[name] for state in states for name in ("state", "query"))
        return (*flat, *loop)

    return call, [*kernels.values(), *states]


def make_steps(
    call: Forward, weights: list[tf.Variable], data: list[tf.Tensor]
) -> tuple[Callable[[], Sequence[tf.Tensor]], Callable[[], Sequence[tf.Tensor]]]:
    """A forward pass and a training step: forward, gradients of the inputs and all weights."""

    def train(*data: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(data)
            outputs = call(*data)
        # The gradient of half the sum of the squares.
        return tape.gradient(outputs, [*data, *weights], output_gradients=list(outputs))

    # Traced here, so that no call needs a warm-up.
    forward, train = (tf.function(f).get_concrete_function(*data) for f in (call, train))
    return lambda: forward(*data), lambda: train(*data)


def measure(
    functions: dict[str, Callable[[], Sequence[tf.Tensor]]], repeats: int, num_compared: int
) -> dict[str, float]:
    """Median seconds of each; the first results of the layer and the plain form must agree."""
    results = {}

    def keep(name: str) -> None:
        results[name] = functions[name]()[:num_compared]

    calls = {name: functools.partial(keep, name) for name in functions}
    seconds = alternating_medians(calls, repeats, warmups=0)
    for one, other in zip(results["layer"], results["plain"], strict=True):
        error = float(tf.reduce_max(tf.abs(one - other)) / tf.reduce_max(tf.abs(other)))
        if error > 1e-3:
            raise RuntimeError(f"The layer differs from the plain transcription by {error:.1e}.")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one training step each, fewer calls")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    inference_repeats, train_repeats = (5, 1) if arguments.quick else (15, 7)

    data = [
        tf.random.stateless_normal((BATCH, steps, CHANNELS), seed=(0, seed))
        for seed, steps in enumerate((NUM_STEPS, NUM_ATTENDED))
    ]
    layer = make_layer()
    steps = {
        "layer": make_steps(layer, layer.trainable_variables, data),
        "plain": make_steps(*make_transcription(layer), data),
        "products": make_steps(*make_products(), data),
    }
    # States and attention; gradients of the two inputs.
    inference = measure({name: steps[name][0] for name in steps}, inference_repeats, 2)
    train = measure({name: steps[name][1] for name in steps}, train_repeats, 2)
    print(
        f"N={NUM_STEPS} T={NUM_ATTENDED} U={UNITS} M={MATCHING_UNITS} "
        f"Dv=Da={CHANNELS} batch {BATCH}"
    )
    print(f"{'':12}{'inference ms':>14}{'train ms':>12}")
    for name in steps:
        print(f"{name:12}{1000 * inference[name]:14.0f}{1000 * train[name]:12.0f}")
    result = {
        "inference_ratio": inference["plain"] / inference["layer"],
        "train_ratio": train["plain"] / train["layer"],
        "inference_product_share": inference["products"] / inference["layer"],
        "train_product_share": train["products"] / train["layer"],
    }
    for name, value in result.items():
        print(f"{name:26}{value:6.2f}")
    if arguments.json:
        for name in steps:
            result[f"{name}_inference_ms"] = 1000 * inference[name]
            result[f"{name}_train_ms"] = 1000 * train[name]
        print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
