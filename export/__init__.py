"""A trained model -> a SavedModel to serve, a LiteRT file for phones, a model of live frames.

Names are imported on first use: `export.artifact` runs in processes without TensorFlow.
"""

import lazy_loader

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

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_MODULES)
