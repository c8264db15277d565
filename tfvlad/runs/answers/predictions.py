"""What a run's model says of new videos."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import keras
import numpy as np

from pipelines.features.feature_set import FeatureSet
from pipelines.features.importing import import_like
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo, index_videos
from tfvlad.evaluation import ClassScore, class_probabilities, top_classes
from tfvlad.runs.clip_sources import source_of_videos
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.feature_networks import extract_sets
from tfvlad.runs.feature_sources import feature_source, imported_set, predict_clips
from tfvlad.training import predict_logits

_NUM_CHUNKS = 40
_NUM_SHOWN = 5

# The scores of the videos that could be read, their paths, and the others.
_Scored = tuple[np.ndarray, list[str], list[BrokenVideo]]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The classes of a video.

    Attributes:
        path: of the video.
        class_names: of the C classes.
        probabilities: of the classes, `(C,)`; they sum to 1, but where a clip may have several
            classes.
    """

    path: str
    class_names: tuple[str, ...]
    probabilities: np.ndarray

    def top(self, k: int = _NUM_SHOWN) -> list[ClassScore]:
        """The k most probable classes, the most probable one first.

        Raises:
            ValueError: when `k` is no positive number.
        """
        return top_classes(self.class_names, self.probabilities, k)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """The path and the classes, the most probable ones first, as JSON values.

        Args:
            top: how many classes; all of them by default.
        """
        return {"path": self.path, "top": self._rows(top)}

    def _rows(self, top: int | None) -> list[dict[str, Any]]:
        found = self.top(top or len(self.class_names))
        return [{"class": name, "probability": round(p, 6)} for name, p in found]

    def __repr__(self) -> str:
        name, probability = self.top(1)[0]
        return f"Prediction({self.path!r}: {name} {100 * probability:.1f} %)"


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """The predictions of the videos that could be decoded, in their order.

    Attributes:
        answers: the predictions.
        broken: the videos that could not be decoded, and why.
    """

    answers: tuple[Prediction, ...]
    broken: tuple[BrokenVideo, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...

    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        return self.answers[index]

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.answers)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """The predictions by path, and the broken videos, as JSON values.

        Args:
            top: classes of each video; all of them by default.
        """
        return {
            "predictions": {answer.path: answer._rows(top) for answer in self.answers},
            "broken": [{"path": video.path, "reason": video.reason} for video in self.broken],
        }


def named_videos(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
    """The path, or the paths, as text: looked for before a model is loaded for them.

    Raises:
        ValueError: when no path is given, or one does not exist.
    """
    named = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if not named:
        raise ValueError("`paths` must name at least one video. Received: none.")
    for path in named:
        if not os.path.exists(path):
            raise ValueError(f"The video does not exist: {os.fspath(path)}.")
    return [os.fspath(path) for path in named]


def predict_videos(
    config: RunConfig | FeatureRunConfig, model: keras.Model, paths: Sequence[str]
) -> Predictions:
    """The classes of videos.

    Args:
        config: of the run.
        model: of the run.
        paths: video files or frame folders, see `named_videos`; of a run on imported arrays, files
            of such arrays.
    """
    scores, good, broken = (
        _score_features(config, model, paths)
        if isinstance(config, FeatureRunConfig)
        else _score_clips(config, model, paths)
    )
    if not good:
        return Predictions((), tuple(broken))
    probabilities = class_probabilities(scores, multi_label=config.multi_label)
    names = config.class_names
    answers = (Prediction(path, names, row) for path, row in zip(good, probabilities, strict=True))
    return Predictions(tuple(answers), tuple(broken))


def _score_clips(config: RunConfig, model: keras.Model, paths: Sequence[str]) -> _Scored:
    """Optical flow is computed to a temporary folder, as the run's was."""
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        source, good, broken = source_of_videos(config, paths, Path(place))
        logits = predict_logits(model, source) if source else np.empty(0)
        return logits, good, broken


def _score_features(config: FeatureRunConfig, model: keras.Model, paths: Sequence[str]) -> _Scored:
    """Through features that are extracted, or imported, to a temporary folder."""
    described = imported_set(config)
    if described is not None:
        return _score_arrays(config, described, model, paths)
    index = index_videos(paths)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    good = [path for path, video in index.items() if not isinstance(video, BrokenVideo)]
    if not good:
        return np.empty(0), good, broken
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        folders, files = extract_sets(config.feature_sets, good, Path(place))
        records = tuple(VideoRecord(file, (0,)) for file in files)
        source = feature_source(config, folders, records)
        return predict_clips(model, source, _NUM_CHUNKS), good, broken


def _score_arrays(
    config: FeatureRunConfig, described: FeatureSet, model: keras.Model, paths: Sequence[str]
) -> _Scored:
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        files, broken = import_like(described, paths, place)
        if not files:
            return np.empty(0), [], broken
        records = tuple(VideoRecord(file, (0,)) for file in files.values())
        folders = [place] * len(config.feature_sets)
        source = feature_source(config, folders, records)
        return predict_clips(model, source, _NUM_CHUNKS), list(files), broken
