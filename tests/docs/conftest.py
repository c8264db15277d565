"""The pages are written for the current stack: elsewhere their tests are not even imported."""

from __future__ import annotations

import importlib.metadata

IS_CURRENT = int(importlib.metadata.version("keras").split(".")[0]) >= 3

collect_ignore_glob = [] if IS_CURRENT else ["*.py"]
