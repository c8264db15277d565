"""What `test_contract.py` needs to know of each public layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from tfvlad import layers


@dataclass(frozen=True)
class LayerCase:
    """A layer and its inputs.

    Args:
        arguments: every argument of `__init__`, none of them at its default where the case has the
            layer's name alone.
        input_shapes: one shape a tensor of `call`, a list of shapes where it takes a list of
            tensors; None for the batch, then for the frames.
    """

    arguments: Callable[[], dict[str, Any]]
    input_shapes: tuple[Any, ...]


def _vlad_arguments() -> dict[str, Any]:
    return {
        "num_clusters": 4,
        "alpha": 3,
        "normalize_input": False,
        "intra_normalize": False,
        "normalize_descriptor": False,
        "return_assignments": True,
    }


def _gru_arguments() -> dict[str, Any]:
    return {
        "units": 5,
        "bidirectional": True,
        "update_bias": 2,
        "return_sequences": True,
        "return_state": True,
    }


def _attention_arguments() -> dict[str, Any]:
    return {"num_objects": 7, "reduction": "mean", "normalization": "sigmoid", "temperature": 4}


def _backbone_arguments() -> dict[str, Any]:
    # Without convolutions, whose kernels differ between processors on an empty batch.
    images = keras.Input((6, 6, 3))
    model = keras.Model(images, keras.layers.Dense(4, name="dense")(images), name="backbone")
    return {"model": model, "activation": "relu6", "blocks": {"block1": ("dense",)}}


def _lstm_arguments(attend: str = "last_step") -> dict[str, Any]:
    return {"units": 5, "matching_units": 6, "attend": attend, "return_state": True}


def _every_step_arguments() -> dict[str, Any]:
    return _lstm_arguments("every_step")


def _score_arguments(multi_label: bool, step_weights: Any) -> dict[str, Any]:
    return {"multi_label": multi_label, "step_weights": step_weights}


def _normalization_arguments() -> dict[str, Any]:
    return {"mean": (0.1, 0.2, 0.3), "std": 0.5, "channel_order": "bgr"}


# "<layer>" or "<layer>, <what is special>" -> case
CASES = {
    "ActionVLAD": LayerCase(_vlad_arguments, ((None, None, 2, 3, 8),)),
    "ActionVLAD, weights": LayerCase(_vlad_arguments, ((None, None, 6, 8), (None, None, 6))),
    "AttentionLSTM": LayerCase(_lstm_arguments, ((None, None, 8), (None, 4, 7))),
    "AttentionLSTM, every step": LayerCase(
        _every_step_arguments, ((None, None, 8), (None, 2, 7), [(None, 5), (None, 5)])
    ),
    "BahdanauLSTMCell": LayerCase(
        lambda: {"units": 5, "matching_units": 6},
        ((None, 8), [(None, 5), (None, 5)], (None, None, 7)),
    ),
    "ChannelSlice": LayerCase(lambda: {"start": 2, "stop": 5}, ((None, None, 2, 3, 8),)),
    "DescriptorNormalization": LayerCase(lambda: {"intra_normalize": False}, ((None, 4, 8),)),
    "FramewiseBackbone": LayerCase(_backbone_arguments, ((None, None, 6, 6, 3),)),
    "ImageNormalization": LayerCase(_normalization_arguments, ((None, None, 6, 6, 3),)),
    "MeanScore": LayerCase(lambda: _score_arguments(True, (0.2, 0.0, 0.5)), ((None, 3, 8),)),
    "MeanScore, single label": LayerCase(lambda: _score_arguments(False, None), ((None, None, 8),)),
    "NetVLAD": LayerCase(_vlad_arguments, ((None, None, 2, 3, 8),)),
    "NetVLAD, weights": LayerCase(_vlad_arguments, ((None, None, 6, 8), (None, None, 6))),
    "SegmentPooling": LayerCase(
        lambda: {"num_segments": 2, "reduction": "mean"}, ((None, None, 4, 8),)
    ),
    "SeparateGRUs": LayerCase(_gru_arguments, ((None, None, 4, 8),)),
    "SeparateGRUs, state": LayerCase(_gru_arguments, ((None, None, 4, 8), (None, 4, 10))),
    "SharedGRU": LayerCase(_gru_arguments, ((None, None, 4, 8),)),
    "SharedGRU, state": LayerCase(_gru_arguments, ((None, None, 4, 8), (None, 4, 10))),
    "TopDownAttention": LayerCase(_attention_arguments, ((None, None, 2, 3, 8),)),
}


def layer_class(name: str) -> type[keras.layers.Layer]:
    return getattr(layers, name.split(",")[0])


def make_layer(name: str) -> keras.layers.Layer:
    return layer_class(name)(**CASES[name].arguments())
