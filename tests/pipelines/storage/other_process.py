"""Another process that holds a lock, until it is ended."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen]:
    """Hold the lock in another process."""
    code = (
        "import sys\n"
        "from pipelines.storage.process_lock import process_lock\n"
        "with process_lock(sys.argv[1], 'it'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
