"""Folders of finished runs with made-up scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfvlad.evaluation import ScoreFile, write_scores

CLIPS = tuple(f"wave/{i}.avi" for i in range(4))


def write_run(folder: Path, *stages: str, clips: Sequence[str] = CLIPS) -> Path:
    """A finished run; a stage is a text of 1 for each clip recognised and 0 for the others."""
    labels = np.zeros(len(clips), int)
    for number, hits in enumerate(stages, 1):
        logits = np.array([[1.0, 0.0] if hit == "1" else [0.0, 1.0] for hit in hits])
        place = folder if number == len(stages) else folder / f"stage{number}"
        place.mkdir(parents=True, exist_ok=True)
        write_scores(place / "scores.npz", ScoreFile(logits, tuple(clips), labels))
    (folder / "result.json").write_text(json.dumps({"stages": [{}] * len(stages)}))
    return folder


def write_runs(
    root: Path, file: ScoreFile, names: Sequence[str] = ("split1-seed0", "split2-seed0")
) -> Path:
    """A folder of runs that all have the same scores."""
    for name in names:
        (root / name).mkdir(parents=True)
        write_scores(root / name / "scores.npz", file)
        (root / name / "result.json").write_text(json.dumps({"stages": [{}]}))
    return root
