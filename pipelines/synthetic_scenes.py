"""Drawing of the synthetic videos: things that change, places, and scenes made of them."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

Color = tuple[int, int, int]  # RGB
Polygon = tuple[np.ndarray, Color]  # points, (num_points, 2), of a thing in units of its size


@dataclass(frozen=True)
class Thing:
    """An object that changes from one state (0) to another (1).

    Attributes:
        noun: Its name.
        verbs: What it does from state 0 to 1, and backwards.
        states: What it is called in state 0 and in state 1.
        polygons: The polygons to draw for a state and a color.
    """

    noun: str
    verbs: tuple[str, str]
    states: tuple[str, str]
    polygons: Callable[[float, Color], list[Polygon]]


@dataclass(frozen=True)
class Place:
    """A background.

    Attributes:
        noun: Its name.
        texture: Draws a square RGB image of a size in pixels.
    """

    noun: str
    texture: Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Sprite:
    """What moves over the background. Each row is the start or the end of a clip.

    Attributes:
        polygons: The polygons to draw for a state.
        path: Centres in pixels, `(2, 2)`.
        scale: Sizes in pixels, `(2,)`.
        tilt: Angles in radians, `(2,)`.
    """

    polygons: Callable[[float], list[Polygon]]
    path: np.ndarray
    scale: np.ndarray
    tilt: np.ndarray

    def draw(self, frame: np.ndarray, time: float, state: float) -> None:
        """Draws it into `frame` at `time` (0 to 1)."""
        for corners, color in self._placed(time, state):
            fixed_point = np.round(corners * 16).astype(np.int32)
            cv2.fillPoly(frame, [fixed_point], color, cv2.LINE_AA, shift=4)

    def box(self, time: float, state: float, image_size: int) -> np.ndarray:
        """Left, top, right and bottom edge in the image, in pixels from its top left corner."""
        corners = np.concatenate([corners for corners, _ in self._placed(time, state)])
        # OpenCV's coordinates count from the middle of the first pixel.
        edges = np.concatenate([corners.min(axis=0), corners.max(axis=0)]) + 0.5
        return np.clip(edges, 0, image_size)

    def _placed(self, time: float, state: float) -> Iterator[Polygon]:
        """The polygons in pixels."""
        center, scale, tilt = (_between(ends, time) for ends in (self.path, self.scale, self.tilt))
        for points, color in self.polygons(state):
            yield points @ _rotation(float(tilt)) * scale + center, color


class Scene:
    """A changing thing in a place, among moving clutter and seen by a panning camera.

    Everything but the noise is drawn from `generator` at construction.

    Args:
        thing: What changes.
        place: The background.
        image_size: Width and height in pixels.
        generator: The source of all randomness.
        scales: Least and largest size of the thing, as shares of the image.
        has_decoy: Whether another, smaller thing, that does not change, stands by.
        rival: A thing that stands by in the decoy's place, changes too, and is neither smaller nor
            farther from the middle: what the things look like alone tells them apart.
    """

    def __init__(
        self,
        thing: Thing,
        place: Place,
        image_size: int,
        generator: np.random.Generator,
        *,
        scales: tuple[float, float] = (0.42, 0.58),
        has_decoy: bool = True,
        rival: Thing | None = None,
    ):
        self.image_size = image_size
        self.generator = generator
        texture_size = int(1.5 * image_size)
        self.texture = place.texture(texture_size, generator)
        self.pan = generator.uniform(0, texture_size - image_size, (2, 2))
        self.light = generator.uniform(0.7, 1.15, (2, 1)) * generator.uniform(0.92, 1.08, 3)
        self.noise = generator.uniform(3, 8)
        color = _random_color(generator)
        self.actor = Sprite(
            lambda state: thing.polygons(state, color),
            path=generator.uniform(0.36, 0.64, (2, 2)) * image_size,
            scale=generator.uniform(*scales, 2) * image_size,
            tilt=generator.uniform(-0.3, 0.3, 2),
        )
        num_pieces = generator.integers(4, 9)
        self.bystanders = [_clutter(image_size, generator) for _ in range(num_pieces)]
        self.decoy: Sprite | None = None
        if rival:
            self.decoy = self._rival(rival, scales)
        elif has_decoy:
            self.decoy = self._decoy(thing)
        if self.decoy:
            self.bystanders.append(self.decoy)

    def box(self, time: float, state: float) -> np.ndarray:
        """The changing thing's box in that frame: left, top, right, bottom in pixels, float64.

        It holds all of its outline that is in the image, whatever its state; nothing is in front
        of it. 0 is the image's left or top edge, not the middle of its first pixel.
        """
        return self.actor.box(time, state, self.image_size)

    def decoy_box(self, time: float, state: float) -> np.ndarray:
        """The other thing's box, parts behind the changing thing included."""
        if self.decoy is None:
            raise ValueError("This scene has no decoy. Make it with `has_decoy=True`.")
        return self.decoy.box(time, state, self.image_size)

    def draw(self, time: float, state: float) -> np.ndarray:
        """Draws the frame at `time` (0 to 1) with the thing in `state` (0 to 1), RGB uint8."""
        left, top = np.round(_between(self.pan, time)).astype(int)
        frame = self.texture[top : top + self.image_size, left : left + self.image_size].copy()
        for sprite in [*self.bystanders, self.actor]:
            sprite.draw(frame, time, state)
        noise = self.generator.normal(0, self.noise, frame.shape)
        return np.clip(frame * _between(self.light, time) + noise, 0, 255).astype(np.uint8)

    def _rival(self, rival: Thing, scales: tuple[float, float]) -> Sprite:
        """Moves the changing thing off the middle; the rival is on the other side of it."""
        generator, size = self.generator, self.image_size
        angle = generator.uniform(0, 2 * np.pi)
        offset = 0.26 * size * np.array([np.cos(angle), np.sin(angle)])
        self.actor = replace(self.actor, path=self.actor.path + offset)
        color, turned = _random_color(generator), generator.uniform() < 0.5
        return Sprite(
            lambda state: rival.polygons(1 - state if turned else state, color),
            path=generator.uniform(0.36, 0.64, (2, 2)) * size - offset,
            scale=generator.uniform(*scales, 2) * size,
            tilt=generator.uniform(-0.3, 0.3, 2),
        )

    def _decoy(self, thing: Thing) -> Sprite:
        generator, size = self.generator, self.image_size
        others = [other for other in THINGS if other is not thing]
        other = others[generator.integers(len(others))]
        polygons = other.polygons(generator.uniform(), _random_color(generator))
        # Beside the changing thing, in the corner that has most room.
        away = self.actor.path.mean(axis=0) > size / 2
        corner = np.where(away, 0.14, 0.86) + generator.uniform(-0.06, 0.06, (2, 2))
        scale = np.full(2, generator.uniform(0.22, 0.32) * size)
        tilt = generator.uniform(-0.3, 0.3, 2)
        return Sprite(lambda _: polygons, corner * size, scale, tilt)


def _clutter(image_size: int, generator: np.random.Generator) -> Sprite:
    num_corners = generator.integers(3, 8)
    turn = np.sort(generator.uniform(0, 2 * np.pi, num_corners))
    points = 0.5 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    path = generator.uniform(-0.1, 1.1, (2, 2)) * image_size
    scale = np.full(2, generator.uniform(0.08, 0.25) * image_size)
    polygons = [(points, _random_color(generator))]
    return Sprite(lambda _: polygons, path, scale, generator.uniform(-3, 3, 2))


def _between(ends: np.ndarray, time: float) -> np.ndarray:
    return ends[0] + time * (ends[1] - ends[0])


def _random_color(generator: np.random.Generator) -> Color:
    hue, saturation, value = generator.uniform((0, 0.5, 0.6), 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points = np.stack([radius_x * np.cos(turn), radius_y * np.sin(turn)], axis=1)
    return points @ _rotation(angle) + (x, y)


def _rotation(angle: float) -> np.ndarray:
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
