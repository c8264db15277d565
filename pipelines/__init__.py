"""Files on disk -> batches of labelled clips.

Names are imported on first use; only the clip sources bring TensorFlow. `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
