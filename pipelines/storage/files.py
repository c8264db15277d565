"""A file or a folder appears when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PREFIX = ".partial-"


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path to write to, and moves what is there to `path` in the end, in one step.

    A reader never sees half a file, and of two writers the last one wins. After an error, nothing
    is left. The path ends like `path`: many writers choose the format by the suffix.

    Args:
        path: the file, which may exist, or the folder, which must not; missing parents are made.
    """
    path = Path(path)
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=_PREFIX, ignore_cleanup_errors=True
        ) as folder:
            aside = Path(folder, path.name)
            yield aside
            os.replace(aside, path)
    except BaseException:
        with suppress(OSError):  # something else has been written there
            for parent in missing:
                parent.rmdir()
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, aside first."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file for machines and people, aside first."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes were writing into a folder; no other one may be writing."""
    for path in Path(folder).glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
