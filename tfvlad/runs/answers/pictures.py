"""Pictures of what a run's model sees in videos."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from pipelines.lists.records import VideoRecord
from pipelines.progress import track
from pipelines.storage.files import write_aside
from pipelines.video.index import BrokenVideo
from pipelines.video.info import BrokenVideoError
from tfvlad import visualization
from tfvlad.models import parts_of
from tfvlad.runs.clip_sources import (
    clip_source,
    index_streams,
    leave_out_broken,
    source_of_videos,
)
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.data import clip_names, read_lists
from tfvlad.runs.settings.rules import without_effect
from tfvlad.training import ClipSource
from tfvlad.training.streams import streams_of
from tfvlad.visualization import SeenClips

PICTURES = ("attention", "words", "track", "embedding")
# Of the videos of a test list, those that are looked at, and those with pictures of their own.
NUM_VIDEOS = 60
_NUM_DRAWN = 8
_NUM_TOP_WORDS = 8
_MIN_EMBEDDED = 4

_Drawings = dict[str, Callable[[], Figure]]


class Pictures(Mapping[str, Figure]):
    """Figures by name, such as "kick/a/attention": each is drawn when it is asked for.

    Args:
        drawings: from a figure's name to what draws it.
        broken: videos that could not be read, and why.
    """

    def __init__(
        self, drawings: Mapping[str, Callable[[], Figure]], broken: Sequence[BrokenVideo] = ()
    ):
        self._drawings = dict(drawings)
        self.broken = tuple(broken)

    def __getitem__(self, name: str) -> Figure:
        return self._drawings[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawings)

    def __len__(self) -> int:
        return len(self._drawings)

    def __repr__(self) -> str:
        broken = f", {len(self.broken)} broken videos" if self.broken else ""
        return f"<Pictures {', '.join(self)}{broken}>"

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write each figure to `folder/<name>.png`, replacing earlier ones; returns the files."""
        written = []
        for name, figure in self.items():
            written.append(Path(folder, f"{name}.png"))
            with write_aside(written[-1]) as aside:
                figure.savefig(aside, dpi=150)
        return written


def show_clips(
    folder: Path,
    config: RunConfig | FeatureRunConfig,
    model: keras.Model,
    paths: Sequence[str] | None,
    *,
    what: str | Sequence[str] | None,
    word: int | None,
    num_videos: int | None,
) -> Pictures:
    """Pictures of what a run's model sees, see `Run.show`.

    Args:
        folder: of the run.
        config: of the run.
        model: of the run.
        paths: videos; None for those of the run's own test list.
        what: kinds of pictures; None for all that the model has.
        word: action word to track; None for the one with the largest share of each video.
        num_videos: most videos of the test list; None for `NUM_VIDEOS`.

    Raises:
        ValueError: when the run cannot be drawn, what was asked for cannot be drawn, or there is no
            such word.
        BrokenVideoError: when none of the videos can be decoded.
    """
    config = _drawable(folder, config)
    if num_videos is not None and paths is not None:
        raise without_effect("num_videos", num_videos, "videos that are named")
    if num_videos is not None and num_videos < 1:
        raise ValueError(
            f"`num_videos` must be a positive integer. Received: num_videos={num_videos}."
        )
    records: tuple[VideoRecord, ...] = ()
    if paths is None:
        records = read_lists(folder / "lists.csv", "test", config.class_names)
        records = tuple(records[i] for i in spread(len(records), num_videos or NUM_VIDEOS))
    chosen = choose(model, what, len(records if paths is None else paths))
    _check_word(model, word, chosen)
    first_stage = load_first_stage(folder) if "attention" in chosen else None
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as temporary:
        source, kept, broken = _read(config, paths, records, Path(temporary))
        clips = source.clips(augment=False, variant=0)
        shown = track(clips, "Clips", len(source), transient=True)
        seen = visualization.look(model, shown, first_stage)
    names = clip_names(kept)
    classes = [config.class_names[i] for i in seen.top_classes]
    if paths is None:
        classes = ["|".join(config.class_names[i] for i in record.labels) for record in kept]
    drawn = spread(len(kept), _NUM_DRAWN if paths is None else len(kept))
    drawings = _drawings_of_clips(seen, names, classes, drawn, chosen, word)
    return Pictures(drawings | _drawings_of_all(seen, names, classes, drawn, chosen), broken)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def choose(model: keras.Model, what: str | Sequence[str] | None, num_clips: int) -> tuple[str, ...]:
    """The pictures that were asked for, or without any all that can be drawn.

    Raises:
        ValueError: when one that was asked for cannot be drawn, or none can.
    """
    wanted = (what,) if isinstance(what, str) else tuple(what or ())
    if unknown := sorted(set(wanted) - set(PICTURES)):
        raise ValueError(
            f"`what` must be among {', '.join(PICTURES)}. Received: {', '.join(unknown)}."
        )
    parts = parts_of(model).joint
    no_words = (
        f"'{model.name}' has no action words: they belong to a model with VLAD, such as TA-VLAD."
    )
    missing = {}
    if parts.attention is None:
        missing["attention"] = (
            f"'{model.name}' has no spatial attention: a TA-VLAD trained with it has."
        )
    if parts.vlad is None:
        missing |= {"words": no_words, "track": no_words}
    if num_clips < _MIN_EMBEDDED:
        missing["embedding"] = (
            f"An embedding needs {_MIN_EMBEDDED} or more videos. Received: {num_clips}."
        )
    chosen = wanted or tuple(name for name in PICTURES if name not in missing)
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


