"""Pure tensor functions: soft assignment, residual aggregation, norms, attention maps, the GRU.

Shapes: `B` batch, `T` frames, `N` local features of a frame, `D` channels, `K` clusters, `U` units.
"""

from __future__ import annotations

import tensorflow as tf

EPSILON = 1e-12


def l2_normalize(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """`x / |x|` in float32; a zero vector stays zero and has a finite gradient."""
    # The epsilon is 0 in float16, where an empty cluster would become NaN.
    return tf.math.l2_normalize(tf.cast(x, tf.float32), axis=axis, epsilon=EPSILON)


def soft_assign(features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Soft assignment of local features to clusters, `softmax_k(w_k . x_i + b_k)`, in float32.

    With sharpness 1000 the logits span about [-900, 480]: half precision flips assignments.

    Args:
        features: `(..., N, D)`.
        kernel: `(D, K)`, the `w_k` as columns.
        bias: `(K,)`.

    Returns:
        float32 `(..., N, K)`; sums to 1 over the clusters.
    """
    # One flat product: a batched one that broadcasts the kernel takes twice as long on a CPU.
    logits = tf.tensordot(tf.cast(features, tf.float32), tf.cast(kernel, tf.float32), axes=1)
    return tf.nn.softmax(logits + tf.cast(bias, tf.float32), axis=-1)


def aggregate_residuals(
    features: tf.Tensor, assignments: tf.Tensor, centers: tf.Tensor
) -> tf.Tensor:
    """`V[k] = sum_i a_k(x_i) (x_i - c_k)`, factored as `A^T X - diag(sum_i a_i) C`, in float32.

    The factored form never holds the `(N, K, D)` tensor of residuals.

    Args:
        features: `(..., N, D)`.
        assignments: `(..., N, K)`, already times any weight of the location.
        centers: `(K, D)`.

    Returns:
        float32 `(..., K, D)`.
    """
    assignments = tf.cast(assignments, tf.float32)
    sums = tf.matmul(assignments, tf.cast(features, tf.float32), transpose_a=True)
    mass = tf.reduce_sum(assignments, axis=-2)
    return sums - mass[..., tf.newaxis] * tf.cast(centers, tf.float32)


def intra_normalize(vlad: tf.Tensor) -> tf.Tensor:
    """Intra-normalisation: each cluster's vector of `(..., K, D)` gets length 1."""
    return l2_normalize(vlad, axis=-1)


def flatten_clusters(vlad: tf.Tensor) -> tf.Tensor:
    """`(..., K, D) -> (..., K*D)`, cluster-major."""
    dynamic = tf.shape(vlad)
    flat = tf.reshape(vlad, tf.concat([dynamic[:-2], [dynamic[-2] * dynamic[-1]]], axis=0))
    *leading, num_clusters, channels = vlad.shape
    known = None if None in (num_clusters, channels) else num_clusters * channels
    return tf.ensure_shape(flat, [*leading, known])


def class_activation_map(
    features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, reduction: str = "sum"
) -> tf.Tensor:
    """Class activation map of each frame's winning class, `M(i) = sum_l W_{p,l} f_{l,i}`.

    Args:
        features: `(..., N, D)`, the last feature map after its activation.
        kernel: `(D, O)` of the dense layer that classifies the averaged features into O objects.
        bias: `(O,)`; it takes part in choosing the winner, not in the map.
        reduction: over channels, "sum" or "mean".

    Returns:
        float32 `(..., N)`.
    """
    features = tf.cast(features, tf.float32)
    kernel = tf.cast(kernel, tf.float32)
    scores = tf.matmul(tf.reduce_mean(features, axis=-2), kernel) + tf.cast(bias, tf.float32)
    winner_row = tf.gather(tf.transpose(kernel), tf.argmax(scores, axis=-1))  # (..., D)
    activation = tf.matmul(features, winner_row[..., tf.newaxis])[..., 0]
    if reduction == "mean":
        activation /= tf.cast(tf.shape(features)[-1], tf.float32)
    return activation


def normalize_map(activation: tf.Tensor, normalization: str) -> tf.Tensor:
    """Turn an activation map `(..., N)` into attention weights, see `TopDownAttention`."""
    if normalization == "softmax":
        return tf.nn.softmax(activation, axis=-1)
    if normalization == "sigmoid":
        return tf.sigmoid(activation)
    if normalization == "min_max":
        low = tf.reduce_min(activation, axis=-1, keepdims=True)
        span = tf.reduce_max(activation, axis=-1, keepdims=True) - low
        # A constant map, that of a padded frame for one, gives zeros with a zero gradient.
        return tf.math.divide_no_nan(activation - low, span)
    positive = tf.nn.relu(activation)  # "relu_sum"
    return tf.math.divide_no_nan(positive, tf.reduce_sum(positive, axis=-1, keepdims=True))


def gru_states(
    projected: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    initial_state: tf.Tensor,
    mask: tf.Tensor | None = None,
    reverse: bool = False,
) -> tf.Tensor:
    """All states of a GRU whose input products were taken outside the loop.

    The equations are those of Keras' GRU with `reset_after=True` (Cho et al., 2014; the reset gate
    acts after the recurrent product, as in cuDNN), gates in the order update, reset, candidate.

    Args:
        projected: `(T, R, 3U)`, `x_t W + b` of R independent rows; `(T, K, R, 3U)` of K GRUs with
            weights of their own.
        recurrent_kernel: `(U, 3U)`; of K GRUs `(K, U, 3U)`.
        recurrent_bias: `(3U,)`; of K GRUs `(K, 1, 3U)`.
        initial_state: `(R, U)`; of K GRUs `(K, R, U)`.
        mask: `(T, R, 1)` boolean or None, of K GRUs `(T, K, R, 1)`; a row keeps its state where it
            is False.
        reverse: run from the last step to the first.

    Returns:
        `(T, R, U)`, of K GRUs `(T, K, R, U)`: the state after each step, at the step's own index.
    """

    def step(state: tf.Tensor, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        gates = tf.matmul(state, recurrent_kernel) + recurrent_bias
        x_update, x_reset, x_candidate = tf.split(inputs[0], 3, axis=-1)
        h_update, h_reset, h_candidate = tf.split(gates, 3, axis=-1)
        update = tf.sigmoid(x_update + h_update)
        candidate = tf.tanh(x_candidate + tf.sigmoid(x_reset + h_reset) * h_candidate)
        new_state = update * state + (1 - update) * candidate
        return new_state if mask is None else tf.where(inputs[1], new_state, state)

    elements = (projected,) if mask is None else (projected, mask)
    return tf.scan(step, elements, initializer=initial_state, reverse=reverse)
