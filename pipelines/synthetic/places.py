"""Places, as textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Place:
    """A background.

    Attributes:
        noun: its name.
        texture: draws a square RGB image of a size in pixels.
    """

    noun: str
    texture: Callable[[int, np.random.Generator], np.ndarray]


def _grass(size: int, generator: np.random.Generator) -> np.ndarray:
    image = np.full((size, size, 3), generator.integers((40, 95, 25), (75, 130, 55)), np.uint8)
    num_blades = size * size // 14
    roots = generator.integers(0, size, (num_blades, 2))
    tips = roots + generator.integers((-3, -9), (4, -3), (num_blades, 2))
    colors = generator.integers((30, 90, 20), (120, 190, 80), (num_blades, 3))
    for root, tip, color in zip(roots.tolist(), tips.tolist(), colors.tolist(), strict=True):
        cv2.line(image, root, tip, color, 1, cv2.LINE_AA)
    return image


def _bricks(size: int, generator: np.random.Generator) -> np.ndarray:
    image = np.full((size, size, 3), generator.integers(165, 205), np.uint8)
    base = generator.integers((140, 60, 45), (185, 95, 75))
    height = int(generator.integers(7, 11))
    for row, top in enumerate(range(0, size, height)):
        for left in range(-(row % 2) * height, size, 2 * height):
            color = np.clip(base + generator.integers(-20, 21), 0, 255).tolist()
            corner = (left + 2 * height - 3, top + height - 3)
            cv2.rectangle(image, (left, top), corner, color, cv2.FILLED)
    return image


def _water(size: int, generator: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    ripple = 2 * np.sin(x / generator.uniform(5, 9) + generator.uniform(0, 2 * np.pi))
    wave = np.sin(y / generator.uniform(1.2, 2) + ripple)
    base = generator.integers((30, 85, 140), (65, 125, 185))
    return np.clip(base + 28 * wave[..., np.newaxis], 0, 255).astype(np.uint8)


def _sand(size: int, generator: np.random.Generator) -> np.ndarray:
    base = generator.integers((190, 165, 115), (220, 195, 150))
    grain = generator.normal(0, 14, (size, size, 1))
    image = np.clip(base + grain, 0, 255).astype(np.uint8)
    num_pebbles = size * size // 60
    centers = generator.integers(0, size, (num_pebbles, 2))
    colors = base - generator.integers(20, 80, (num_pebbles, 1))
    radii = generator.integers(1, 3, num_pebbles)
    for center, radius, color in zip(
        centers.tolist(), radii.tolist(), colors.tolist(), strict=True
    ):
        cv2.circle(image, center, radius, color, cv2.FILLED, cv2.LINE_AA)
    return image


PLACES = (
    Place("grass", _grass),
    Place("bricks", _bricks),
    Place("water", _water),
    Place("sand", _sand),
)
