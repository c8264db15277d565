"""How long a phone's runtime takes for a clip, before a model is worth training."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from export.device.conversion import convert_litert
from export.parity import made_clips, run_artifact
from tfvlad.models import ClipModel


def litert_latency_ms(clip_model: ClipModel, *, num_threads: int = 2, num_clips: int = 8) -> float:
    """Median time of a clip in a float32 LiteRT file on this machine's processor, milliseconds.

    The weights do not matter to it: an untrained model takes as long.

    Args:
        clip_model: to be converted.
        num_threads: that the file may use.
        num_clips: made clips that it is run on, in a process of its own.

    Raises:
        ValueError: when the model cannot be converted.
    """
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(convert_litert(clip_model))
        _, seconds = run_artifact(path, made_clips(clip_model, num_clips), num_threads)
    return 1000 * float(np.median(seconds))
