"""Small run folders of random weights, as training leaves them."""

import json

from pipelines.storage.files import write_json
from tfvlad import backbones, models
from tfvlad.runs.config import DataPaths, FeatureRunConfig, RunConfig
from tfvlad.runs.feature_networks import build_network, describe
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.model_table import MODELS

CLASSES = ["green", "red", "blue"]
SIZE, NUM_FRAMES = 32, 4


def make_run(
    folder, name, *, clip_frames=10, options=None, class_names=CLASSES, streams=("rgb",), **settings
):
    """A run on videos, and its model.

    Args:
        folder: of the run.
        name: of the model.
        clip_frames: of the training clips; None for a run that does not tell it.
        options: of the model.
        class_names: that the configuration tells.
        streams: that the configuration tells.
        **settings: of the configuration.
    """
    backbone = backbones.small_cnn_backbone(backbones.small_cnn(5, image_size=SIZE))
    entry = MODELS[name]
    options = {**({"num_clusters": 4} if "vlad" in name else {}), **(options or {})}
    model = entry.build(backbone, len(CLASSES), num_frames=NUM_FRAMES, **options)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([20 * kernel, bias])
    if len(streams) > 1:
        told = {"model": "two-stream"}
    else:
        told = {"model": name, "stream": streams[0], **options}
    config = RunConfig(
        settings=VideoSettings(
            **told, weights=None, num_frames=NUM_FRAMES, image_size=SIZE, **settings
        ),
        data=DataPaths(data="videos"),
        class_names=tuple(class_names),
        multi_label=False,
        freed_block="block4",
        short_side=40,
    )
    write_json(folder / "config.json", config.to_dict())
    model.save(folder / "model.keras")
    _write_result(folder, clip_frames)
    return model


def make_feature_run(folder, *, clip_frames=10, frame_steps=(1, 1), **settings):
    """An attention LSTM, and the extractor of both its inputs, pooled features of ResNet-18.

    Args:
        folder: of the run.
        clip_frames: of the training clips; None for a run that does not tell it.
        frame_steps: of the two feature sets.
        **settings: of the configuration.
    """
    extractor = build_network("resnet18", "pooled", None, SIZE)
    of_files = {"flipped": False, "dtype": "float32", "format": "hdf5"}
    described = [
        describe(extractor, "resnet18", "pooled", None, step) | of_files for step in frame_steps
    ]
    name = settings.get("model", "attention-lstm")
    sizes = {"units": 4, **({"matching_units": 4} if name == "attention-lstm" else {})}
    steps = {"num_steps": NUM_FRAMES}
    if name == "attention-lstm":
        steps["num_attended"] = NUM_FRAMES
    config = FeatureRunConfig(
        settings=FeatureSettings(**{"chunk_frames": 20, **sizes, **steps, **settings}),
        data=DataPaths(data="features"),
        class_names=tuple(CLASSES),
        multi_label=False,
        feature_sets=tuple(described),
    )
    write_json(folder / "config.json", config.to_dict())
    channels = extractor.num_channels
    model = models.attention_lstm(
        3,
        channels,
        channels,
        num_steps=NUM_FRAMES,
        num_attended=NUM_FRAMES,
        units=4,
        matching_units=4,
    )
    model.save(folder / "model.keras")
    _write_result(folder, clip_frames)
    return model, extractor


def _write_result(folder, clip_frames):
    stages = {"stages": [{"top1": 0.5}]}
    result = stages if clip_frames is None else {**stages, "clip_frames": clip_frames}
    (folder / "result.json").write_text(json.dumps(result))
