"""tfvlad: recognise and highlight actions in videos with VLAD pooling and attention in Keras.

The rooms are imported when they are first used: the command line answers before TensorFlow is
loaded. The layers register themselves with Keras as soon as Keras is there, so that
`keras.models.load_model` needs no `custom_objects` after `import tfvlad`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

_ROOMS = ("backbones", "evaluation", "layers", "models", "ops", "training", "visualization")

__all__ = list(_ROOMS)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"tfvlad.{name}")
    raise AttributeError(f"module 'tfvlad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])


class _RegisterLayers(importlib.abc.MetaPathFinder):
    """Imports the layers right after Keras, then steps aside."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            importlib.import_module("tfvlad.layers")

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    importlib.import_module("tfvlad.layers")
else:
    sys.meta_path.insert(0, _RegisterLayers())
