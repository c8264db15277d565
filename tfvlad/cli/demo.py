"""`tfvlad demo`: the whole way, from videos to a table, on videos that it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import keras
    import numpy as np
    from rich.console import Console

    from tfvlad.backbones import Backbone
    from tfvlad.training import ClipSource

NUM_FRAMES, IMAGE_SIZE, NUM_CROPS = 16, 64, 3


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--seed", default=0, show_default=True, help="Of the videos and the training.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def demo(folder: str, seed: int, as_json: bool) -> None:
    """Make labelled videos, train average pooling, ActionVLAD and TA-VLAD on them, compare.

    The videos show objects that change on moving, cluttered backgrounds; half of the classes are
    the others played backwards. A small network is trained on still images of the objects first;
    its dense layer gives TA-VLAD's attention. FOLDER receives the videos, the table and a folder
    for each model; a demo that was stopped goes on.

    \b
    Example:
      tfvlad demo demo-output --seed 1
    """
    import keras
    import tensorflow as tf
    from rich.console import Console

    from pipelines.annotations import split_validation
    from pipelines.clip_dataset import VideoClipSource
    from pipelines.synthetic import make_synthetic_videos
    from pipelines.video_index import index_videos
    from tfvlad import models
    from tfvlad.evaluation import evaluate_scores, metrics_table, write_report
    from tfvlad.training import FeatureCache, Stage, fit_in_stages, predict_logits

    console = Console(stderr=as_json)
    tf.config.experimental.enable_op_determinism()
    root = Path(folder) / f"seed{seed}"
    records = make_synthetic_videos(root / "videos", seed=seed)
    index = index_videos(
        (record.path for record in (*records.train, *records.test)),
        cache_path=str(root / "videos.json"),
    )
    training, validation, test = (
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
    )
    keras.utils.set_random_seed(seed)
    backbone = _object_backbone(root / "small_cnn.keras", seed, console)
    cache = FeatureCache(root / "features")
    builders: dict[str, tuple[Any, dict[str, int]]] = {
        "average pooling": (models.average_pooling, {}),
        "ActionVLAD": (models.action_vlad, {"num_clusters": 32}),
        "TA-VLAD": (models.ta_vlad, {"num_clusters": 32, "units": 32}),
    }
    stage = Stage(20, 1e-2, trainable_layers=("shared_gru", "logits"), clip_norm=5.0)
    reports = {}
    for name, (builder, options) in builders.items():
        console.print(f"[bold]{name}[/bold]")
        keras.utils.set_random_seed(seed)
        model = builder(backbone, len(records.class_names), num_frames=NUM_FRAMES, **options)
        place = root / model.name
        fit_in_stages(
            model,
            backbone,
            training,
            validation,
            place,
            stages=[stage],
            seed=seed,
            cache=cache,
            num_cached_crops=NUM_CROPS,
        )
        logits = predict_logits(model, test, backbone=backbone, cache=cache)
        reports[name] = evaluate_scores(logits, test.labels, records.class_names)
        write_report(place, reports[name])
    _draw_attention(model, test, logits, root / "attention.png")
    console.print(
        metrics_table(reports, title="Test videos; every class has a twin that is played backwards")
    )
    console.print(f"Pictures: {root}/attention.png, {root}/*/confusion.png")
    results = {name: report.metrics for name, report in reports.items()}
    (root / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(results))


def _draw_attention(model: keras.Model, test: ClipSource, logits: np.ndarray, path: Path) -> None:
    """TA-VLAD's attention on the test clip that it is surest of."""
    from tfvlad.models import intermediate_outputs
    from tfvlad.visualization import attention_figure

    right = logits.argmax(axis=-1) == test.labels
    number = int((logits.max(axis=-1) * right).argmax())
    clip = next(test.subset([number]).clips(augment=False, variant=0))
    attention = intermediate_outputs(model, ["attention"]).predict_on_batch(clip[None])
    name = test.class_names[test.labels[number]]
    attention_figure(clip, attention["attention"][0], title=name).savefig(path, dpi=110)


def _object_backbone(path: Path, seed: int, console: Console) -> Backbone:
    """The small network, trained on still images of the objects as others are on ImageNet."""
    import keras

    from pipelines.synthetic import make_still_images
    from tfvlad.backbones.small_cnn import fit_small_cnn, small_cnn, small_cnn_backbone

    if path.exists():
        return small_cnn_backbone(keras.models.load_model(path))
    stills = make_still_images(3200, image_size=IMAGE_SIZE, seed=seed)
    network = small_cnn(len(stills.class_names), image_size=IMAGE_SIZE)
    history = fit_small_cnn(network, stills.images, stills.labels, epochs=8, verbose=0)
    console.print(
        "Objects in still images: validation accuracy "
        f"{100 * history.history['val_accuracy'][-1]:.1f} %"
    )
    unfinished = path.with_name("unfinished.keras")
    network.save(unfinished)
    unfinished.replace(path)
    return small_cnn_backbone(network)
