"""Hyper-parameter search with KerasTuner: search spaces, hyper-models, resumable searches.

Names are imported on first use: reading a finished search needs no TensorFlow.
"""

import importlib

_MODULES = {
    "attention_lstm": ("AttentionLSTMHyperModel",),
    "figures": ("heat_map", "parallel_coordinates", "pareto"),
    "hyper_models": ("ActionVLADHyperModel", "TAVLADHyperModel"),
    "report": ("write_report",),
    "searches": ("search",),
    "spaces": (
        *("action_vlad_space", "attention_lstm_space", "paper_space", "ta_vlad_space"),
        "two_stream_space",
    ),
    "trials": ("Trial", "best_trials", "pareto_front", "read_trials"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tuning' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tuning.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
