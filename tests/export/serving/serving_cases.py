"""Models of every kind that is served."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np

from tests.helpers import normal, tiny_backbone
from tfvlad.backbones import FeatureExtractor, flow_backbone, small_cnn, small_cnn_backbone
from tfvlad.models import (
    ClipModel,
    action_vlad,
    attention_lstm,
    average_pooling,
    end_to_end,
    ensemble,
    late_fusion,
    plain_lstm,
    ta_vlad,
    two_stream,
)

NAMES = ("run", "jump", "sit")
SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}
STREAMS = ("frames", "flow")


def _flow_backbone():
    return flow_backbone(tiny_backbone(seed=1), 2)


def _two_stream(fusion: str) -> ClipModel:
    model = two_stream(tiny_backbone(), _flow_backbone(), 3, fusion=fusion, **SMALL)
    return ClipModel(model, NAMES, STREAMS, short_side=40)


def _extractor() -> FeatureExtractor:
    frame = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(frame)
    x = keras.layers.Conv2D(5, 3, strides=4)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return FeatureExtractor("tiny/pooled", keras.Model(frame, x, name="frame"))


def _attention_lstm() -> ClipModel:
    sizes = {"num_steps": 2, "num_attended": 4, "units": 4, "matching_units": 4}
    model = attention_lstm(3, 5, 5, **sizes)
    whole = end_to_end(model, _extractor(), _extractor(), num_frames=4)
    return ClipModel(whole, NAMES, short_side=40)


def _plain_lstm() -> ClipModel:
    model = plain_lstm(3, 5, num_steps=4, units=4, multi_label=True)
    whole = end_to_end(model, _extractor(), num_frames=4)
    return ClipModel(whole, NAMES, multi_label=True, short_side=40)


def _late_fusion() -> ClipModel:
    models = [
        ta_vlad(tiny_backbone(), 3, units=5, **SMALL),
        action_vlad(_flow_backbone(), 3, **SMALL),
    ]
    return ClipModel(late_fusion(models, weights=[1, 2]), NAMES, STREAMS, short_side=40)


def _ensemble() -> ClipModel:
    models = [average_pooling(tiny_backbone(seed=seed), 3, num_frames=3) for seed in range(2)]
    return ClipModel(
        ensemble(models, multi_label=False), NAMES, ("frames", "frames"), short_side=40
    )


def _live_attention_lstm() -> keras.Model:
    """One frame a step, as a stream needs it."""
    sizes = {"num_steps": 4, "num_attended": 4, "units": 4, "matching_units": 4}
    model = attention_lstm(3, 5, 5, **sizes)
    return end_to_end(model, _extractor(), _extractor(), num_frames=4)


@contextmanager
def mixed_precision() -> Iterator[None]:
    """New layers compute in half precision."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


# Models of half precision, as they were trained.
MIXED: dict[str, Callable[[], keras.Model]] = {
    "mixed_ta_vlad": lambda: ta_vlad(tiny_backbone(), 3, units=5, **SMALL),
    "mixed_attention_lstm": _live_attention_lstm,
}


def mixed_model(name: str) -> keras.Model:
    with mixed_precision():
        return MIXED[name]()


def _full_size() -> ClipModel:
    backbone = small_cnn_backbone(small_cnn(4, image_size=224))
    return ClipModel(average_pooling(backbone, 3, num_frames=25), NAMES, multi_label=True)


CASES: dict[str, Callable[[], ClipModel]] = {
    "ta_vlad": lambda: ClipModel(
        ta_vlad(tiny_backbone(), 3, units=5, **SMALL), NAMES, short_side=40
    ),
    "action_vlad": lambda: ClipModel(
        action_vlad(tiny_backbone(), 3, **SMALL), NAMES, short_side=40
    ),
    "flattened_gru": lambda: ClipModel(
        ta_vlad(tiny_backbone(), 3, units=5, temporal="flattened_gru", bidirectional=True, **SMALL),
        NAMES,
        short_side=40,
    ),
    "concat": lambda: _two_stream("concat"),
    "early": lambda: _two_stream("early"),
    "late": lambda: _two_stream("late"),
    "late_fusion": _late_fusion,
    "ensemble": _ensemble,
    "attention_lstm": _attention_lstm,
    "plain_lstm": _plain_lstm,
    "full_size": _full_size,
    **{
        name: lambda name=name: ClipModel(mixed_model(name), NAMES, short_side=40) for name in MIXED
    },
}


def made(name: str) -> ClipModel:
    """The case with other numbers than those that its layers start with."""
    keras.utils.set_random_seed(0)
    clip_model = CASES[name]()
    for layer in _dense_layers(clip_model.model):
        layer.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(layer.get_weights())])
    return clip_model


def _dense_layers(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _dense_layers(layer)
        elif layer.name.endswith("logits"):
            yield layer


def clips_of(clip_model: ClipModel, batch: int = 2) -> dict[str, np.ndarray]:
    """Noise of the model's own size."""
    generator = np.random.default_rng(1)
    return {
        stream: generator.integers(0, 256, (batch, *shape)).astype("uint8")
        for stream, shape in clip_model.inputs.items()
    }
