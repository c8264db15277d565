"""Proof that an exported file answers as its model does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfvlad.models import ClipModel

Clip = Mapping[str, np.ndarray]

# The measure that is limited, and how far it may go. Reduced precision moves single clips that lie
# between two classes far, and all clips together little; a broken export moves them all.
LIMITS: dict[str, tuple[str, float]] = {
    "float32": ("largest_difference", 1e-4),
    "float16": ("mean_difference", 0.03),
    "dynamic": ("mean_difference", 0.15),
    "int8": ("mean_difference", 0.15),
}


class ParityError(ValueError):
    """An export that does not answer as its model does."""


@dataclass(frozen=True)
class Differences:
    """How far answers are from a model's class probabilities.

    Attributes:
        num_clips: compared.
        largest_difference: of any probability.
        mean_difference: the mean over the clips of each clip's largest one.
        top1_agreement: the share of the clips with the same top class.
        clear_top1_agreement: that of the half of the clips whose expected top class is the furthest
            ahead of the second.
    """

    num_clips: int
    largest_difference: float
    mean_difference: float
    top1_agreement: float
    clear_top1_agreement: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Parity(Differences):
    """The proof of an exported file.

    Attributes:
        signatures: the largest difference of each signature.
        precision: of the file.
        limit: what is limited, and how far it may go.
        bytes: its size.
        latency_ms: the median time of a clip, milliseconds.
        num_threads: that it could use.
    """

    signatures: Mapping[str, float]
    precision: str
    limit: Mapping[str, float]
    bytes: int
    latency_ms: float
    num_threads: int


def compare_probabilities(expected: np.ndarray, answered: np.ndarray) -> Differences:
    """How far answers are from the model's class probabilities, both `(n, C)`."""
    differences = np.abs(expected - answered).max(axis=-1)
    agrees = expected.argmax(axis=-1) == answered.argmax(axis=-1)
    ordered = np.sort(expected, axis=-1)
    margins = ordered[:, -1] - ordered[:, -2] if expected.shape[-1] > 1 else ordered[:, -1]
    is_clear = margins >= np.median(margins)
    return Differences(
        num_clips=len(expected),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        top1_agreement=float(agrees.mean()),
        clear_top1_agreement=float(agrees[is_clear].mean()),
    )


def check_parity(
    artifact: Path,
    answer: Callable[[Clip], np.ndarray],
    clips: Sequence[Clip],
    *,
    precision: str = "float32",
    tolerance: float | None = None,
    num_threads: int = 2,
) -> Parity:
    """Run the artifact on clips, in a process of its own, and compare with the model.

    All clips go through the artifact's first signature; of a SavedModel, the first clip goes
    through `highlight`, `encoded_frames` (as PNG files) and `stream` too.

    Args:
        artifact: a SavedModel's folder or a LiteRT file.
        answer: the model: from a clip `(1, T, H, W, channels)`, by stream, to probabilities `(C,)`.
        clips: uint8 clips `(T, H, W, channels)` by stream.
        precision: of the artifact; it decides what is limited, see `LIMITS`.
        tolerance: in the place of the limit.
        num_threads: that the artifact may use.

    Raises:
        ParityError: when the artifact does not run, gives other than finite numbers, or is further
            from the model than allowed.
    """
    batches = [{stream: frames[np.newaxis] for stream, frames in clip.items()} for clip in clips]
    expected = np.stack([answer(clip) for clip in batches])
    answered, seconds = run_artifact(artifact, clips, num_threads)
    for what, given in {"model": [expected], f"{precision} export": answered.values()}.items():
        if not all(np.isfinite(probabilities).all() for probabilities in given):
            raise ParityError(f"The {what} gives numbers that are not finite.")
    first, *others = answered
    found = compare_probabilities(expected, answered[first])
    signatures = {name: float(np.abs(answered[name] - expected[0]).max()) for name in others}
    measure, limit = LIMITS[precision]
    limit = limit if tolerance is None else tolerance
    for name, difference in {first: getattr(found, measure), **signatures}.items():
        if not difference <= limit:
            raise ParityError(
                f"The {precision} export differs from its model: {measure.replace('_', ' ')} "
                f"{difference:.3g} of '{name}' on {len(clips)} clips, more than {limit:.3g}; top-1 "
                f"agreement {found.top1_agreement:.2f}. Choose a higher `precision`, fine-tune the "
                "model for it (`export.quantization_aware`), or allow more with `tolerance`."
            )
    return Parity(
        **found.to_dict(),
        signatures={first: found.largest_difference, **signatures},
        precision=precision,
        limit={measure: limit},
        bytes=_size(artifact),
        latency_ms=1000 * float(np.median(seconds)),
        num_threads=num_threads,
    )


def made_clips(clip_model: ClipModel, num_clips: int = 4, seed: int = 0) -> list[Clip]:
    """Moving coloured patches, where no real clips are at hand.

    They tell whether a file computes what its model computes, not how much a model loses on the
    videos that it is for.
    """
    rng = np.random.default_rng(seed)

    def made(shape: tuple[int, int, int, int]) -> np.ndarray:
        num_frames, height, width, channels = shape
        cell = max(height // 8, 1)
        coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2, channels))
        picture = np.repeat(np.repeat(coarse, cell, axis=0), cell, axis=1).astype(np.uint8)
        speed = rng.integers(-3, 4, 2)
        frames = [
            np.roll(picture, (t * speed[0], t * speed[1]), (0, 1))[:height, :width]
            for t in range(num_frames)
        ]
        return np.stack(frames)

    return [
        {stream: made(shape) for stream, shape in clip_model.inputs.items()}
        for _ in range(num_clips)
    ]


def run_artifact(
    artifact: Path, clips: Sequence[Clip], num_threads: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The answers of each signature, and the seconds of each clip."""
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        cases, answers = Path(place) / "clips.npz", Path(place) / "answers.npz"
        arrays: dict[str, Any] = {
            name: np.stack([clip[name] for clip in clips]) for name in clips[0]
        }
        np.savez(cases, **arrays)
        # Isolated: nothing of the caller's folder and paths is imported.
        command = [sys.executable, "-I", str(Path(__file__).with_name("artifact.py"))]
        result = subprocess.run(
            [*command, str(artifact.resolve()), str(cases), str(answers), str(num_threads)],
            capture_output=True,
            text=True,
        )
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise ParityError(
                f"The exported file does not run (exit code {result.returncode}): {last}"
            )
        with np.load(answers) as found:
            answered = {name: found[name] for name in found.files}
        return answered, answered.pop("seconds")


def _size(artifact: Path) -> int:
    if artifact.is_file():
        return artifact.stat().st_size
    return sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
