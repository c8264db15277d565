"""How long a trial's model takes for a clip on a phone's runtime."""

from __future__ import annotations

import importlib.util

import keras

from tfvlad.models import ClipModel
from tfvlad.runs.answers.clip_models import input_names
from tfvlad.runs.config import RunConfig


def check_litert() -> None:
    """Refuse to measure without the runtime.

    Raises:
        ImportError: when it is not installed.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ImportError('LiteRT needs the extra "export": pip install "tfvlad[export]".')


def litert_ms(model: keras.Model, config: RunConfig) -> float:
    """The milliseconds that LiteRT takes for a clip, on this machine with two threads.

    Args:
        model: of clips, trained or not.
        config: of the run that it belongs to.
    """
    from export import litert_latency_ms  # of the current stack, and of another extra

    clip_model = ClipModel(
        model,
        config.class_names,
        input_names(config),
        config.multi_label,
        config.short_side,
    )
    return litert_latency_ms(clip_model)
