"""Top-down attention: the class activation map of each frame's winning object class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad import compat, ops

_REDUCTIONS = ("sum", "mean")
_NORMALIZATIONS = ("softmax", "sigmoid", "min_max", "relu_sum")
# The others are the same for the map times a number.
_WITH_TEMPERATURE = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable(package="tfvlad")
class TopDownAttention(keras.layers.Layer):
    """Spatial attention from the class activation map of a frame's winning class.

    ```
    s_c  = W_c . mean_i f_i + b_c        p = argmax_c s_c
    M(i) = sum_l W_{p,l} f_{l,i}         attention = softmax_i (M(i) / temperature)
    ```

    `W` and `b` are the dense layer with which the backbone classifies objects. The argmax has no
    gradient; gradients reach the winning row `W_p` and the features. Computed in float32.

    Args:
        num_objects: number of object classes of the dense layer.
        reduction: of the weighted channels, "sum" or "mean". The paper says "depth-wise average
            pooled", code of its authors for the same attention sums; the mean is D times smaller
            and leaves the softmax nearly uniform, so the sum is the default.
        normalization: "softmax" over the positions (the paper's), "sigmoid" of each position,
            "min_max" (to [0, 1] in each frame), or "relu_sum" (positive part, divided by its sum).
        temperature: the map is divided by it before a softmax or a sigmoid; above 1 the attention
            is spread over more locations. The paper's is 1.

    Call arguments:
        features: the last feature map after its activation.

    Input shape:
        `(B, T, N, D)` or `(B, T, H, W, D)`.

    Output shape:
        `(B, T, N)` or `(B, T, H, W)`: the weight of each location.

    Example:
        >>> layer = TopDownAttention(num_objects=1000)
        >>> layer(tf.random.normal((2, 25, 7, 7, 512))).shape
        TensorShape([2, 25, 7, 7])

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3 (spatial attention); Zhou et al., "Learning Deep Features for
        Discriminative Localization".
    """

    def __init__(
        self,
        num_objects: int,
        *,
        reduction: str = "sum",
        normalization: str = "softmax",
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        if not isinstance(num_objects, int) or num_objects < 1:
            raise ValueError(
                f"`num_objects` must be a positive integer. Received: num_objects={num_objects}."
            )
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {_REDUCTIONS}. Received: reduction={reduction!r}."
            )
        if normalization not in _NORMALIZATIONS:
            raise ValueError(
                f"`normalization` must be one of {_NORMALIZATIONS}. "
                f"Received: normalization={normalization!r}."
            )
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive. Received: temperature={temperature}."
            )
        if temperature != 1 and normalization not in _WITH_TEMPERATURE:
            raise ValueError(
                f"`temperature` has no effect on normalization={normalization!r}. "
                f"Received: temperature={temperature}. Leave it out."
            )
        self.num_objects = num_objects
        self.reduction = reduction
        self.normalization = normalization
        self.temperature = temperature
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) not in (4, 5) or shape[-1] is None:
            raise ValueError(
                "`TopDownAttention` needs features of shape (B, T, N, D) or (B, T, H, W, D) with a "
                f"known number of channels. Received: shape={shape}."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(int(shape[-1]), self.num_objects),
            dtype="float32",
            initializer="glorot_uniform",
            **compat.NO_AUTOCAST,
        )
        # It takes part in the argmax alone and would never get a gradient.
        self.bias = self.add_weight(
            name="bias",
            shape=(self.num_objects,),
            dtype="float32",
            initializer="zeros",
            trainable=False,
            **compat.NO_AUTOCAST,
        )
        super().build(input_shape)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(features)
        # (B, T, H, W, D) -> (B, T, H*W, D); -1 would refuse an empty batch
        locations = tf.reduce_prod(shape[2:-1])
        flat = tf.reshape(features, [shape[0], shape[1], locations, features.shape[-1]])
        activation = ops.class_activation_map(flat, self.kernel, self.bias, self.reduction)
        attention = ops.normalize_map(activation / self.temperature, self.normalization)
        return tf.cast(tf.reshape(attention, shape[:-1]), self.compute_dtype)

    def set_classifier(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Set the dense layer: `kernel` `(D, num_objects)`, `bias` `(num_objects,)`.

        Raises:
            ValueError: when the layer is not built, or a shape is wrong.
        """
        if not self.built:
            raise ValueError(
                f"`set_classifier` needs a built layer. Received: an unbuilt layer '{self.name}'. "
                "Call the layer on features first."
            )
        expected = tuple(self.kernel.shape)
        if np.shape(kernel) != expected or np.shape(bias) != expected[1:]:
            raise ValueError(
                f"`kernel` must have shape {expected} and `bias` {expected[1:]}. "
                f"Received: kernel of shape {np.shape(kernel)}, bias of shape {np.shape(bias)}."
            )
        self.kernel.assign(kernel)
        self.bias.assign(bias)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape[:-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_objects": self.num_objects,
            "reduction": self.reduction,
            "normalization": self.normalization,
            "temperature": self.temperature,
        }
