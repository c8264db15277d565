"""A model becomes a file at its place: written aside, proved, then moved there whole."""

from __future__ import annotations

import importlib.util
import json
import os
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

from export.clip_model import ClipModel
from export.litert.conversion import convert_litert, operations
from export.parity import Clip, check_parity, made_clips
from export.serving.saved_model import save_serving_model


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
    with _staged(target.parent) as place:
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
            _classifier(clip_model),
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
        ValueError: the version is there already, or nothing can be written there.
    """
    folder = Path(folder)
    _check_extra("tensorflow_serving")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. A SavedModel goes into a folder of versions.")
    _check_writable(folder)
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    version = max(taken, default=0) + 1 if version is None else version
    if version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: version={version}.")
    target = folder / str(version)
    if target.exists():
        raise ValueError(f"{target} is there already. Choose another version, or none.")
    return target


def litert_files(path: str | Path) -> tuple[Path, Path]:
    """Where a LiteRT file goes, and its proof.

    Raises:
        ValueError: the file has another suffix than .tflite, one of the two is there already, or
            nothing can be written there.
    """
    target = Path(path)
    _check_extra("ai_edge_quantizer")
    if target.suffix != ".tflite":
        raise ValueError(f"A LiteRT file ends in .tflite. Received: {target}.")
    proof = target.with_suffix(".parity.json")
    for one in (target, proof):
        if one.exists():
            raise ValueError(f"{one} is there already. Choose another name, or remove it.")
    _check_writable(target.parent)
    return target, proof


def _check_extra(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError('Exports need the extra "export": pip install "tfvlad[export]".')


def _check_writable(folder: Path) -> None:
    """Of a folder that may have to be made."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"Nothing can be written into {existing}. Choose another place.")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A hidden folder in the target's own, so that moving out of it is one step; gone in the end.

    TensorFlow Serving passes over names that are no numbers.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _classifier(clip_model: ClipModel) -> Callable[[Clip], np.ndarray]:
    """The Keras model on one clip, as `predict` runs it."""

    def answer(clip: Clip) -> np.ndarray:
        inputs = [clip[stream].astype("float32") for stream in clip_model.streams]
        scores = clip_model.model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        return clip_model.normalized(scores).numpy()[0]

    return answer


def _graph_operations(folder: Path) -> dict[str, int]:
    """How often each operation stands in the graph of the default signature."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    graph = signature.graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return dict(sorted(Counter(node.op for node in nodes).items()))


def _told(clips: Sequence[Clip] | None) -> dict[str, str]:
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return {"clips": "given" if clips else "made", **versions}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
