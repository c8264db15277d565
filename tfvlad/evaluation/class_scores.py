"""The classes of the highest probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ClassScore(NamedTuple):
    """A class and its probability."""

    class_name: str
    probability: float


def top_classes(
    class_names: Sequence[str], probabilities: ArrayLike, k: int = 5
) -> list[ClassScore]:
    """The k most probable classes, the most probable one first.

    Args:
        class_names: of the C classes.
        probabilities: of the classes, `(C,)`; of equal ones the first in `class_names` comes first.
        k: classes returned; fewer where there are fewer.

    Raises:
        ValueError: when `k` is not positive, or the lengths differ.
    """
    if k < 1:
        raise ValueError(f"`k` must be a positive integer. Received: k={k}.")
    row = np.asarray(probabilities, np.float64)
    if row.shape != (len(class_names),):
        raise ValueError(
            f"`probabilities` must have the shape ({len(class_names)},), one for each class. "
            f"Received: shape={row.shape}."
        )
    order = np.argsort(-row, kind="stable")[:k]
    return [ClassScore(class_names[i], float(row[i])) for i in order]
