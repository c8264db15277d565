"""What the variants of an ablation change in the settings of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A training that differs from others in some of its settings.

    Attributes:
        name: as tables have it; its runs are in a folder of this name.
        changes: the settings of its own, by name.

    Example:
        >>> Variant("32 words", {"model": "action-vlad", "num_clusters": 32})
        Variant(name='32 words', changes={'model': 'action-vlad', 'num_clusters': 32})
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


# The rows of the two papers' studies, by name.
VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("action-vlad", {"model": "action-vlad", "attention": False}),
        Variant("vlad-gru", {"model": "ta-vlad", "attention": False}),
        Variant("ta-action-vlad", {"model": "action-vlad", "attention": True}),
        Variant("ta-vlad", {"model": "ta-vlad", "attention": True}),
        Variant("bidirectional", {"model": "ta-vlad", "attention": True, "bidirectional": True}),
        Variant(
            "flattened-gru", {"model": "ta-vlad", "attention": True, "temporal": "flattened_gru"}
        ),
        Variant(
            "separate-grus", {"model": "ta-vlad", "attention": True, "temporal": "separate_grus"}
        ),
        Variant(
            "frozen-attention", {"model": "ta-vlad", "attention": True, "freeze_attention": True}
        ),
        Variant(
            "fixed-centers", {"model": "action-vlad", "attention": False, "fixed_centers": True}
        ),
        Variant("average-pooling", {"model": "average-pooling"}),
        Variant("max-pooling", {"model": "max-pooling"}),
    )
}


def variant_of(variant: Variant | str) -> Variant:
    """A variant of `VARIANTS` by its name, or the variant itself.

    Raises:
        ValueError: when there is none of this name.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(
            f"`variants` must be `Variant`s or names of {', '.join(VARIANTS)}. "
            f"Received: {variant!r}."
        )
    return VARIANTS[variant]
