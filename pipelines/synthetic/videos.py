"""Small labelled videos and still images, drawn instead of filmed.

An object changes its state in a place: a flower opens on grass, a glass empties on bricks. The
class is the object, the place and the direction of the change; every video is in the data twice,
as it is and played backwards, so that nothing but the order of its frames tells twin classes
apart. Around it: another object that does not change, moving clutter, a panning camera, changing
light, noise and compression.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.lists.annotations import read_folder
from pipelines.lists.records import Split
from pipelines.progress import track
from pipelines.storage.files import write_aside, write_json
from pipelines.synthetic.places import PLACES, Place
from pipelines.synthetic.scenes import Scene
from pipelines.synthetic.things import THINGS, Thing
from pipelines.video.codec.encoding import write_video

MANIFEST = "synthetic.json"
# Of the scenes with a rival, what decides the class and what never does.
_DECIDING, _RIVALS = THINGS[:2], THINGS[2:]
_RIVAL_SCALES = (0.3, 0.46)
# Key frames alone: predicted frames differ from their reversal, which would give it away.
_X264_OPTIONS = {"qp": "30", "g": "1", "threads": "1"}


class StillImages(NamedTuple):
    """The images of `make_still_images`.

    Attributes:
        images: RGB, uint8, `(num_images, image_size, image_size, 3)`.
        labels: index of each image's object in `class_names`, `(num_images,)`.
        class_names: the objects in either state, and "another object" where there are rivals.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


class SyntheticClips(NamedTuple):
    """The clips of `make_synthetic_clips`, n clips of T frames.

    A box is left, top, right and bottom edge in pixels, 0 being the image's left or top edge.

    Attributes:
        frames: RGB, uint8, `(n, T, image_size, image_size, 3)`.
        labels: index of each clip's class in `class_names`, int32 `(n,)`.
        class_names: what changes, and in which direction.
        boxes: of the changing object, float64 `(n, T, 4)`.
        rival_boxes: of the other one, which may be partly behind the first, `(n, T, 4)`.
    """

    frames: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    boxes: np.ndarray
    rival_boxes: np.ndarray


