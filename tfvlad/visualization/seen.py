"""What a model makes of clips, kept to be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from tfvlad.models import intermediate_outputs
from tfvlad.visualization.words import word_shares

# Of a clip's feature maps, those that are kept.
_NUM_LOCATIONS = 100


@dataclass(frozen=True, eq=False)
class SeenClips:
    """What a model makes of n clips.

    Args:
        frames: to draw on, RGB, uint8 `(n, T, H, W, 3)`; of optical flow, its speed.
        attention: by the stage of the training, `(n, T, h, w)`; empty without attention.
        assignments: to the action words, `(n, T, h, w, K)`, None without words.
        features: of some locations, `(n, num_locations, D)`.
        descriptors: `(n, M)`.
        top_classes: index of the class of the highest logit, `(n,)`.
    """

    frames: np.ndarray
    attention: dict[str, np.ndarray]
    assignments: np.ndarray | None
    features: np.ndarray
    descriptors: np.ndarray
    top_classes: np.ndarray

    @cached_property
    def word_shares(self) -> np.ndarray | None:
        """Shares of the action words in each clip under its latest attention, `(n, K)`."""
        if self.assignments is None:
            return None
        latest = list(self.attention.values())[-1:]
        return word_shares(self.assignments, *latest).mean(axis=1)


def look(
    model: keras.Model, clips: Iterable[np.ndarray], first_stage: keras.Model | None = None
) -> SeenClips:
    """Run a model on clips, one by one.

    Args:
        model: of clips of one stream, made or loaded by `tfvlad`.
        clips: uint8 `(T, H, W, channels)`, at least one.
        first_stage: the model as it was before stage 2, whose attention is kept too.
    """
    outputs = intermediate_outputs(model)
    before = intermediate_outputs(first_stage, ["attention"]) if first_stage else None
    found: dict[str, list[np.ndarray]] = {}
    generator = np.random.default_rng(0)
    for clip in clips:
        batch = np.array(clip[np.newaxis])
        tensors = {name: value[0] for name, value in outputs.predict_on_batch(batch).items()}
        locations = tensors["feature_map"].reshape(-1, tensors["feature_map"].shape[-1])
        number = min(_NUM_LOCATIONS, len(locations))
        kept = {
            "frames": _visible(batch[0]),
            "features": locations[generator.choice(len(locations), number, replace=False)],
            **{
                name: tensors[name]
                for name in ("attention", "assignments", "descriptor", "logits")
                if name in tensors
            },
        }
        if before:
            kept["attention before"] = before.predict_on_batch(batch)["attention"][0]
        for name, value in kept.items():
            found.setdefault(name, []).append(value)
    arrays = {name: np.stack(values) for name, values in found.items()}
    stages = ["attention before", "attention"] if before else ["attention"]
    attention = {
        f"after stage {number}": arrays[name]
        for number, name in enumerate(stages, 1)
        if name in arrays
    }
    return SeenClips(
        arrays["frames"],
        attention,
        arrays.get("assignments"),
        arrays["features"],
        arrays["descriptor"].reshape(len(arrays["descriptor"]), -1),
        arrays["logits"].argmax(axis=-1),
    )


def _visible(clip: np.ndarray) -> np.ndarray:
    """RGB frames as they are; of stacks of optical flow, the mean speed of each pixel."""
    if clip.shape[-1] == 3:
        return clip
    # (T, H, W, 2L) -> (T, H, W, L, 2)
    flow = clip.reshape(*clip.shape[:-1], -1, 2).astype("float32") - 127.5
    speed = np.linalg.norm(flow, axis=-1).mean(axis=-1, keepdims=True)
    scaled = 255 * speed / max(float(speed.max()), 1e-12)
    return np.repeat(scaled, 3, axis=-1).astype("uint8")
