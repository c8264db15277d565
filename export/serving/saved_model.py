"""A clip model as a SavedModel that answers TensorFlow Serving's requests by itself."""

from __future__ import annotations

from pathlib import Path

import keras

from export.clip_model import ClipModel
from export.serving.model_card import model_card
from export.serving.signatures import build_signatures
from export.serving.warmup import write_warmup_requests


def save_serving_model(clip_model: ClipModel, folder: str | Path) -> None:
    """Write a SavedModel that needs neither `tfvlad` nor Keras, with its class names and its card.

    Its signatures, of any batch size; B is the batch, C the classes:

    * `serving_default`: uint8 `frames` `(B, T, H, W, 3)` and `flow` `(B, T, H, W, 2L)`, whichever
      the model takes, of any height and width;
    * `encoded_frames`: the same as JPEG or PNG files: strings `frames` `(B, T)`, and `flow`
      `(B, T, 2L)` of grey images;
    * `features`: what the model's backbone, or feature extractor, gives: `features`
      `(B, T, h, w, D)`; of two streams `rgb_features` and `flow_features`; of an attention LSTM
      `input_data` and `attended_data`. Not of models that join whole models;
    * `highlight`: takes what `serving_default` does;
    * `stream`: one `frame` `(B, H, W, 3)`, and `flow` `(B, H, W, 2L)`, after the other, with the
      states of `export.streaming.streaming_model`, where the model can stream.

    All give float32 `probabilities` and strings `class_names`, both `(B, C)`. `highlight` adds
    `frame_weights` `(B, T)`: what each frame adds to the top class's score, or, of an attention
    LSTM, how much it is attended to; and `attention_maps` `(B, T, h, w)` of top-down attention.
    `stream` adds the new states.

    Frames of another size than the model's are resized and cropped in the graph as the pipeline
    does for tests. `assets/` holds `class_names.txt` and `model_card.md`, which tells all this of
    the model at hand; `assets.extra/` the requests with which TensorFlow Serving warms up.

    Args:
        clip_model: What to write.
        folder: Where to, usually `<model>/<version>`.
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