def make_synthetic_videos(
    folder: str | os.PathLike[str],
    *,
    num_classes: int = 8,
    num_train_clips: int = 60,
    num_test_clips: int = 20,
    num_frames: int = 24,
    image_size: int = 80,
    seed: int = 0,
) -> Split:
    """Writes `train/<class>/<name>.mp4` and `test/<class>/<name>.mp4`.

    A scene is filmed once and gives two videos, one for each twin class: the second is the first
    played backwards. Their file names tell the common source as UCF101's do. A folder that was made
    with the same arguments is reused.

    Args:
        folder: made if it is missing; must be empty otherwise.
        num_classes: an even number up to 32, twins included.
        num_train_clips: training videos of each class.
        num_test_clips: test videos of each class.
        num_frames: frames of each video, at least 2.
        image_size: width and height in pixels, an even number, at least 32.
        seed: changes every video.

    Returns:
        The records of both parts, as `pipelines.lists.annotations.read_folder` reads them.

    Raises:
        ValueError: when an argument is out of range.
        FileExistsError: when `folder` holds anything else.
    """
    for name, value, least in (
        ("num_train_clips", num_train_clips, 1),
        ("num_test_clips", num_test_clips, 1),
        ("num_frames", num_frames, 2),
        ("image_size", image_size, 32),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")
    if image_size % 2:
        raise ValueError(f"`image_size` must be even. Received: image_size={image_size}.")
    pairs = _class_pairs(num_classes)
    num_clips = {"train": num_train_clips, "test": num_test_clips}
    manifest = {
        "classes": [name for thing, place in pairs for name in _twin_names(thing, place)],
        "num_clips": num_clips,
        "num_frames": num_frames,
        "image_size": image_size,
        "seed": seed,
    }
    folder = Path(folder)
    if not _is_complete(folder, manifest):
        with write_aside(folder) as aside:
            _write_videos(aside, pairs, num_clips, num_frames, image_size, seed)
            write_json(aside / MANIFEST, manifest)
            if folder.exists():
                folder.rmdir()
    train, test = (read_folder(str(folder / part)) for part in num_clips)
    return Split(train.records, test.records, train.class_names)


def make_still_images(
    num_images: int, *, image_size: int = 64, seed: int = 0, has_rivals: bool = False
) -> StillImages:
    """Draws objects in either end state, on cluttered places, for a small image classifier.

    Args:
        num_images: number of images; the classes take turns.
        image_size: width and height in pixels.
        seed: changes every image.
        has_rivals: draw scenes like those of `make_synthetic_clips` instead. Beside each object
            that decides a class there is one that never does, and which is not labelled; images
            with two of the latter are a class of their own, lest the absence of one object tells
            the other.

    Raises:
        ValueError: when `num_images` is not positive or `image_size` is below 32.
    """
    if num_images < 1:
        raise ValueError(f"`num_images` must be positive. Received: num_images={num_images}.")
    if image_size < 32:
        raise ValueError(f"`image_size` must be at least 32. Received: image_size={image_size}.")
    things = _DECIDING if has_rivals else THINGS
    class_names = tuple(name for thing in things for name in thing.states)
    if has_rivals:
        class_names += ("another object",)
    images = np.empty((num_images, image_size, image_size, 3), np.uint8)
    labels = np.arange(num_images) % len(class_names)
    for index, label in enumerate(labels):
        generator = np.random.default_rng([seed, index])
        place = PLACES[generator.integers(len(PLACES))]
        contents: dict[str, Any] = {"scales": (0.35, 0.8), "has_decoy": False}
        if has_rivals:
            contents = _draw_rival(generator)
        is_other = label == 2 * len(things)
        thing = _RIVALS[generator.integers(len(_RIVALS))] if is_other else things[label // 2]
        scene = Scene(thing, place, image_size, generator, **contents)
        state = generator.uniform(0, 0.25)
        images[index] = scene.draw(generator.uniform(), 1 - state if label % 2 else state)
    return StillImages(images, labels, class_names)


def make_synthetic_clips(
    num_clips: int, *, num_frames: int = 16, image_size: int = 64, seed: int = 0
) -> SyntheticClips:
    """Draws clips in memory, with the place of the objects in every frame.

    The class is the object that changes, a flower or a glass, and the direction; the place tells
    nothing. Neither size, place in the image, motion nor change tell the object from the other one
    beside it, an umbrella or a lamp, which decides nothing: only what they look like.

    Args:
        num_clips: number of clips n; the classes take turns.
        num_frames: frames of each clip T, at least 2.
        image_size: width and height in pixels, at least 32.
        seed: changes every clip.

    Raises:
        ValueError: when an argument is out of range.
    """
    for name, value, least in (
        ("num_clips", num_clips, 1),
        ("num_frames", num_frames, 2),
        ("image_size", image_size, 32),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")
    class_names = tuple(f"{thing.noun}_{verb}" for thing in _DECIDING for verb in thing.verbs)
    labels = np.arange(num_clips, dtype=np.int32) % len(class_names)
    frames = np.empty((num_clips, num_frames, image_size, image_size, 3), np.uint8)
    boxes = np.empty((2, num_clips, num_frames, 4))
    for index, label in enumerate(labels):
        generator = np.random.default_rng((seed, 2, index))
        place = PLACES[generator.integers(len(PLACES))]
        options = _draw_rival(generator)
        clip = _render_clip(
            _DECIDING[label // 2], place, num_frames, image_size, generator, **options
        )
        ordered = slice(None, None, -1 if label % 2 else 1)
        frames[index], boxes[:, index] = clip[0][ordered], clip[1][:, ordered]
    return SyntheticClips(frames, labels, class_names, *boxes)


def _class_pairs(num_classes: int) -> list[tuple[Thing, Place]]:
    most = 2 * len(THINGS) * len(PLACES)
    if num_classes % 2 or not 2 <= num_classes <= most:
        raise ValueError(
            f"`num_classes` must be an even number from 2 to {most}. "
            f"Received: num_classes={num_classes}."
        )
    indices = itertools.product(range(len(THINGS)), range(len(PLACES)))
    # Things and places in equal numbers, so that neither gives the other away.
    squares = sorted(indices, key=lambda pair: (max(pair), pair))
    return [(THINGS[thing], PLACES[place]) for thing, place in squares[: num_classes // 2]]


def _twin_names(thing: Thing, place: Place) -> list[str]:
    return [f"{thing.noun}_{verb}_on_{place.noun}" for verb in thing.verbs]


def _is_complete(folder: Path, manifest: dict) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / MANIFEST
    if path.is_file() and json.loads(path.read_text()) == manifest:
        return True
    raise FileExistsError(
        f"{folder} holds other files or videos made with other arguments. "
        "Name another folder, or delete this one."
    )


def _write_videos(
    root: Path,
    pairs: Sequence[tuple[Thing, Place]],
    num_clips: Mapping[str, int],
    num_frames: int,
    image_size: int,
    seed: int,
) -> None:
    for part, (thing, place) in itertools.product(num_clips, pairs):
        for name in _twin_names(thing, place):
            (root / part / name).mkdir(parents=True)

    def write_twins(job: tuple[int, int, int]) -> None:
        part, pair, clip = job
        thing, place = pairs[pair]
        generator = np.random.default_rng((seed, *job))
        frames, _ = _render_clip(thing, place, num_frames, image_size, generator)
        for direction, name in enumerate(_twin_names(thing, place)):
            file = f"v_{thing.noun}_{place.noun}_g{clip:03d}_c{direction}.mp4"
            ordered = frames[::-1] if direction else frames
            path = root / list(num_clips)[part] / name / file
            write_video(path, ordered, 24, x264_options=_X264_OPTIONS)

    jobs = [
        (part, pair, clip)
        for part, count in enumerate(num_clips.values())
        for pair in range(len(pairs))
        for clip in range(count)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(write_twins, jobs)
        for _ in track(done, "Drawing videos", len(jobs)):
            pass


def _draw_rival(generator: np.random.Generator) -> dict[str, Any]:
    return {"rival": _RIVALS[generator.integers(len(_RIVALS))], "scales": _RIVAL_SCALES}


def _render_clip(
    thing: Thing,
    place: Place,
    num_frames: int,
    image_size: int,
    generator: np.random.Generator,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """The frames, and the boxes `(2, num_frames, 4)` of the thing and of the decoy."""
    scene = Scene(thing, place, image_size, generator, **options)
    begin, end = generator.uniform(0, 0.25), generator.uniform(0.75, 1)
    times = np.linspace(0, 1, num_frames)
    moments = list(zip(times, np.clip((times - begin) / (end - begin), 0, 1), strict=True))
    frames = np.stack([scene.draw(*moment) for moment in moments])
    boxes = [[box(*moment) for moment in moments] for box in (scene.box, scene.decoy_box)]
    return frames, np.stack(boxes)
