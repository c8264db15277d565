"""A folder that belongs to one piece of work: a training, a feature set, a search."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.storage.files import remove_unfinished, write_json
from pipelines.storage.process_lock import process_lock

# To read, compare and write the settings takes much less.
_CLAIM_SECONDS = 10.0


def read_json(path: Path) -> Any:
    """Reads a file of settings."""
    return json.loads(path.read_text("utf-8"))


class OwnedFolder:
    """A folder of one piece of work, which goes on there and nowhere else.

    The folder says with which settings it was begun, in a JSON file. Work with the same settings
    goes on in it; other settings are refused, and so is a folder of other things.

    ```python
    owned = OwnedFolder("runs/kick", holds="a run", settings_file="config.json")
    with owned.locked():  # while another process works there: an error that names it
        owned.claim({"model": "ta-vlad", "num_frames": 25})
        ...
    ```

    Several processes that share a folder, such as the workers of a search, call `claim` without
    `locked`.

    Args:
        path: the folder, made when missing.
        holds: what the folder holds, as messages call it: "a run", "features".
        settings_file: name of the file with the settings.
        read: reads the settings from that file's path, for example those of an earlier version in
            the words of today. A `ValueError`, `KeyError` or `TypeError` tells that the file is
            something else.
        ignored: names of settings that may differ; the file tells those of the last work.
        begun_by: name of the file that the work leaves first. While it is missing, other settings
            replace those that are there: nothing would be lost.
        besides: patterns of names that may be there before, such as "data"; hidden ones may always.

    Attributes:
        path: the folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        holds: str,
        settings_file: str,
        read: Callable[[Path], Mapping[str, Any]] = read_json,
        ignored: Collection[str] = (),
        begun_by: str | None = None,
        besides: Collection[str] = (),
    ):
        self.path = Path(path)
        self.holds = holds
        self.settings_file = settings_file
        self.read = read
        self.ignored = ignored
        self.begun_by = begun_by
        self.besides = besides

    def check_free(self) -> None:
        """Refuses a folder of other things.

        Raises:
            ValueError: when there is something, and no file of settings.
        """
        if not self.path.exists() or (self.path / self.settings_file).exists():
            return
        if not self.path.is_dir():
            raise ValueError(f"'{self.path}' is no folder. Choose another name.")
        others = sorted(
            path.name
            for path in self.path.iterdir()
            if not path.name.startswith(".") and not any(map(path.match, self.besides))
        )
        if others:
            raise ValueError(
                f"'{self.path}' is not empty and does not hold {self.holds}: it has no "
                f"{self.settings_file}, but {', '.join(others[:3])}. Choose a new folder."
            )

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuses settings other than those that the folder was begun with, if it was.

        Raises:
            ValueError: when settings differ, or the file with them is something else.
        """
        if not self._is_begun():
            return
        path = self.path / self.settings_file
        try:
            there = _leaves(self.read(path))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"'{path}' does not describe {self.holds} ({error}). Choose another folder."
            ) from error
        here = _leaves(settings)
        different = [
            f"{name}: {_shown(there, name)} there, {_shown(here, name)} here"
            for name in dict.fromkeys([*here, *there])
            if name not in self.ignored and there.get(name) != here.get(name)
        ]
        if different:
            raise ValueError(
                f"'{self.path}' holds {self.holds} with other settings and is left as it is "
                f"({'; '.join(different)}). Choose another folder, or the same settings to go on."
            )

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder this work's, or sees that it is.

        Args:
            settings: JSON values; tuples become lists. Mappings may be nested: messages name their
                values like `training.epochs`.

        Raises:
            ValueError: when the folder holds other things or work with other settings.
            InUseError: when another process works there.
        """
        with self._only_process(_CLAIM_SECONDS):
            self.check_settings(settings)
            if self.ignored or not self._is_begun():
                write_json(self.path / self.settings_file, settings)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out; what a killed one was writing into the folder is removed.

        Raises:
            ValueError: when the folder holds other things.
            InUseError: when another process works there; the message names it.
        """
        with self._only_process(0.0) as is_first:
            if is_first:
                remove_unfinished(self.path)
            yield

    @contextmanager
    def _only_process(self, timeout: float) -> Iterator[bool]:
        self.check_free()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = process_lock(self.path / ".lock", f"'{self.path}'", timeout=timeout)
        with lock as is_first:
            yield is_first

    def _is_begun(self) -> bool:
        names = [self.settings_file, *([self.begun_by] if self.begun_by else [])]
        return all((self.path / name).exists() for name in names)


def _leaves(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of nested mappings, and of lists of them, under its full name, as JSON has it."""
    found: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(dict(settings))).items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {str(number): one for number, one in enumerate(value, 1)}
        if isinstance(value, dict) and value:
            found |= {f"{name}.{inner}": leaf for inner, leaf in _leaves(value).items()}
        else:
            found[name] = value
    return found


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return reprlib.repr(settings[name]) if name in settings else "nothing"
