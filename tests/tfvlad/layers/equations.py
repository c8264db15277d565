"""The papers' equations in numpy, written out index by index and independent of `tfvlad.ops`.

`N` local features, `D` channels, `K` clusters, `O` object classes, `U` units, `T` frames.
"""

from __future__ import annotations

import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.sum(x**2))
    return x / length if length > 0 else x


def unit_rows(x: np.ndarray) -> np.ndarray:
    rows = [unit(row) for row in x.reshape(-1, x.shape[-1])]
    return np.array(rows).reshape(x.shape)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - np.max(x))
    return powers / np.sum(powers)


def assign(features, kernel, bias):
    """`a_k(x_i) = softmax_k(w_k . x_i + b_k)` of `(N, D)`: `(N, K)`."""
    num_clusters = kernel.shape[1]
    return np.array(
        [
            softmax(np.array([np.dot(kernel[:, k], x) + bias[k] for k in range(num_clusters)]))
            for x in features
        ]
    )


def vlad(features, kernel, bias, centers, weights=None):
    """`V[k] = sum_i g_i a_k(x_i) (x_i - c_k)` of `(N, D)`: `(K, D)`."""
    weights = np.ones(len(features)) if weights is None else weights
    assignments = assign(features, kernel, bias)
    encoded = np.zeros(centers.shape, np.result_type(features, "float64"))
    for i, x in enumerate(features):
        for k, center in enumerate(centers):
            encoded[k] += weights[i] * assignments[i, k] * (x - center)
    return encoded


def class_activation_map(features, kernel, bias, reduction="sum"):
    """`M(i) = sum_l W_{p,l} f_{l,i}` of the winner p of `(N, D)`: `(N,)`."""
    mean = sum(features) / len(features)
    num_objects = kernel.shape[1]
    winner = np.argmax([np.dot(kernel[:, c], mean) + bias[c] for c in range(num_objects)])
    activation = np.zeros(len(features), "float64")
    for i, feature in enumerate(features):
        for channel, value in enumerate(feature):
            activation[i] += kernel[channel, winner] * value
    return activation / (features.shape[-1] if reduction == "mean" else 1)


def normalize_map(activation, normalization):
    if normalization == "softmax":
        return softmax(activation)
    if normalization == "sigmoid":
        return 1 / (1 + np.exp(-activation))
    if normalization == "min_max":
        return (activation - activation.min()) / (activation.max() - activation.min())
    positive = np.maximum(activation, 0)
    return positive / positive.sum() if positive.any() else positive


def gru(inputs, kernel, recurrent_kernel, bias, state, mask=None):
    """States of `(T, D)` rows, gates update, reset, candidate: `(T, U)`."""
    units = len(state)
    update, reset, candidate = (slice(n * units, (n + 1) * units) for n in range(3))
    states = []
    for t, x in enumerate(inputs):
        gx = x @ kernel + bias[0]
        gh = state @ recurrent_kernel + bias[1]
        z = 1 / (1 + np.exp(-gx[update] - gh[update]))
        r = 1 / (1 + np.exp(-gx[reset] - gh[reset]))
        new = np.tanh(gx[candidate] + r * gh[candidate])
        if mask is None or mask[t]:
            state = z * state + (1 - z) * new
        states.append(state)
    return np.array(states)