def _drawable(folder: Path, config: RunConfig | FeatureRunConfig) -> RunConfig:
    if isinstance(config, FeatureRunConfig):
        raise ValueError(
            f"'{folder}' is a run on features, without frames to draw on. Give a run on videos; "
            "highlights show the attention of an attention LSTM over time."
        )
    if len(config.settings.streams) > 1:
        raise ValueError(f"'{folder}' is a run of two streams. Give a run of a single stream.")
    return config


def _check_word(model: keras.Model, word: int | None, chosen: Sequence[str]) -> None:
    if word is None:
        return
    if "track" not in chosen:
        raise ValueError("`word` has no effect without 'track' among `what`. Leave it out.")
    (vlad,) = parts_of(model).vlad_layers
    num_words = vlad.num_clusters
    if not 0 <= word < num_words:
        raise ValueError(
            f"`word` must be a number from 0 to {num_words - 1}. Received: word={word}."
        )


def _read(
    config: RunConfig,
    paths: Sequence[str] | None,
    records: tuple[VideoRecord, ...],
    place: Path,
) -> tuple[ClipSource, tuple[VideoRecord, ...], list[BrokenVideo]]:
    """The clips of the named videos or of the records, and which can and cannot be decoded."""
    if paths is None:
        indexes = index_streams(config, records, place)
        kept, broken = leave_out_broken(config, records, indexes, len(records))
        source = clip_source(config, kept, indexes)
    else:
        found, good, broken = source_of_videos(config, paths, place)
        if found is None:
            raise BrokenVideoError(
                f"No video can be decoded: {broken[0].path} ({broken[0].reason})."
            )
        source, kept = found, tuple(VideoRecord(path, (0,)) for path in good)
    (stream,) = streams_of(source)
    return stream, kept, broken


def _drawings_of_clips(
    seen: SeenClips,
    names: Sequence[str],
    classes: Sequence[str],
    drawn: Sequence[int],
    chosen: Sequence[str],
    word: int | None,
) -> _Drawings:
    """The pictures of single videos."""
    drawings: _Drawings = {}
    for i in drawn:
        frames, title = seen.frames[i], f"{names[i]}: {classes[i]}"
        if "attention" in chosen:
            maps = {name: maps[i] for name, maps in seen.attention.items()}
            draw = partial(visualization.attention_figure, frames, maps, title=title)
            drawings[f"{names[i]}/attention"] = draw
        if seen.assignments is None or seen.word_shares is None:
            continue
        clip = frames, seen.assignments[i]
        if "words" in chosen:
            draw = partial(visualization.word_map_figure, *clip, title=title)
            drawings[f"{names[i]}/words"] = draw
        if "track" in chosen:
            tracked = int(seen.word_shares[i].argmax()) if word is None else word
            draw = partial(visualization.word_track_figure, *clip, tracked, title=title)
            drawings[f"{names[i]}/track"] = draw
    return drawings


def _drawings_of_all(
    seen: SeenClips,
    names: Sequence[str],
    classes: Sequence[str],
    drawn: Sequence[int],
    chosen: Sequence[str],
) -> _Drawings:
    """The pictures of all videos together."""
    drawings: _Drawings = {}
    if seen.assignments is not None and seen.word_shares is not None and "words" in chosen:
        totals = seen.word_shares.mean(axis=0)
        top = np.argsort(-totals, kind="stable")[:_NUM_TOP_WORDS].tolist()
        drawings["words"] = partial(
            visualization.action_words_figure, seen.frames, seen.assignments, top
        )
    if "embedding" in chosen:
        features = seen.features[drawn]
        owners = np.repeat([names[i] for i in drawn], features.shape[1]).tolist()
        features = features.reshape(len(owners), -1)
        drawings["tsne_features"] = partial(_embedded, features, owners, "Local features")
        drawings["tsne_descriptors"] = partial(
            _embedded, seen.descriptors, list(classes), "Descriptors"
        )
    return drawings


def _embedded(vectors: np.ndarray, groups: list[str], title: str) -> Figure:
    return visualization.embedding_figure(visualization.embed(vectors), groups, title=title)
