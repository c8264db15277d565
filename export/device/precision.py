"""Reduced precision of LiteRT files, layer by layer."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfvlad import compat
from tfvlad.layers import BahdanauLSTMCell, FramewiseBackbone, NetVLAD, TopDownAttention
from tfvlad.models import parts_of

PRECISIONS = ("float32", "float16", "dynamic", "int8")

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv2D)
# What has weights that may be rounded, by the position of the weights among its inputs.
_WEIGHTED = {
    "CONV_2D": 1,
    "CONV_3D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
    "GATHER": 0,
}
# Below it, an integer convolution takes longer than a float one (XNNPACK on AVX2: the first one of
# MobileNetV2 9 ms instead of 2, the expansion of 16 channels 11 instead of 7).
MIN_INT8_CHANNELS = 64
# Smaller ones are not worth the operation that converts them back.
_MIN_FLOAT16_SIZE = 1024


class _Scopes(NamedTuple):
    """Patterns of the names of what the layers of a kind compute."""

    backbones: str
    # Computed in single precision, of weights in half precision.
    half: str
    exact: str


def check_precision(precision: str) -> None:
    """Raises a ValueError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}."
        )


def with_precision(
    content: bytes,
    model: keras.Model,
    precision: str,
    signature: str,
    samples: Sequence[Mapping[str, np.ndarray]],
) -> bytes:
    """A float32 LiteRT file in another precision.

    Args:
        content: the file.
        model: what it was converted from.
        precision: one of `PRECISIONS`, see `export.litert`.
        signature: the file's signature.
        samples: for "int8", inputs of the signature from which the ranges are taken.
    """
    scopes = _scopes(model)
    if precision in ("dynamic", "int8"):
        content = _quantized(content, scopes, precision, signature, samples)
    return content if precision == "float32" else _with_float16_weights(content, scopes.exact)


def _scopes(model: keras.Model) -> _Scopes:
    names: dict[str, list[str]] = {"backbones": [], "half": [], "exact": []}
    classifiers = _classifiers(model)
    for layer in _outer_layers(model):
        inner = list(compat.walk_layers(layer))
        if any(isinstance(part, NetVLAD) for part in inner):
            names["exact"].append(layer.name)
        elif any(isinstance(part, TopDownAttention) for part in inner):
            names["half"].append(layer.name)
        elif isinstance(layer, (FramewiseBackbone, keras.Model)):
            names["backbones"].append(layer.name)
        elif layer in classifiers:
            names["half"].append(layer.name)
        for cell in inner:
            if isinstance(cell, BahdanauLSTMCell):
                products = set(compat.walk_layers(cell)) - {cell, cell.input_projection}
                names["half"].extend(sorted(product.name for product in products))
    return _Scopes(
        # A fused operation has several names. One that belongs to a backbone begins with it; what
        # follows on a backbone may mention it later.
        _pattern(names["backbones"], start="^([^;]*/)?"),
        # The other recurrences are loops.
        f"{_pattern(names['half'])}|/while/",
        _pattern(names["exact"]),
    )


def _classifiers(model: keras.Model) -> list[keras.layers.Layer]:
    """The dense layers to the classes, of the models that it is nested of too."""
    found = list(parts_of(model).classifiers)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _classifiers(layer)
    return found


