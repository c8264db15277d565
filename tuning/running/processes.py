"""The processes of a search: alone, the chief that hands out trials, or one of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Those of KerasTuner, which has no other way to be told.
_VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")


def is_worker() -> bool:
    """Whether this process runs the trials of a chief."""
    return "chief" not in os.environ.get(_VARIABLES[2], "chief") and _VARIABLES[0] in os.environ


def is_chief() -> bool:
    """Whether this process hands out the trials to workers."""
    return _VARIABLES[0] in os.environ and not is_worker()


@contextmanager
def search_process(chief: str | None, worker: tuple[str, str] | None) -> Iterator[None]:
    """Makes this process a chief or a worker; without both arguments it stays what it is.

    Args:
        chief: see `tuning.search`.
        worker: see `tuning.search`.

    Raises:
        ValueError: when both are given, an address is none, or a name would be taken for the
            chief's.
    """
    if chief is None and worker is None:
        yield
        return
    if chief is not None and worker is not None:
        raise ValueError("A process is `chief` or `worker`, not both.")
    argument, (address, name) = ("worker", worker) if worker else ("chief", (str(chief), ""))
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdigit():
        raise ValueError(
            f"`{argument}` must have an address HOST:PORT, such as 127.0.0.1:8000. "
            f"Received: {address!r}."
        )
    if "chief" in name:
        raise ValueError(f"`worker` must have another name than the chief. Received: {name!r}.")
    before = {variable: os.environ.get(variable) for variable in _VARIABLES}
    os.environ.update(
        zip(_VARIABLES, (host, port, f"worker-{name}" if worker else "chief"), strict=True)
    )
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value
