"""How a run's model looks at live video."""

from __future__ import annotations

from pathlib import Path

from tfvlad.runs.config import FeatureRunConfig, RunConfig

# A run does not keep its videos' frame rate: that of HMDB51, UCF101 and most of the others.
_VIDEO_RATE = 25.0


def training_rate(
    folder: Path, config: RunConfig | FeatureRunConfig, clip_frames: int | None
) -> float:
    """Frames a second in the clips that a run's model was trained on.

    Args:
        folder: of the run.
        config: of the run.
        clip_frames: of a training clip, if the run tells it.

    Raises:
        ValueError: when it does not.
    """
    if clip_frames is None:
        raise ValueError(
            f"'{folder}' does not say how long its training clips are. Give `frames_per_second`."
        )
    if isinstance(config, RunConfig):
        num_frames = config.settings.num_frames
    else:
        num_frames = config.settings.num_steps
    return min(_VIDEO_RATE * num_frames / clip_frames, _VIDEO_RATE)