def _outer_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers that a model chains, and those of the parts it is nested of."""
    for layer in model.layers:
        inner = list(compat.walk_layers(layer))
        is_network = any(isinstance(part, _CONVOLUTIONS) for part in inner)
        has_backbone = any(isinstance(part, FramewiseBackbone) for part in inner)
        if isinstance(layer, keras.Model) and (has_backbone or not is_network):
            yield from _outer_layers(layer)
        else:
            yield layer


def _pattern(names: list[str], start: str = "(^|[/;])") -> str:
    # TensorFlow numbers a scope's later calls: "backbone_1".
    alternatives = "|".join(map(re.escape, names))
    return rf"{start}({alternatives})(_\d+)?/" if names else r"(?!)"


def _quantized(
    content: bytes,
    scopes: _Scopes,
    precision: str,
    signature: str,
    samples: Sequence[Mapping[str, np.ndarray]],
) -> bytes:
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.qtyping import TFLOperationName

    every = TFLOperationName.ALL_SUPPORTED
    with _quiet():
        session = quantizer.Quantizer(content)
        # Of several patterns that match, the last one counts.
        if precision == "dynamic":
            # Integer kernels of depthwise convolutions, which have few weights, are slow.
            for operation in ("CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
                session.add_dynamic_config(".*", TFLOperationName[operation], num_bits=8)
            as_they_are = []
        else:
            session.add_weight_only_config(".*", TFLOperationName.FULLY_CONNECTED, num_bits=8)
            session.add_static_config(
                scopes.backbones, every, activation_num_bits=8, weight_num_bits=8
            )
            as_they_are = [rf"(^|;){re.escape(name)}(;|$)" for name in _first_maps(content)]
        for pattern in (*as_they_are, scopes.half, scopes.exact):
            session.update_quantization_recipe(
                pattern, every, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
            )
        ranges = session.calibrate(
            {signature: samples},
            num_threads=os.cpu_count(),
            # The other mode does not follow the loops of recurrences.
            mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        )
        result = session.quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)


def _first_maps(content: bytes) -> list[str]:
    """Names of what is computed of the inputs before a convolution that reads many channels."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    (signature,) = model.signatureDefs
    subgraph = model.subgraphs[signature.subgraphIndex]

    def channels(operator: Any) -> int:
        """What a convolution reads; a depthwise one works on one channel at a time."""
        name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        return subgraph.tensors[operator.inputs[0]].shape[-1] if name == "CONV_2D" else 0

    many = min(MIN_INT8_CHANNELS, max(map(channels, subgraph.operators), default=0))
    first = set(subgraph.inputs)
    for operator in subgraph.operators:
        computed = [
            index
            for index in operator.inputs
            if index >= 0 and model.buffers[subgraph.tensors[index].buffer].data is None
        ]
        if computed and first.issuperset(computed) and not 0 < many <= channels(operator):
            first.update(operator.outputs)
    return [subgraph.tensors[index].name.decode() for index in first - set(subgraph.inputs)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer shows progress bars, and warns of what it does itself."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _with_float16_weights(content: bytes, exact: str) -> bytes:
    """Stores the float32 weights that are left in half precision, those of `exact` aside."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    dequantize = len(model.operatorCodes)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that takes float16
    model.operatorCodes.append(code)
    halves: dict[int, int] = {}
    for subgraph in model.subgraphs:
        conversions = []
        for index in _weights(model, subgraph, exact):
            tensor = subgraph.tensors[index]
            if tensor.buffer not in halves:
                values = np.frombuffer(model.buffers[tensor.buffer].data, "<f4")
                buffer = schema.BufferT()
                buffer.data = values.astype("<f2").view(np.uint8)
                halves[tensor.buffer] = len(model.buffers)
                model.buffers.append(buffer)
            half = schema.TensorT()
            half.name = tensor.name + b"_float16"
            half.shape, half.type = tensor.shape, schema.TensorType.FLOAT16
            half.buffer, tensor.buffer = halves[tensor.buffer], 0
            operator = schema.OperatorT()
            operator.opcodeIndex = dequantize
            operator.inputs, operator.outputs = [len(subgraph.tensors)], [index]
            subgraph.tensors.append(half)
            conversions.append(operator)
        subgraph.operators = conversions + subgraph.operators
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    for replaced in set(halves) - used:
        model.buffers[replaced] = schema.BufferT()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _weights(model: Any, subgraph: Any, exact: str) -> list[int]:
    """The large float32 constants that all their readers take as weights."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    float32 = schema.TensorType.FLOAT32
    candidates: Counter[int] = Counter()
    readers = Counter(index for operator in subgraph.operators for index in operator.inputs)
    for operator in subgraph.operators:
        name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        position = _WEIGHTED.get(name)
        outputs = ";".join(subgraph.tensors[index].name.decode() for index in operator.outputs)
        if position is not None and not re.search(exact, outputs):
            candidates[operator.inputs[position]] += 1
    return [
        index
        for index, count in sorted(candidates.items())
        if count == readers[index]
        and subgraph.tensors[index].type == float32
        and model.buffers[subgraph.tensors[index].buffer].data is not None
        and np.prod(subgraph.tensors[index].shape) >= _MIN_FLOAT16_SIZE
    ]
