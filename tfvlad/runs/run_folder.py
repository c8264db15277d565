"""A run's folder: what was asked for, the model, what was found."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.video.index import file_stamp
from tfvlad.evaluation import EvaluationReport, evaluate_scores, read_scores
from tfvlad.runs.config import FeatureRunConfig, RunConfig, load_config
from tfvlad.runs.model_files import load_model
from tfvlad.runs.run_files import read_result
from tfvlad.runs.settings import FeatureSettings, VideoSettings


class RunFolder:
    """What a run's folder holds; the model and the report are read when they are first needed.

    Args:
        folder: that `tfvlad.train` has written.

    Attributes:
        folder: of the run.
        config: what the training was asked for, and what it found in its data.

    Raises:
        ValueError: when it is no run folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.config: RunConfig | FeatureRunConfig = load_config(self.folder)
        # Of the file of scores that it was read from.
        self._report: tuple[list[int], EvaluationReport] | None = None

    def __repr__(self) -> str:
        top1 = self.result.get("stages", [{}])[-1].get("top1")
        tested = "" if top1 is None else f", test top-1 {100 * top1:.1f} %"
        state = "" if (self.folder / "model.keras").exists() else ", not finished"
        return (
            f"Run('{self.folder}': {self.settings.model}, {len(self.class_names)} classes"
            f"{tested}{state})"
        )

    @property
    def settings(self) -> VideoSettings | FeatureSettings:
        """What the training was asked for."""
        return self.config.settings

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's scores."""
        return self.config.class_names

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have several classes."""
        return self.config.multi_label

    @functools.cached_property
    def model(self) -> keras.Model:
        """The trained model: from clips, or features, to logits `(B, C)`.

        Raises:
            ValueError: when the training has not come to its end.
        """
        return load_model(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json: the measures after each stage; empty before the end."""
        return read_result(self.folder)

    @property
    def clip_frames(self) -> int | None:
        """Frames of a training clip: of a chunk, or the median of whole clips, if it is known."""
        return self.config.chunk_frames or self.result.get("clip_frames")

    @property
    def report(self) -> EvaluationReport | None:
        """The figures of the test list; None before it was read."""
        path = self.folder / "scores.npz"
        stamp = file_stamp(path)
        if not stamp:
            return None
        if self._report is None or self._report[0] != stamp:
            found = read_scores(path)
            report = evaluate_scores(found.scores, np.asarray(found.labels), self.class_names)
            self._report = stamp, report
        return self._report[1]
