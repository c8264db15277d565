"""DescriptorNormalization: K vectors of a clip made into one descriptor of length 1."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad import ops


@keras.saving.register_keras_serializable(package="tfvlad")
class DescriptorNormalization(keras.layers.Layer):
    """`L2(flatten(intra-norm(h[1..K])))`, in float32.

    Args:
        intra_normalize: L2-normalise each cluster's vector before the whole.

    Call arguments:
        inputs: the K vectors of a clip, for example the last states of `SharedGRU`.

    Input shape:
        `(B, K, U)`.

    Output shape:
        `(B, K*U)`, cluster-major.

    Example:
        >>> DescriptorNormalization()(tf.random.normal((2, 64, 256))).shape
        TensorShape([2, 16384])

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3 (temporal aggregation); intra-normalisation: Arandjelovic and Zisserman,
        "All about VLAD".
    """

    def __init__(self, *, intra_normalize: bool = True, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.intra_normalize = intra_normalize

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) != 3:
            raise ValueError(
                "`DescriptorNormalization` needs inputs of shape (B, K, U). "
                f"Received: shape={shape}."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        vectors = ops.intra_normalize(inputs) if self.intra_normalize else inputs
        return tf.cast(ops.l2_normalize(ops.flatten_clusters(vectors)), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        batch, clusters, units = input_shape
        return (batch, None if None in (clusters, units) else clusters * units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "intra_normalize": self.intra_normalize}
