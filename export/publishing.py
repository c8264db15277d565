"""A model becomes a file at its place: written aside, proved, then moved there whole."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.artifact import FRAME_INPUTS
from export.clip_model import ClipModel
from export.litert import convert_litert, operations
from export.parity import Clip, check_parity, made_clips
from export.saved_model import save_serving_model
from export.streaming import initial_state, streaming_model


def export_saved_model(
    clip_model: ClipModel,
    folder: str | Path,
    *,
    version: int | None = None,
    clips: Sequence[Clip] | None = None,
    tolerance: float | None = None,
) -> Path:
    """Write `folder/<version>/` for TensorFlow Serving, proved against the model.

    Args:
        clip_model: What to export.
        folder: The served model's folder; further versions may lie there.
        version: A number that is not there yet; by default the next one.
        clips: uint8 clips `(T, H, W, channels)` by stream for the proof; by default made ones.
        tolerance: Largest difference of a class probability; 1e-4 by default.

    Returns:
        The version's folder. The proof is its `assets.extra/parity.json`.

    Raises:
        ParityError: The SavedModel does not answer as the model does; nothing is written.
        ValueError: The version is there already.
    """
    target = version_folder(folder, version)
    with _staged(target.parent) as place:
        staged = place / "saved_model"
        save_serving_model(clip_model, staged)
        report = check_parity(
            staged, _classifier(clip_model), clips or made_clips(clip_model), tolerance=tolerance
        )
        report["ops"] = _graph_operations(staged)
        _write_json(staged / "assets.extra" / "parity.json", report | _told(clips))
        target.parent.mkdir(exist_ok=True)
        staged.rename(target)
    return target


def export_litert(
    clip_model: ClipModel,
    path: str | Path,
    *,
    precision: str = "float32",
    streaming: bool = False,
    calibration_clips: Iterable[Clip] | None = None,
    clips: Sequence[Clip] | None = None,
    tolerance: float | None = None,
) -> Path:
    """Write a LiteRT file for phones, proved against the model.

    Args:
        clip_model: What to export.
        path: The file, `.tflite`.
        precision: "float32", "float16", "dynamic" or "int8", see `convert_litert`.
        streaming: One frame at a time, its memory handed in and out, see `streaming_model`.
        calibration_clips: Typical clips for "int8", as `clips`.
        clips: uint8 clips `(T, H, W, channels)` by stream for the proof; by default made ones.
        tolerance: In the place of the precision's limit, see `export.parity.LIMITS`.

    Returns:
        The file. The proof lies beside it, `<name>.parity.json`.

    Raises:
        ParityError: The file does not answer as the model does; nothing is written.
        ValueError: The path is taken or has another suffix, or as `convert_litert`.
    """
    target, proof = litert_files(path)
    with _staged(target) as place:
        staged = place / target.name
        staged.write_bytes(
            convert_litert(
                clip_model,
                precision=precision,
                streaming=streaming,
                calibration_clips=calibration_clips,
            )
        )
        report = check_parity(
            staged,
            _frame_by_frame(clip_model) if streaming else _classifier(clip_model),
            clips or made_clips(clip_model),
            precision=precision,
            tolerance=tolerance,
        )
        report["ops"] = operations(staged.read_bytes())
        _write_json(staged.with_suffix(".parity.json"), report | _told(clips))
        staged.with_suffix(".parity.json").rename(proof)
        staged.rename(target)
    return target


def version_folder(folder: str | Path, version: int | None) -> Path:
    """Where a SavedModel goes: the folder of the version, by default of the next one.

    Raises:
        ValueError: the version is there already.
    """
    taken = [int(path.name) for path in Path(folder).glob("*") if path.name.isdigit()]
    target = Path(folder) / str(version or max(taken, default=0) + 1)
    if target.exists():
        raise ValueError(f"{target} is there already. Choose another version, or none.")
    return target


def litert_files(path: str | Path) -> tuple[Path, Path]:
    """Where a LiteRT file goes, and its proof.

    Raises:
        ValueError: the file has another suffix than .tflite, or one of the two is there already.
    """
    target = Path(path)
    if target.suffix != ".tflite":
        raise ValueError(f"A LiteRT file ends in .tflite. Received: {target}.")
    proof = target.with_suffix(".parity.json")
    for one in (target, proof):
        if one.exists():
            raise ValueError(f"{one} is there already. Choose another name, or remove it.")
    return target, proof


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder on the target's file system that is gone in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _classifier(clip_model: ClipModel) -> Callable[[Clip], np.ndarray]:
    """The Keras model on one clip, as `predict` runs it."""

    def answer(clip: Clip) -> np.ndarray:
        inputs = [clip[stream].astype("float32") for stream in clip_model.streams]
        scores = clip_model.model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        return clip_model.normalized(scores).numpy()[0]

    return answer


def _frame_by_frame(clip_model: ClipModel) -> Callable[[Clip], np.ndarray]:
    """The streaming Keras model on the frames of one clip."""
    stream = streaming_model(clip_model.model)

    @tf.function
    def step(inputs: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return stream(inputs, training=False)

    def answer(clip: Clip) -> np.ndarray:
        states: dict[str, Any] = initial_state(stream)
        for t in range(next(iter(clip.values())).shape[1]):
            frame = {FRAME_INPUTS[name]: tf.cast(x[:, t], tf.float32) for name, x in clip.items()}
            outputs = step({**frame, **states})
            states = {name: outputs[name] for name in states}
        return clip_model.normalized(outputs["scores"]).numpy()[0]

    return answer


def _graph_operations(folder: Path) -> dict[str, int]:
    """How often each operation stands in the graph of the default signature."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    graph = signature.graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return dict(sorted(Counter(node.op for node in nodes).items()))


def _told(clips: Sequence[Clip] | None) -> dict[str, str]:
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return {"clips": "made" if clips is None else "given", **versions}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
