"""Where exports go, checked before the long work."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def version_folder(folder: str | os.PathLike[str], version: int | None) -> Path:
    """Where a SavedModel goes: the folder of the version, by default of the next one.

    Raises:
        ValueError: when the version is there already, or nothing can be written there.
    """
    folder = Path(folder)
    _check_extra("tensorflow_serving")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. A SavedModel goes into a folder of versions.")
    _check_writable(folder)
    # What is written aside has no number for its name: TensorFlow Serving passes over it, too.
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    version = max(taken, default=0) + 1 if version is None else version
    if version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: version={version}.")
    target = folder / str(version)
    if target.exists():
        raise ValueError(f"{target} is there already. Choose another version, or none.")
    return target


def litert_files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Where a LiteRT file goes, and its proof.

    Raises:
        ValueError: when the file has another suffix than .tflite, one of the two is there already,
            or nothing can be written there.
    """
    target = Path(path)
    _check_extra("ai_edge_quantizer")
    if target.suffix != ".tflite":
        raise ValueError(f"`path` must end in .tflite, as LiteRT files do. Received: {target}.")
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
