"""Hyper-parameter search with KerasTuner: search spaces, hyper-models, resumable searches.

Names are imported on first use: reading a finished search needs no TensorFlow.
"""

import lazy_loader

_MODULES = {
    "hyper_models.attention_lstm": ("AttentionLSTMHyperModel",),
    "figures": ("heat_map", "parallel_coordinates", "pareto"),
    "hyper_models.clips": ("ActionVLADHyperModel", "TAVLADHyperModel"),
    "report": ("write_report",),
    "searches": ("search",),
    "hyper_models.spaces": (
        *("action_vlad_space", "attention_lstm_space", "paper_space", "ta_vlad_space"),
        "two_stream_space",
    ),
    "trials": ("Trial", "best_trials", "pareto_front", "read_trials"),
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_MODULES)
