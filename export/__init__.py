"""A trained model -> a SavedModel to serve, a LiteRT file for phones, a model of live frames."""

from export.device.latency import litert_latency_ms
from export.device.metadata import read_class_names
from export.device.quantization import quantization_aware
from export.parity import Parity, ParityError
from export.publishing import Export, litert, saved_model
from tfvlad.live import initial_state, streaming_model
from tfvlad.models import ClipModel

__all__ = [
    "ClipModel",
    "Export",
    "Parity",
    "ParityError",
    "initial_state",
    "litert",
    "litert_latency_ms",
    "quantization_aware",
    "read_class_names",
    "saved_model",
    "streaming_model",
]
