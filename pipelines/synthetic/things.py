"""Things that change, as polygons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Color = tuple[int, int, int]  # RGB
Polygon = tuple[np.ndarray, Color]  # points, (num_points, 2), of a thing in units of its size


@dataclass(frozen=True)
class Thing:
    """An object that changes from one state (0) to another (1).

    Attributes:
        noun: its name.
        verbs: what it does from state 0 to 1, and backwards.
        states: what it is called in state 0 and in state 1.
        polygons: the polygons to draw for a state and a color.
    """

    noun: str
    verbs: tuple[str, str]
    states: tuple[str, str]
    polygons: Callable[[float, Color], list[Polygon]]


def _ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points = np.stack([radius_x * np.cos(turn), radius_y * np.sin(turn)], axis=1)
    return points @ rotation(angle) + (x, y)


def rotation(angle: float) -> np.ndarray:
    """The matrix that turns points `(num_points, 2)` from the right by an angle, radians."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _flower(state: float, color: Color) -> list[Polygon]:
    polygons = [(_box(-0.03, 0, 0.03, 0.5), (40, 110, 40))]
    spread = 0.2 + state * 2.5
    for angle in np.linspace(-spread, spread, 7):
        x, y = 0.24 * np.sin(angle), -0.12 - 0.24 * np.cos(angle)
        polygons.append((_ellipse(x, y, 0.1, 0.2, angle), color))
    if state > 0.2:
        polygons.append((_ellipse(0, -0.12, 0.13 * state, 0.13 * state), (250, 220, 60)))
    return polygons


def _glass(state: float, color: Color) -> list[Polygon]:
    def fill(level: float, wall: float) -> np.ndarray:
        top, bottom = 0.22 + 0.12 * level - wall, 0.22 - wall
        left_to_right = [-top, top, bottom, -bottom]
        return np.stack([left_to_right, [0.5 - level, 0.5 - level, 0.5 - wall, 0.5 - wall]], axis=1)

    polygons = [(fill(1, 0), (235, 240, 245)), (fill(0.98, 0.05), (150, 165, 175))]
    if state > 0:
        polygons.append((fill(0.06 + 0.86 * state, 0.05), color))
    return polygons


def _umbrella(state: float, color: Color) -> list[Polygon]:
    wood, half, height = (70, 50, 40), 0.07 + 0.43 * state, 0.75 - 0.4 * state
    polygons = [(_box(-0.025, -0.45, 0.025, 0.5), wood), (_box(-0.12, 0.44, 0.025, 0.5), wood)]
    rim = height - 0.45
    for index in range(4):
        share = np.linspace(index / 2 - 1, index / 2 - 0.5, 5)  # of the half width
        arc = np.stack([half * share, rim - height * np.sqrt(1 - share**2)], axis=1)
        foot = [[half * share[-1], rim], [half * share[0], rim]]
        polygons.append((np.concatenate([arc, foot]), color if index % 2 else (245, 245, 240)))
    return polygons


def _lamp(state: float, color: Color) -> list[Polygon]:
    light = int(50 + 205 * state), int(50 + 195 * state), int(60 + 110 * state)
    shade = np.array([[-0.18, -0.45], [0.18, -0.45], [0.36, 0.05], [-0.36, 0.05]])
    foot = _ellipse(0, 0.46, 0.25, 0.06)
    return [(_box(-0.04, 0, 0.04, 0.5), color), (foot, color), (shade, light)]


THINGS = (
    Thing("flower", ("opens", "closes"), ("flower bud", "open flower"), _flower),
    Thing("glass", ("fills", "empties"), ("empty glass", "full glass"), _glass),
    Thing("umbrella", ("opens", "closes"), ("closed umbrella", "open umbrella"), _umbrella),
    Thing("lamp", ("lights", "darkens"), ("dark lamp", "lit lamp"), _lamp),
)
