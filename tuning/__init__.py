"""Hyper-parameter search with KerasTuner: search spaces, hyper-models, resumable searches.

Names are imported on first use: reading a finished search needs no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
