"""The pictures of `tfvlad show`, from what a model makes of clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from tfvlad import visualization
from tfvlad.models import intermediate_outputs
from tfvlad.training import ClipSource

# Of the videos of a test list, those with a folder of their own.
_NUM_DRAWN = 8
_NUM_TOP_WORDS = 8
# Of a video's feature maps, in the embedding.
_NUM_LOCATIONS = 100
_MIN_EMBEDDED = 4


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of n clips.

    Attributes:
        names: of the clips.
        classes: of the clips, true or predicted.
        frames: to draw on, uint8 `(n, T, H, W, 3)`.
        attention: by the stage of the training, `(n, T, h, w)`; empty without attention.
        assignments: `(n, T, h, w, K)`, None without action words.
        features: of some locations, `(n, num_locations, D)`.
        descriptors: `(n, M)`.
    """

    names: Sequence[str]
    classes: Sequence[str]
    frames: np.ndarray
    attention: dict[str, np.ndarray]
    assignments: np.ndarray | None
    features: np.ndarray
    descriptors: np.ndarray

    def title(self, i: int) -> str:
        """Of the pictures of clip i."""
        return f"{self.names[i]}: {self.classes[i]}"


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def choose(model: keras.Model, what: Sequence[str], num_clips: int) -> Sequence[str]:
    """The pictures that were asked for, or without any all that can be drawn.

    Raises:
        ValueError: one that was asked for cannot be drawn, or none can.
    """
    layers = {layer.name for layer in model.layers}
    no_words = (
        f"'{model.name}' has no action words: they belong to a model with VLAD, such as TA-VLAD."
    )
    missing = {}
    if "attention" not in layers:
        missing["attention"] = (
            f"'{model.name}' has no spatial attention: a TA-VLAD trained with it has."
        )
    if "vlad" not in layers:
        missing |= {"words": no_words, "track": no_words}
    if num_clips < _MIN_EMBEDDED:
        missing["embedding"] = (
            f"An embedding needs {_MIN_EMBEDDED} or more videos. Received: {num_clips}."
        )
    pictures = ("attention", "words", "track", "embedding")
    chosen = [name for name in what or pictures if what or name not in missing]
    for name in chosen or missing:
        if name in missing:
            raise ValueError(missing[name])
    return chosen


def load_first_stage(folder: Path) -> keras.Model | None:
    """The model as it was before stage 2; None where there was no stage 2."""
    if not (folder / "stage2.keras").exists():
        return None
    try:
        return keras.models.load_model(folder / "stage1.keras")
    except TypeError as error:  # Keras 2 and 3 do not read each other's models
        raise ValueError(
            f"'{folder / 'stage1.keras'}' was written by another version of Keras, which alone can "
            "show the attention after stage 1."
        ) from error


def look(
    model: keras.Model,
    first_stage: keras.Model | None,
    source: ClipSource,
    names: Sequence[str],
    classes: Sequence[str] | None,
) -> Seen:
    """Run the model on every clip.

    Args:
        model: of the run.
        first_stage: the model as it was before stage 2, whose attention is kept too.
        source: the clips.
        names: of the clips.
        classes: of the clips; None takes the predicted ones.
    """
    outputs = intermediate_outputs(model)
    before = intermediate_outputs(first_stage, ["attention"]) if first_stage else None
    found: dict[str, list[np.ndarray]] = {}
    generator = np.random.default_rng(0)
    clips = source.clips(augment=False, variant=0)
    for clip in track(clips, "Clips", len(source), console=Console(stderr=True), transient=True):
        batch = np.array(clip[np.newaxis])
        tensors = {name: value[0] for name, value in outputs.predict_on_batch(batch).items()}
        locations = tensors["feature_map"].reshape(-1, tensors["feature_map"].shape[-1])
        number = min(_NUM_LOCATIONS, len(locations))
        kept = {
            "frames": _visible(batch[0]),
            "features": locations[generator.choice(len(locations), number, replace=False)],
            **{
                name: tensors[name]
                for name in ("attention", "assignments", "descriptor", "logits")
                if name in tensors
            },
        }
        if before:
            kept["attention before"] = before.predict_on_batch(batch)["attention"][0]
        for name, value in kept.items():
            found.setdefault(name, []).append(value)
    arrays = {name: np.stack(values) for name, values in found.items()}
    stages = ["attention before", "attention"] if before else ["attention"]
    attention = {
        f"after stage {number}": arrays[name]
        for number, name in enumerate(stages, 1)
        if name in arrays
    }
    predicted = [source.class_names[i] for i in arrays["logits"].argmax(axis=-1)]
    return Seen(
        names,
        classes or predicted,
        arrays["frames"],
        attention,
        arrays.get("assignments"),
        arrays["features"],
        arrays["descriptor"].reshape(len(names), -1),
    )


