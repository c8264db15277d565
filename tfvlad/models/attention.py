"""Top-down attention made from a backbone's own classifier."""

from __future__ import annotations

from typing import Any

from tfvlad.backbones import Backbone
from tfvlad.layers import TopDownAttention


def top_down_attention(backbone: Backbone, features: Any, temperature: float) -> Any:
    """Attention `(B, T, h, w)` over the backbone's features, starting from its classifier."""
    if backbone.classifier_kernel is None or backbone.classifier_bias is None:
        raise ValueError(
            "Top-down attention needs a backbone that ends in average pooling and one dense "
            f"layer. Received: backbone '{backbone.name}' without a classifier. Give "
            "`classifier_kernel` and `classifier_bias`, or build the model with attention=False."
        )
    layer = TopDownAttention(
        backbone.classifier_kernel.shape[-1],
        temperature=temperature,
        name="attention",
        # A decoupled attention is not fine-tuned.
        trainable=not backbone.has_frozen_copy,
    )
    attention = layer(features)
    layer.set_classifier(backbone.classifier_kernel, backbone.classifier_bias)
    return attention
