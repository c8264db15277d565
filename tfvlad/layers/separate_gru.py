"""SeparateGRUs: a GRU with its own weights for each cluster."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad.layers.cluster_gru import ClusterGRU


@keras.saving.register_keras_serializable(package="tfvlad")
class SeparateGRUs(ClusterGRU):
    """K GRUs with weights of their own, which follow the clusters of a VLAD descriptor over time.

    ```
    h_t[k] = GRU_k(V_t[k], h_{t-1}[k])
    ```

    `SharedGRU` without sharing: K times its weights. They are stacked, `(K, D, 3U)`, `(K, U, 3U)`
    and `(K, 2, 3U)`, and a step of all clusters is one batched matrix product. Cluster k equals
    `keras.layers.GRU` (with `reset_after=True`) of the k-th weights, and starts as that one does.

    Args:
        units: size U of the state of a cluster.
        bidirectional: a second GRU of each cluster reads the frames from last to first; the states
            are concatenated to 2U.
        update_bias: see `SharedGRU`.
        return_sequences: return the state after each frame instead of the last one.
        return_state: return `(output, state)`; the state can be given back as `initial_state` to go
            on with the next frames.

    Call arguments:
        inputs: VLAD vectors of the frames.
        initial_state: see `SharedGRU`.
        mask: see `SharedGRU`.

    Input shape:
        `(B, T, K, D)`.

    Output shape:
        That of `SharedGRU`.

    Example:
        >>> layer = SeparateGRUs(256)
        >>> layer(tf.random.normal((2, 25, 64, 512))).shape
        TensorShape([2, 64, 256])

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 4.2 (the variant with an independent GRU for each cluster).
    """

    _known_sizes = ("K", "D")

    # Clusters come first, (K, B, F), as the batched product takes them.

    def _add_gru_weight(self, name: str, shape: tuple, initializer: Any, clusters: Any) -> Any:
        def stacked(shape: Any, dtype: Any = None) -> tf.Tensor:
            # One initializer gives every cluster the same numbers in Keras 3.
            draws = [keras.initializers.get(initializer) for _ in range(shape[0])]
            return tf.stack([draw(shape[1:], dtype=dtype) for draw in draws])

        return self.add_weight(name=name, shape=(clusters, *shape), initializer=stacked)

    def _to_rows(self, x: tf.Tensor) -> tf.Tensor:
        return _swap_batch_and_clusters(x)

    def _from_rows(self, rows: tf.Tensor, batch: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
        return _swap_batch_and_clusters(rows)

    def _project(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        return tf.einsum("tkbd,kdu->tkbu", rows, kernel) + bias


def _swap_batch_and_clusters(x: tf.Tensor) -> tf.Tensor:
    *leading, first, second, last = range(x.shape.rank)
    return tf.transpose(x, [*leading, second, first, last])
