"""A clip model as a SavedModel that answers TensorFlow Serving's requests by itself."""

from __future__ import annotations

from pathlib import Path

import keras

from export.serving.model_card import model_card
from export.serving.signatures import build_signatures
from export.serving.warmup import write_warmup_requests
from tfvlad.models import ClipModel


def save_serving_model(clip_model: ClipModel, folder: str | Path) -> None:
    """Write a SavedModel that needs neither `tfvlad` nor Keras, with its class names and its card.

    What is in it is told at `export.saved_model`.

    Args:
        clip_model: what to write.
        folder: where to, usually `<model>/<version>`.
    """
    folder = Path(folder)
    signatures, left_out = build_signatures(clip_model)
    archive = keras.export.ExportArchive()
    archive.track(clip_model.model)
    endpoints = {
        name: archive.add_endpoint(name, signature.function, input_signature=[signature.inputs])
        for name, signature in signatures.items()
    }
    # Kept, or the archive would trace each once more.
    traces = {name: endpoint.get_concrete_function() for name, endpoint in endpoints.items()}
    archive.write_out(str(folder), verbose=False)
    inputs = {name: signature.inputs for name, signature in signatures.items()}
    outputs = {name: trace.structured_outputs for name, trace in traces.items()}
    card = model_card(clip_model, inputs, outputs, left_out)
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "class_names.txt").write_text("\n".join(clip_model.class_names) + "\n", "utf-8")
    (assets / "model_card.md").write_text(card, "utf-8")
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    write_warmup_requests(extra / "tf_serving_warmup_requests", clip_model, inputs)
