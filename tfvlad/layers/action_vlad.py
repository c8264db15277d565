"""ActionVLAD: one VLAD descriptor over all locations of all frames of a clip."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad import ops
from tfvlad.layers.net_vlad import NetVLAD


@keras.saving.register_keras_serializable(package="tfvlad")
class ActionVLAD(NetVLAD):
    """VLAD encoding over space and time.

    ```
    V[k] = sum_t sum_i g_it a_k(x_it) (x_it - c_k)
    ```

    followed by intra-normalisation, flattening (cluster-major) and the L2 norm of the whole. The
    weights, their start and the arguments are those of `NetVLAD`.

    Args:
        num_clusters: number of clusters K ("action words").
        alpha: sharpness of the initial assignments, or "auto", see `NetVLAD`.
        normalize_input: L2-normalise the features over D first.
        intra_normalize: L2-normalise each cluster's vector.
        normalize_descriptor: L2-normalise the whole descriptor.
        return_assignments: return `(descriptor, assignments)` instead of the descriptor alone.

    Call arguments:
        features: local features, see the input shape.
        weights: optional weight of each location, the features' shape without D.
        mask: optional boolean `(B, T)`; a masked frame weighs zero. Keras 3 hands on a mask by
            itself only to a layer called with one tensor: give it by name together with `weights`.

    Input shape:
        `(B, T, N, D)` or `(B, T, H, W, D)`.

    Output shape:
        `(B, K*D)`; the assignments have the features' shape with K in the place of D. A clip whose
        frames are all masked gives zeros.

    Example:
        >>> layer = ActionVLAD(num_clusters=8)
        >>> layer(tf.random.normal((2, 25, 49, 512))).shape
        TensorShape([2, 4096])

    Reference:
        Girdhar et al., "ActionVLAD: Learning spatio-temporal aggregation for action
        classification", the equation of V[., k]; the sum is taken factored, see
        `tfvlad.ops.aggregate_residuals`.
    """

    _ranks = (4, 5)
    _expected_shape = "(B, T, N, D) or (B, T, H, W, D)"

    def call(
        self, features: tf.Tensor, weights: tf.Tensor | None = None, mask: tf.Tensor | None = None
    ) -> Any:
        features, assignments, mass = self._assign(features, weights, mask)
        # (B, T, N, .) -> (B, T*N, .): one bag of features a clip
        batch, time, locations, _ = tf.unstack(tf.shape(features))
        features = tf.reshape(features, [batch, time * locations, features.shape[-1]])
        mass = tf.reshape(mass, [batch, time * locations, self.num_clusters])
        vlad = ops.aggregate_residuals(features, mass, self.centers)
        if self.intra_normalize:
            vlad = ops.intra_normalize(vlad)
        descriptor = ops.flatten_clusters(vlad)
        if self.normalize_descriptor:
            descriptor = ops.l2_normalize(descriptor)
        return self._outputs(descriptor, assignments)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return (None, None) if self.return_assignments else None

    def _vlad_shape(self, features_shape: tuple) -> tuple:
        return (features_shape[0], self.num_clusters * features_shape[-1])
