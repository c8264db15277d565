"""The metadata of a LiteRT file: what it takes and gives, and the names of its classes.

TensorFlow Lite Model Metadata, as Android's MetadataExtractor and the Task Library read it: a
flatbuffer inside the file (metadata_schema.fbs of tensorflow/tflite-support, version 1) and
`labels.txt` in a ZIP archive appended to it. The packages that write it do not install beside a
current TensorFlow.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers

from tfvlad.models import ClipModel

_LABELS = "labels.txt"
_TENSOR_AXIS_LABELS = 2
_DESCRIPTIONS = {
    "frames": "RGB frames of a clip, values 0..255.",
    "flow": "Stacks of optical flow, x and y of each step, values 0..255.",
    "frame": "An RGB frame, values 0..255.",
    "probabilities": "Of each class.",
}
_STATE = "State of the stream: zeros at first, then what the call before gave."


def with_metadata(content: bytes, clip_model: ClipModel) -> bytes:
    """The file with metadata and `labels.txt`."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = _metadata(model, clip_model)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    stream = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(stream, "a") as archive:
        # A fixed date: the same model gives the same file.
        archive.writestr(zipfile.ZipInfo(_LABELS), "\n".join(clip_model.class_names) + "\n")
    return stream.getvalue()


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names in a LiteRT file that `with_metadata` wrote.

    Raises:
        ValueError: when the file has none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.read(_LABELS).decode().split("\n")[:-1])
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"'{Path(path).name}' holds no class names. Files of `export.litert` do."
        ) from error


def _metadata(model: Any, clip_model: ClipModel) -> bytes:
    """The flatbuffer; the numbers are the fields' positions in the schema's tables."""
    builder = flatbuffers.Builder()
    (signature,) = model.signatureDefs
    tensors = [
        {mapping.tensorIndex: mapping.name.decode() for mapping in mappings}
        for mappings in (signature.inputs, signature.outputs)
    ]
    subgraph = model.subgraphs[signature.subgraphIndex]
    inputs, outputs = (
        _vector(builder, [_tensor(builder, names[index]) for index in indices])
        for names, indices in zip(tensors, (subgraph.inputs, subgraph.outputs), strict=True)
    )
    graph = _table(builder, {0: signature.signatureKey.decode(), 2: inputs, 3: outputs})
    description = f"Classifies video clips as one of {clip_model.num_classes} actions."
    if clip_model.multi_label:
        description = f"Finds which of {clip_model.num_classes} actions a video clip shows."
    root = _table(
        builder,
        {0: clip_model.model.name, 1: description, 3: _vector(builder, [graph]), 7: "1.0.0"},
    )
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def _tensor(builder: flatbuffers.Builder, name: str) -> int:
    fields: dict[int, str | int] = {0: name, 1: _DESCRIPTIONS.get(name, _STATE)}
    if name == "probabilities":
        file_name = builder.CreateString(_LABELS)
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, file_name, 0)
        builder.PrependInt8Slot(2, _TENSOR_AXIS_LABELS, 0)
        fields[6] = _vector(builder, [builder.EndObject()])
    return _table(builder, fields)


def _table(builder: flatbuffers.Builder, fields: dict[int, str | int]) -> int:
    """A table of strings and of what was written before it."""
    offsets = {
        position: builder.CreateString(value) if isinstance(value, str) else value
        for position, value in fields.items()
    }
    builder.StartObject(max(offsets) + 1)
    for position, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(position, offset, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
