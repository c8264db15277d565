"""Timing side by side, shared by the benchmarks."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# A script's own folder is the first on its path: there, export.py would hide the package `export`
# from the benchmarks that import it after this module.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def alternating_medians(
    functions: Mapping[str, Callable[[], Any]], repeats: int, warmups: int = 1
) -> dict[str, float]:
    """Median seconds of each function, measured in turns so that a busy machine slows all alike.

    Args:
        functions: name -> a call without arguments that returns when its work is done.
        repeats: measured calls of each function.
        warmups: calls of each function before the measurement (tracing, caches).

    Returns:
        name -> median seconds of a call.
    """
    for function in functions.values():
        for _ in range(warmups):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
