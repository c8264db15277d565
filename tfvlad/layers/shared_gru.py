"""SharedGRU: one GRU over time, shared by all clusters, a memory state for each."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad.layers.cluster_gru import ClusterGRU


@keras.saving.register_keras_serializable(package="tfvlad")
class SharedGRU(ClusterGRU):
    """A GRU with one set of weights that follows each cluster of a VLAD descriptor over time.

    ```
    h_t[k] = GRU(V_t[k], h_{t-1}[k])
    ```

    The clusters are folded into the batch and the input products of all steps are one matrix
    product outside the loop. Weights and equations are those of `keras.layers.GRU` (with
    `reset_after=True`): `TimeDistributed(GRU(units))` over the cluster axis gives the same.

    Args:
        units: size U of the state of a cluster.
        bidirectional: a second GRU reads the frames from last to first; the states are concatenated
            to 2U.
        update_bias: first value of the update gate's bias. Above 0 a cluster's state outlives
            frames in which the cluster is empty: 2 keeps a share of 0.88 from frame to frame, 0
            keeps half.
        return_sequences: return the state after each frame instead of the last one.
        return_state: return `(output, state)`; the state can be given back as `initial_state` to go
            on with the next frames.

    Call arguments:
        inputs: VLAD vectors of the frames.
        initial_state: optional `(B, K, U)` (2U when bidirectional); zeros by default.
        mask: optional boolean `(B, T)`; the states pass over a masked frame unchanged. Keras 3
            hands on a mask by itself only to a layer called with one tensor: give it by name
            together with `initial_state`.

    Input shape:
        `(B, T, K, D)`.

    Output shape:
        `(B, K, U)`; with `return_sequences`, `(B, T, K, U)`. The state is `(B, K, U)`. 2U in the
        place of U when bidirectional.

    Example:
        >>> layer = SharedGRU(256)
        >>> layer(tf.random.normal((2, 25, 64, 512))).shape
        TensorShape([2, 64, 256])

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3 (temporal aggregation).
    """

    # The clusters are folded into the batch: R = B*K rows.

    def _add_gru_weight(self, name: str, shape: tuple, initializer: Any, clusters: Any) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def _to_rows(self, x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)
        rows = shape[-3] * shape[-2]  # -1 would refuse an empty batch
        flat = tf.reshape(x, tf.concat([shape[:-3], [rows], shape[-1:]], axis=0))
        return tf.ensure_shape(flat, [*x.shape[:-3], None, x.shape[-1]])

    def _from_rows(self, rows: tf.Tensor, batch: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(rows)
        sizes = tf.concat([shape[:-2], [batch, clusters], shape[-1:]], axis=0)
        return tf.reshape(rows, sizes)

    def _project(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        time, num_rows, channels = tf.unstack(tf.shape(rows))
        # (T, R, D) -> (T*R, D): a product of two matrices has the cheapest gradient
        flat = tf.matmul(tf.reshape(rows, [time * num_rows, channels]), kernel) + bias
        projected = tf.reshape(flat, [time, num_rows, 3 * self.units])
        return tf.ensure_shape(projected, [rows.shape[0], None, 3 * self.units])
