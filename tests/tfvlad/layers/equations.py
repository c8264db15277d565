"""The papers' equations in numpy, written out index by index and independent of `tfvlad.ops`.

`N` local features, `D` channels, `K` clusters, `O` object classes, `U` units, `T` frames. Of the
attention LSTM: `N` steps of input data with `Dv` channels, `T` attended data with `Da` channels.
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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


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
        return sigmoid(activation)
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
        z = sigmoid(gx[update] + gh[update])
        r = sigmoid(gx[reset] + gh[reset])
        new = np.tanh(gx[candidate] + r * gh[candidate])
        if mask is None or mask[t]:
            state = z * state + (1 - z) * new
        states.append(state)
    return np.array(states)


def bahdanau_attention(hidden, memory, weights, mask=None):
    """`softmax_i(s . tanh(W_h h + W_a a_i + b))` of `(U,)` and `(T, Da)`: `(T,)`."""
    scores = [
        np.tanh(hidden @ weights["query"] + a @ weights["memory"] + weights["query_bias"])
        @ weights["score"][:, 0]
        for a in memory
    ]
    real = range(len(memory)) if mask is None else np.flatnonzero(mask)
    attention = np.zeros(len(memory), "float64")
    if len(real):
        attention[real] = softmax(np.array(scores)[real])
    return attention


def lstm_step(x, context, hidden, cell, weights):
    """States h, c `(U,)` after the input `(Dv,)` and the context `(Da,)`."""
    units = len(hidden)
    gates = x @ weights["input"] + context @ weights["context"] + hidden @ weights["recurrent"]
    enter, forget, candidate, leave = (gates + weights["bias"]).reshape(4, units)
    cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
    return sigmoid(leave) * np.tanh(cell), cell


def attention_lstm(
    input_data,
    attended_data,
    weights,
    states,
    attend="every_step",
    mask=None,
    attended_mask=None,
):
    """States `(N, U)`, attention `(N, T)` or `(1, T)` and the last h, c of one clip."""
    hidden, cell = states
    num_steps, num_attended = len(input_data), len(attended_data)
    mask = np.ones(num_steps, bool) if mask is None else mask
    last = max(np.flatnonzero(mask), default=None)
    hiddens, maps = [], np.zeros((num_steps, num_attended))
    for t in range(num_steps):
        if mask[t]:
            context = np.zeros(attended_data.shape[1])
            if attend == "every_step" or t == last:
                maps[t] = bahdanau_attention(hidden, attended_data, weights, attended_mask)
                context = maps[t] @ attended_data
            hidden, cell = lstm_step(input_data[t], context, hidden, cell, weights)
        hiddens.append(hidden)
    if attend == "last_step":
        maps = np.zeros((1, num_attended)) if last is None else maps[last : last + 1]
    return np.array(hiddens), maps, hidden, cell


def mean_score(logits, mask=None, multi_label=False, step_weights=None):
    """`log mean_t softmax` or `logit mean_t sigmoid` of `(N, C)`: `(C,)`."""
    steps = range(len(logits)) if mask is None or not np.any(mask) else np.flatnonzero(mask)
    weights = np.ones(len(logits)) if step_weights is None else step_weights
    total = sum(weights[t] for t in steps)
    if multi_label:
        mean = sum(weights[t] * sigmoid(logits[t]) for t in steps) / total
        return np.log(mean / (1 - mean))
    return np.log(sum(weights[t] * softmax(logits[t]) for t in steps) / total)