def draw(
    seen: Seen, chosen: Sequence[str], word: int | None, *, draw_all: bool
) -> Iterator[tuple[Path, Figure]]:
    """The chosen pictures with their places in the output folder.

    Args:
        seen: what the model made of the clips.
        chosen: what `choose` returned.
        word: action word to track; None takes the one with the largest share of each video.
        draw_all: draw each video, not only some.
    """
    count = len(seen.names)
    drawn = spread(count, count if draw_all else _NUM_DRAWN)
    if "attention" in chosen:
        for i in drawn:
            maps = {name: maps[i] for name, maps in seen.attention.items()}
            figure = visualization.attention_figure(seen.frames[i], maps, title=seen.title(i))
            yield Path(seen.names[i], "attention.png"), figure
    if seen.assignments is not None:
        yield from _draw_words(seen, seen.assignments, drawn, chosen, word)
    if "embedding" in chosen:
        owners = [name for i in drawn for name in [seen.names[i]] * seen.features.shape[1]]
        points = visualization.embed(seen.features[drawn].reshape(len(owners), -1))
        figure = visualization.embedding_figure(points, owners, title="Local features")
        yield Path("tsne_features.png"), figure
        points = visualization.embed(seen.descriptors)
        figure = visualization.embedding_figure(points, seen.classes, title="Descriptors")
        yield Path("tsne_descriptors.png"), figure


def _draw_words(
    seen: Seen,
    assignments: np.ndarray,
    drawn: Sequence[int],
    chosen: Sequence[str],
    word: int | None,
) -> Iterator[tuple[Path, Figure]]:
    latest = list(seen.attention.values())[-1:]
    # (n, T, K) -> (n, K)
    shares = visualization.word_shares(assignments, *latest).mean(axis=1)
    for i in drawn:
        clip, title = (seen.frames[i], assignments[i]), seen.title(i)
        if "words" in chosen:
            figure = visualization.word_map_figure(*clip, title=title)
            yield Path(seen.names[i], "words.png"), figure
        if "track" in chosen:
            tracked = int(shares[i].argmax()) if word is None else word
            figure = visualization.word_track_figure(*clip, tracked, title=title)
            yield Path(seen.names[i], "track.png"), figure
    if "words" in chosen:
        top = np.argsort(-shares.mean(axis=0), kind="stable")[:_NUM_TOP_WORDS].tolist()
        figure = visualization.action_words_figure(seen.frames, assignments, top)
        yield Path("words.png"), figure


def _visible(clip: np.ndarray) -> np.ndarray:
    """RGB frames as they are; of stacks of optical flow, the mean speed of each pixel."""
    if clip.shape[-1] == 3:
        return clip
    # (T, H, W, 2L) -> (T, H, W, L, 2)
    flow = clip.reshape(*clip.shape[:-1], -1, 2).astype("float32") - 127.5
    speed = np.linalg.norm(flow, axis=-1).mean(axis=-1, keepdims=True)
    scaled = 255 * speed / max(float(speed.max()), 1e-12)
    return np.repeat(scaled, 3, axis=-1).astype("uint8")
