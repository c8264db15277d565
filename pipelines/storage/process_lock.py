"""A lock that one process holds at a time, and that says which one."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.storage.files import write_json

_logger = logging.getLogger(__name__)


class InUseError(OSError):
    """Another process holds the lock."""


@contextmanager
def process_lock(
    path: str | os.PathLike[str], subject: str, *, timeout: float = 0.0
) -> Iterator[bool]:
    """Holds a lock; the thread that holds it may take it again.

    The operating system lets go of it when a process ends, however that ends.

    Args:
        path: file of the lock, made when missing. The file `<path>.owner` beside it says who holds
            the lock, since one that is locked cannot be read everywhere.
        subject: what the lock is for, as messages call it.
        timeout: seconds to wait for another process; -1 waits without end.

    Yields:
        Whether this is the first hold, not one within another.

    Raises:
        InUseError: when another process holds the lock.
    """
    owner = Path(f"{os.fspath(path)}.owner")
    lock = FileLock(path, is_singleton=True)
    is_held = lock.is_locked
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if timeout:
            _logger.info("Waiting for %s, in use by %s.", subject, _name_of(owner))
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise InUseError(
                f"{subject} is in use by {_name_of(owner)}, and is left as it is. "
                "Wait until that has ended, or choose another folder."
            ) from None
    try:
        if not is_held:
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield not is_held
    finally:
        if not is_held:
            owner.unlink(missing_ok=True)
        lock.release()


def _name_of(owner: Path) -> str:
    try:
        told = json.loads(owner.read_text("utf-8"))
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just beginning
        return "another process"
