"""Scenes of a changing thing in a place, drawn frame by frame."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipelines.synthetic.places import Place
from pipelines.synthetic.things import THINGS, Color, Polygon, Thing, rotation


@dataclass(frozen=True)
class Sprite:
    """What moves over the background. Each row is the start or the end of a clip.

    Attributes:
        polygons: the polygons to draw for a state.
        path: centres in pixels, `(2, 2)`.
        scale: sizes in pixels, `(2,)`.
        tilt: angles in radians, `(2,)`.
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
            yield points @ rotation(float(tilt)) * scale + center, color


class Scene:
    """A changing thing in a place, among moving clutter and seen by a panning camera.

    Everything but the noise is drawn from `generator` at construction.

    Args:
        thing: what changes.
        place: the background.
        image_size: width and height in pixels.
        generator: the source of all randomness.
        scales: least and largest size of the thing, as shares of the image.
        has_decoy: whether another, smaller thing, that does not change, stands by.
        rival: a thing that stands by in the decoy's place, changes too, and is neither smaller nor
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
