"""A run's model tested on its own test list, or on other labelled clips."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.features.feature_index import drop_without_features
from pipelines.lists.records import VideoRecord, record_number
from pipelines.storage.files import write_json
from pipelines.video.index import BrokenVideo
from tfvlad.evaluation import EvaluationReport, OrderControls
from tfvlad.runs.clip_sources import clip_source, index_streams, leave_out_broken
from tfvlad.runs.config import DataPaths, FeatureRunConfig, RunConfig
from tfvlad.runs.data import clip_names, data_paths, read_lists, read_test_list
from tfvlad.runs.feature_sources import (
    feature_folders,
    feature_source,
    predict_clips,
    predict_clips_in_orders,
)
from tfvlad.runs.run_files import remove_controls, save_controls, save_scores, tell_left_out
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.views import views_of
from tfvlad.training import predict_in_orders, predict_logits

# The logits by the order of the frames, the labels, the clips that were tested, and the videos that
# could not be.
_Tested = tuple[dict[str, np.ndarray], np.ndarray, tuple[VideoRecord, ...], list[BrokenVideo]]


@dataclass(frozen=True)
class Evaluation:
    """What a test found.

    Attributes:
        folder: where it is written: metrics.json, per_class.csv, confusion.csv, confusion.png,
            scores.npz, and evaluation.json, which tells what was tested. With controls also
            controls.json, and the same files of each control in the folder of its name.
        report: the figures.
        broken: videos that could not be decoded, and why.
        controls: the figures of frames in other orders, if they were asked for.
    """

    folder: Path
    report: EvaluationReport
    broken: tuple[BrokenVideo, ...]
    controls: OrderControls | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        if self.controls is None:
            return dict(self.report.metrics)
        return {**self.report.metrics, "controls": self.controls.to_dict()}


def clips_of_test(
    config: RunConfig | FeatureRunConfig,
    data: str | os.PathLike[str] | None,
    lists: str | os.PathLike[str] | None,
    split: int | None,
    flow: str | os.PathLike[str] | None,
    attended: str | os.PathLike[str] | None,
) -> DataPaths | None:
    """The clips of a test from the arguments of `Run.evaluate`; None for the run's own.

    Raises:
        ValueError: when an argument is missing or would have no effect, or a path does not exist.
    """
    settings = config.settings
    two_streams = settings.model == "two-stream"
    attends = isinstance(settings, FeatureSettings) and settings.attends
    for name, value, has_effect in (
        ("flow", flow, two_streams),
        ("attended", attended, attends),
    ):
        if value is not None and not has_effect:
            raise ValueError(
                f"`{name}` has no effect on a run of {settings.model}. "
                f"Received: {name}={os.fspath(value)!r}. Leave it out."
            )
    if data is None:
        for name, given in {
            "lists": lists,
            "split": split,
            "flow": flow,
            "attended": attended,
        }.items():
            if given is not None:
                raise ValueError(f"`{name}` needs `data`. Received: {name}={given!r}.")
        return None
    if two_streams and flow is None:
        raise ValueError("A two-stream model needs `flow` beside `data`.")
    if split is not None and lists is None:
        raise ValueError(f"`split` needs `lists`. Received: split={split}.")
    number = config.data.split if split is None and lists is not None else split or 1
    return data_paths(data, lists=lists, split=number, flow=flow, attended=attended)


def check_controls(settings: VideoSettings | FeatureSettings) -> None:
    """Refuse controls of a run whose clips have no order.

    Raises:
        ValueError: when a clip has one frame, or one step of features.
    """
    if isinstance(settings, FeatureSettings):
        name, count = "num_steps", max(settings.step_counts)
    else:
        name, count = "num_frames", settings.num_frames
    if count < 2:
        raise ValueError(
            "`controls` has no effect on a run whose clips have one frame: they have no order. "
            f"Received: controls=True, and {name}={count} of the run. Leave it out."
        )


def evaluate_run(
    folder: Path,
    config: RunConfig | FeatureRunConfig,
    model: keras.Model,
    paths: DataPaths | None,
    *,
    output: Path,
    max_broken: int | None,
    controls: bool = False,
) -> Evaluation:
    """Test a model and write what was found.

    Args:
        folder: of the run.
        config: of the run, with the views of the test clips.
        model: of the run.
        paths: other clips; None for the run's own test list.
        output: folder for what was found.
        max_broken: most broken videos that may be left out.
        controls: test the clips with their frames in other orders too.

    Raises:
        ValueError: when the clips do not fit the model.
    """
    if paths is None:
        records = read_lists(folder / "lists.csv", "test", config.class_names)
    else:
        records = read_test_list(paths.data, paths.lists, paths.split, config.class_names)
    if isinstance(config, FeatureRunConfig):
        sets = feature_folders(paths or config.data, config.settings)
        told: dict[str, Any] = {"feature_sets": sets}
        tested = _test_on_features(config, model, records, sets, max_broken, controls)
    else:
        told = {}
        tested = _test_on_videos(config, model, records, paths, output, max_broken, controls)
    logits, labels, clips, broken = tested
    tell_left_out(broken)
    names = clip_names(clips)
    report = save_scores(output, logits["plain"], labels, names, config.class_names)
    remove_controls(output)  # of a test before
    compared = None
    if controls:
        compared = save_controls(output, logits, labels, names, config.class_names)
    described = {
        "run": os.path.abspath(folder),
        "data": os.path.abspath(folder / "lists.csv") if paths is None else paths.data,
        "lists": paths and paths.lists,
        "split": paths.split if paths and paths.lists else None,
        **told,
        **views_of(config.settings),
        "broken": len(broken),
        "controls": controls,
    }
    write_json(output / "evaluation.json", described)
    return Evaluation(output, report, tuple(broken), compared)


def _test_on_videos(
    config: RunConfig,
    model: keras.Model,
    records: tuple[VideoRecord, ...],
    paths: DataPaths | None,
    place: Path,
    max_broken: int | None,
    controls: bool,
) -> _Tested:
    if paths is not None:
        config = replace(config, data=replace(config.data, data=paths.data, flow=paths.flow))
    indexes = index_streams(config, records, place)
    test, broken = leave_out_broken(config, records, indexes, max_broken)
    settings = config.settings
    source = clip_source(
        config, test, indexes, test_crops=settings.test_crops, test_clips=settings.test_clips
    )
    if controls:
        numbers = [record_number(record) for record in test]
        logits = predict_in_orders(
            model, source, numbers, seed=settings.seed, one_bag=settings.one_bag
        )
    else:
        logits = {"plain": predict_logits(model, source, one_bag=settings.one_bag)}
    return logits, source.labels, test, broken


def _test_on_features(
    config: FeatureRunConfig,
    model: keras.Model,
    records: tuple[VideoRecord, ...],
    sets: list[str],
    max_broken: int | None,
    controls: bool,
) -> _Tested:
    test, broken = drop_without_features(records, sets, max_broken)
    source = feature_source(config, sets, test, seed=config.settings.seed)
    chunks = config.settings.test_chunks
    if controls:
        scores = predict_clips_in_orders(model, source, chunks)
    else:
        scores = {"plain": predict_clips(model, source, chunks)}
    return scores, source.labels, test, broken
