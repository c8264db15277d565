"""A trained model -> a SavedModel to serve, a LiteRT file for phones, a model of live frames.

Names are imported on first use: `export.artifact` runs in processes without TensorFlow.
"""

import importlib

_MODULES = {
    "clip_model": ("ClipModel",),
    "litert.conversion": ("convert_litert",),
    "parity": ("ParityError", "check_parity"),
    "litert.latency": ("litert_latency_ms",),
    "litert.metadata": ("read_class_names",),
    "publishing": ("export_litert", "export_saved_model"),
    "litert.quantization": ("quantization_aware",),
    "serving.saved_model": ("save_serving_model",),
    "streaming": ("initial_state", "streaming_model"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"export.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
