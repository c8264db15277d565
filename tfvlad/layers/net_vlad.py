"""NetVLAD: learned VLAD pooling of each frame's local features."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad import compat, ops


@keras.saving.register_keras_serializable(package="tfvlad")
class NetVLAD(keras.layers.Layer):
    """VLAD encoding of the local features of each frame.

    ```
    a_k(x_i) = softmax_k(w_k . x_i + b_k)
    V[k]     = sum_i g_i a_k(x_i) (x_i - c_k)
    ```

    with the weight `g_i` of a location (1, or an attention). The kernel `w`, the bias `b` and the
    centres `c` are three independent weights; they start tied, `w_k = 2 alpha c_k` and
    `b_k = -alpha |c_k|^2`, so that the first assignments are a softmax of the negative squared
    distances times `alpha`. Assignments and sums are float32 whatever the dtype policy.

    Args:
        num_clusters: number of clusters K ("action words").
        alpha: sharpness of the initial assignments, or "auto": the second nearest centre gets about
            1/100 of the nearest one's weight, `alpha = -ln(0.01) / mean(d2^2 - d1^2)`, measured on
            the descriptors given to `set_centers` (without them, on the centres themselves).
        normalize_input: L2-normalise the features over D first.
        intra_normalize: L2-normalise each cluster's vector.
        normalize_descriptor: L2-normalise the K vectors of a frame together.
        return_assignments: return `(vlad, assignments)` instead of the VLAD alone.

    Call arguments:
        features: local features, see the input shape.
        weights: optional weight of each location, the features' shape without D.
        mask: optional boolean `(B, T)`; a masked frame weighs zero. For single images `(B, N)`: a
            masked location weighs zero. Keras 3 hands on a mask by itself only to a layer called
            with one tensor: give it by name together with `weights`.

    Input shape:
        `(B, T, N, D)`, `(B, T, H, W, D)`, or `(B, N, D)` for single images.

    Output shape:
        `(B, T, K, D)` (`(B, K, D)` for single images); the assignments have the features' shape
        with K in the place of D. A frame without weight, or an empty cluster, gives zeros.

    Example:
        >>> layer = NetVLAD(num_clusters=8)
        >>> layer(tf.random.normal((2, 25, 49, 512))).shape
        TensorShape([2, 25, 8, 512])

    Reference:
        Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition",
        equations 3 and 4; the location weights are those of TA-VLAD (Sudhakaran and Lanz),
        section 3. Their alpha is 1000, after ActionVLAD (Girdhar et al.).
    """

    def __init__(
        self,
        num_clusters: int,
        *,
        alpha: float | str = 1000.0,
        normalize_input: bool = True,
        intra_normalize: bool = True,
        normalize_descriptor: bool = True,
        return_assignments: bool = False,
        **kwargs: Any,
    ):
        # Autocasting would round the features before the float32 assignments see them.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(num_clusters, int) or num_clusters < 1:
            raise ValueError(
                f"`num_clusters` must be a positive integer. Received: num_clusters={num_clusters}."
            )
        if alpha != "auto" and not (isinstance(alpha, (int, float)) and alpha > 0):
            raise ValueError(
                f'`alpha` must be a positive number or "auto". Received: alpha={alpha!r}.'
            )
        self.num_clusters = num_clusters
        self.alpha = alpha
        self.normalize_input = normalize_input
        self.intra_normalize = intra_normalize
        self.normalize_descriptor = normalize_descriptor
        self.return_assignments = return_assignments
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) not in self._ranks or shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` needs features of shape {self._expected_shape} with a "
                f"known number of channels. Received: shape={shape}."
            )
        channels = int(shape[-1])
        centers = np.random.standard_normal((self.num_clusters, channels))
        centers /= np.linalg.norm(centers, axis=-1, keepdims=True)
        kernel, bias = self._assignment_parameters(centers, self._sharpness(centers, None))
        self.kernel = self._add_weight("kernel", kernel)
        self.bias = self._add_weight("bias", bias)
        self.centers = self._add_weight("centers", centers)
        super().build(input_shape)

    _ranks: tuple[int, ...] = (3, 4, 5)
    _expected_shape = "(B, T, N, D), (B, T, H, W, D) or (B, N, D)"

    def _add_weight(self, name: str, value: np.ndarray) -> Any:
        def initializer(shape: Any, dtype: Any = None) -> tf.Tensor:
            return tf.constant(value, shape=tuple(shape), dtype=dtype or tf.float32)

        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype="float32",
            initializer=initializer,
            **compat.NO_AUTOCAST,
        )

    def call(
        self, features: tf.Tensor, weights: tf.Tensor | None = None, mask: tf.Tensor | None = None
    ) -> Any:
        features, assignments, mass = self._assign(features, weights, mask)
        vlad = ops.aggregate_residuals(features, mass, self.centers)
        if self.intra_normalize:
            vlad = ops.intra_normalize(vlad)
        if self.normalize_descriptor:
            vlad *= tf.math.rsqrt(
                tf.maximum(tf.reduce_sum(vlad**2, axis=(-2, -1), keepdims=True), ops.EPSILON)
            )
        return self._outputs(vlad, assignments)

    def _assign(
        self, features: tf.Tensor, weights: tf.Tensor | None, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalised features `(..., N, D)`, assignments in the input's shape and `(..., N, K)`."""
        if features.shape.rank == 5:
            # (B, T, H, W, D) -> (B, T, H*W, D)
            shape, channels = tf.shape(features), features.shape[-1]
            locations = shape[2] * shape[3]  # -1 would refuse an empty batch
            features = tf.reshape(features, [shape[0], shape[1], locations, channels])
            if weights is not None:
                weights = tf.reshape(weights, [shape[0], shape[1], locations])
            map_shape = tf.concat([shape[:-1], [self.num_clusters]], axis=0)
        else:
            map_shape = None
        features = ops.l2_normalize(features) if self.normalize_input else features
        assignments = ops.soft_assign(features, self.kernel, self.bias)
        mass = assignments
        if weights is not None:
            mass *= tf.cast(weights, tf.float32)[..., tf.newaxis]
        if mask is not None:
            # (B, T) -> (B, T, 1, 1), (B, N) -> (B, N, 1)
            new_axes = [tf.newaxis] * (mass.shape.rank - 2)
            mass *= tf.cast(mask, tf.float32)[(..., *new_axes)]
        if map_shape is not None:
            assignments = tf.reshape(assignments, map_shape)
        return features, assignments, mass

    def _outputs(self, vlad: tf.Tensor, assignments: tf.Tensor) -> Any:
        vlad = tf.cast(vlad, self.compute_dtype)
        if self.return_assignments:
            return vlad, tf.cast(assignments, self.compute_dtype)
        return vlad

    def set_centers(self, centers: np.ndarray, descriptors: np.ndarray | None = None) -> None:
        """Set the centres and tie the assignment's kernel and bias to them.

        Args:
            centers: `(K, D)`, for example k-means centres of L2-normalised features.
            descriptors: `(M, D)` features on which `alpha="auto"` is measured.

        Raises:
            ValueError: when the layer is not built, or a shape is wrong.
        """
        if not self.built:
            raise ValueError(
                f"`set_centers` needs a built layer. Received: an unbuilt layer '{self.name}'. "
                "Call the layer on features first."
            )
        expected = tuple(self.centers.shape)
        centers = np.asarray(centers, dtype="float64")
        if centers.shape != expected:
            raise ValueError(
                f"`centers` must have shape {expected}. Received: shape={centers.shape}."
            )
        if descriptors is not None and (
            np.shape(descriptors)[1:] != expected[1:] or len(descriptors) == 0
        ):
            raise ValueError(
                f"`descriptors` must have shape (M, {expected[1]}) with at least one row. "
                f"Received: shape={np.shape(descriptors)}."
            )
        sharpness = self._sharpness(centers, descriptors)
        kernel, bias = self._assignment_parameters(centers, sharpness)
        self.kernel.assign(kernel.astype("float32"))
        self.bias.assign(bias.astype("float32"))
        self.centers.assign(centers.astype("float32"))

    def _sharpness(self, centers: np.ndarray, descriptors: np.ndarray | None) -> float:
        if self.alpha != "auto":
            return float(self.alpha)
        if len(centers) < 2:
            return 1.0
        points = centers if descriptors is None else np.asarray(descriptors, dtype="float64")
        if self.normalize_input and descriptors is not None:
            points = points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-12)
        squared = (
            np.sum(points**2, axis=-1)[:, np.newaxis]
            - 2 * points @ centers.T
            + np.sum(centers**2, axis=-1)
        )
        nearest = np.partition(squared, 1, axis=-1)
        return -math.log(0.01) / max(float(np.mean(nearest[:, 1] - nearest[:, 0])), 1e-12)

    @staticmethod
    def _assignment_parameters(
        centers: np.ndarray, sharpness: float
    ) -> tuple[np.ndarray, np.ndarray]:
        return 2 * sharpness * centers.T, -sharpness * np.sum(centers**2, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        return (mask, None) if self.return_assignments else mask

    def _vlad_shape(self, features_shape: tuple) -> tuple:
        frames = tuple(features_shape[1:2]) if len(features_shape) > 3 else ()
        return (features_shape[0], *frames, self.num_clusters, features_shape[-1])

    def compute_output_shape(self, features_shape: Any, weights_shape: Any = None) -> Any:
        vlad_shape = self._vlad_shape(tuple(features_shape))
        if self.return_assignments:
            return vlad_shape, (*features_shape[:-1], self.num_clusters)
        return vlad_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_clusters": self.num_clusters,
            "alpha": self.alpha,
            "normalize_input": self.normalize_input,
            "intra_normalize": self.intra_normalize,
            "normalize_descriptor": self.normalize_descriptor,
            "return_assignments": self.return_assignments,
        }
