"""The whole way, from videos to figures, on videos that are made for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.clips.video_clips import VideoClipSource
from pipelines.lists.records import Split, split_validation
from pipelines.storage.files import write_aside, write_json
from pipelines.synthetic.videos import make_still_images, make_synthetic_videos
from pipelines.video.index import index_videos
from tfvlad import models
from tfvlad.backbones import Backbone, fit_small_cnn, small_cnn, small_cnn_backbone
from tfvlad.evaluation import EvaluationReport, evaluate_scores, write_report
from tfvlad.training import FeatureCache, Stage, fit_in_stages, predict_logits
from tfvlad.visualization import attention_figure

NUM_FRAMES, IMAGE_SIZE, NUM_CROPS = 16, 64, 3
MODELS: dict[str, tuple[Callable[..., keras.Model], dict[str, int]]] = {
    "average pooling": (models.average_pooling, {}),
    "ActionVLAD": (models.action_vlad, {"num_clusters": 32}),
    "TA-VLAD": (models.ta_vlad, {"num_clusters": 32, "units": 32}),
}
STAGE = Stage(20, 1e-2, trainable_layers=("shared_gru", "logits"), clip_norm=5.0)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demo:
    """What `demo` has made.

    Attributes:
        folder: the videos, the pictures and a folder for each model.
        reports: the test of each model, by its name.
        pictures: TA-VLAD's attention over a video, and each model's confusion matrix.
    """

    folder: Path
    reports: Mapping[str, EvaluationReport]
    pictures: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures of each model as JSON values."""
        return {name: report.metrics for name, report in self.reports.items()}

    def __repr__(self) -> str:
        lines = [f"  {name}: {report}" for name, report in self.reports.items()]
        return "\n".join([f"Demo in {self.folder}", *lines])


def demo(folder: str | os.PathLike[str], seed: int = 0) -> Demo:
    """Makes labelled videos, trains average pooling, ActionVLAD and TA-VLAD, and tests them.

    The videos show objects that change on moving, cluttered backgrounds; half of the classes are
    the others played backwards. A small network is trained on still images of the objects first;
    its dense layer gives TA-VLAD's attention. A demo that was stopped goes on. TensorFlow's
    operations are deterministic from here on, so that the figures can be repeated.

    Args:
        folder: the demo is made in its sub-folder `seed<n>`.
        seed: of the videos and the training.

    Example:
        >>> demo("demo-output").reports["TA-VLAD"].metrics["top1"]  # doctest: +SKIP
        0.95
    """
    tf.config.experimental.enable_op_determinism()
    root = Path(folder) / f"seed{seed}"
    records = make_synthetic_videos(root / "videos", seed=seed)
    training, validation, test = _clips(records, root / "videos.json", seed)
    keras.utils.set_random_seed(seed)
    backbone = _object_backbone(root / "small_cnn.keras", seed)
    cache = FeatureCache(root / "features")
    reports: dict[str, EvaluationReport] = {}
    pictures = [root / "attention.png"]
    for name, (builder, options) in MODELS.items():
        _logger.info("%s", name)
        keras.utils.set_random_seed(seed)
        model = builder(backbone, len(records.class_names), num_frames=NUM_FRAMES, **options)
        place = root / model.name
        fit_in_stages(
            model,
            training,
            validation,
            place,
            stages=[STAGE],
            seed=seed,
            cache=cache,
            num_cached_crops=NUM_CROPS,
        )
        logits = predict_logits(model, test, cache=cache)
        reports[name] = evaluate_scores(logits, test.labels, records.class_names)
        write_report(place, reports[name])
        pictures.append(place / "confusion.png")
    _draw_attention(model, test, logits, pictures[0])
    made = Demo(root, reports, tuple(pictures))
    write_json(root / "results.json", made.to_dict())
    return made


def _clips(records: Split, index_path: Path, seed: int) -> list[VideoClipSource]:
    """The training, validation and test clips."""
    index = index_videos(
        (record.path for record in (*records.train, *records.test)), cache_path=str(index_path)
    )
    return [
        VideoClipSource(
            chosen,
            records.class_names,
            index=index,
            num_frames=NUM_FRAMES,
            image_size=IMAGE_SIZE,
            short_side=round(IMAGE_SIZE * 256 / 224),
            scales=(1.0, 0.875),
        )
        for chosen in (*split_validation(records.train, 0.15, seed), records.test)
    ]


def _draw_attention(
    model: keras.Model, test: VideoClipSource, logits: np.ndarray, path: Path
) -> None:
    """TA-VLAD's attention on the test clip that it is surest of."""
    right = logits.argmax(axis=-1) == test.labels
    number = int((logits.max(axis=-1) * right).argmax())
    clip = next(test.subset([number]).clips(augment=False, variant=0))
    attention = models.intermediate_outputs(model, ["attention"]).predict_on_batch(clip[None])
    name = test.class_names[test.labels[number]]
    with write_aside(path) as aside:
        attention_figure(clip, attention["attention"][0], title=name).savefig(aside, dpi=110)


def _object_backbone(path: Path, seed: int) -> Backbone:
    """The small network, trained on still images of the objects as others are on ImageNet."""
    if path.exists():
        return small_cnn_backbone(keras.models.load_model(path))
    stills = make_still_images(3200, image_size=IMAGE_SIZE, seed=seed)
    network = small_cnn(len(stills.class_names), image_size=IMAGE_SIZE)
    history = fit_small_cnn(network, stills.images, stills.labels, epochs=8, verbose=0)
    _logger.info(
        "Objects in still images: validation accuracy %.1f %%",
        100 * history.history["val_accuracy"][-1],
    )
    with write_aside(path) as aside:
        network.save(aside)
    return small_cnn_backbone(network)
