"""A model becomes a file at its place: written aside, proved, then moved there whole."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.clips import ExportClips, export_clips
from export.device.conversion import convert_litert, operations
from export.device.precision import check_precision
from export.exportable import Model, load_exportable
from export.parity import Clip, Parity, check_parity
from export.places import litert_files, version_folder
from export.serving.saved_model import save_serving_model
from pipelines.progress import track
from pipelines.storage.files import write_aside, write_json
from pipelines.video.index import BrokenVideo
from tfvlad.models import ClipModel
from tfvlad.runs.run_files import tell_left_out

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Export:
    """An exported model, and the proof that it answers as its model does.

    Attributes:
        path: of the SavedModel's folder, or of the LiteRT file.
        parity: how far its answers are from the model's, its size and its speed.
        clips: on which this was found: "given", of videos or by the caller, or "made".
        operations: how often each operation stands in its graph.
        broken: videos that could not be read, and why.
    """

    path: Path
    parity: Parity
    clips: str
    operations: Mapping[str, int]
    broken: tuple[BrokenVideo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "path": str(self.path),
            **self.proof(),
            "broken": [{"path": video.path, "reason": video.reason} for video in self.broken],
        }

    def proof(self) -> dict[str, Any]:
        """The content of parity.json."""
        return {
            **self.parity.to_dict(),
            "ops": dict(self.operations),
            "clips": self.clips,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }

    def __str__(self) -> str:
        found = self.parity
        return (
            f"{self.path}: {found.bytes / 1e6:.1f} MB, largest difference "
            f"{found.largest_difference:.1g}, top-1 agreement {found.top1_agreement:.0%} on "
            f"{found.num_clips} {self.clips} clips, {found.latency_ms:.0f} ms a clip"
        )

    def __repr__(self) -> str:
        return f"<Export {self}>"


def saved_model(
    model: Model | Sequence[Model],
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    clips: Iterable[Clip] | None = None,
    class_names: Sequence[str] | os.PathLike[str] | None = None,
    weights: Sequence[float] | None = None,
    on: str | None = None,
    tolerance: float | None = None,
) -> Export:
    """Write a model as a SavedModel for TensorFlow Serving, `path/<version>/`.

    It is run in a process of its own, on clips, and compared with its model: further from it than
    allowed, nothing is written. The proof is its `assets.extra/parity.json`.

    The SavedModel needs neither `tfvlad` nor Keras. Its signatures, of any batch size; B is the
    batch, C the classes:

    * `serving_default`: uint8 `frames` `(B, T, H, W, 3)` and `flow` `(B, T, H, W, 2L)`, whichever
      the model takes, of any height and width;
    * `encoded_frames`: the same as JPEG or PNG files: strings `frames` `(B, T)`, and `flow`
      `(B, T, 2L)` of grey images;
    * `features`: what the model's backbone, or feature extractor, gives: `features`
      `(B, T, h, w, D)`; of two streams `rgb_features` and `flow_features`; of an attention LSTM
      `input_data` and `attended_data`. Not of models that join whole models;
    * `highlight`: takes what `serving_default` does;
    * `stream`: one `frame` `(B, H, W, 3)`, and `flow` `(B, H, W, 2L)`, after the other, with the
      states of `streaming_model`, where the model can stream.

    All give float32 `probabilities` and strings `class_names`, both `(B, C)`. `highlight` adds
    `frame_weights` `(B, T)`: what each frame adds to the top class's score, or, of an attention
    LSTM, how much it is attended to; and `attention_maps` `(B, T, h, w)` of top-down attention.
    `stream` adds the new states.

    Frames of another size than the model's are resized and cropped in the graph as the pipeline
    does for tests. `assets/` holds `class_names.txt` and `model_card.md`, which tells all this of
    the model at hand; `assets.extra/` the requests with which TensorFlow Serving warms up.

    Args:
        model: a run, its folder, a `.keras` file, a model of clips, or a `ClipModel`, which tells
            of a model of clips what a run would. Several of them are fused into one model.
        path: the served model's folder; other versions may lie there.
        version: a number that is not there yet; by default the next one.
        videos: on which it is proved: video files, frame folders, or folders that hold videos. By
            default those of the run's validation list; where they are gone, clips are made.
        clips: in the place of videos, uint8 clips `(T, H, W, channels)` by stream, "frames" and
            "flow".
        class_names: of a model outside a run, or a file with one in each line; by default the
            classes' numbers.
        weights: of several models, one for each; equal ones by default.
        on: which of several models' scores are averaged, "logits" (the default) or
            "probabilities".
        tolerance: largest difference of a class probability; 1e-4 by default.

    Raises:
        ParityError: when the SavedModel does not answer as the model does.
        ValueError: when the version is there already, the models, videos or clips cannot be used,
            or an argument has no effect.

    Example:
        >>> export.saved_model("runs/kick", "serving/actions")
    """
    target = version_folder(path, version)
    exportable = load_exportable(model, class_names=class_names, weights=weights, on=on)
    with (
        export_clips(exportable, videos, clips, calibrate=False) as found,
        write_aside(target) as aside,
    ):
        _tell(found)
        save_serving_model(exportable.clip_model, aside)
        parity = check_parity(
            aside, _classifier(exportable.clip_model), found.proof, tolerance=tolerance
        )
        written = Export(target, parity, found.origin, _graph_operations(aside), found.broken)
        write_json(aside / "assets.extra" / "parity.json", written.proof())
    return written


def litert(
    model: Model | Sequence[Model],
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    streaming: bool = False,
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    clips: Iterable[Clip] | None = None,
    class_names: Sequence[str] | os.PathLike[str] | None = None,
    weights: Sequence[float] | None = None,
    on: str | None = None,
    tolerance: float | None = None,
) -> Export:
    """Write a model as a LiteRT (TensorFlow Lite) file for phones.

    It is run in a process of its own, on clips, and compared with its model: further from it than
    allowed, nothing is written. The proof lies beside it, `<name>.parity.json`.

    The file is for a batch of one, of built-in operations only. Its signature `classify` takes
    uint8 `frames` `(1, T, H, W, 3)` and/or `flow` `(1, T, H, W, 2L)` and gives `probabilities`
    `(1, C)`. With `streaming` the signature is `stream`: uint8 `frame` `(1, H, W, 3)` and states,
    zeros at first, to `probabilities` after this frame and the new states under the same names. The
    class names are in the file's metadata, see `read_class_names`.

    Args:
        model: as for `saved_model`.
        path: the file, `.tflite`.
        precision: how weights and maps are stored and computed:

            * "float32": as in Keras;
            * "float16": weights of convolutions and matrix products are stored in half precision
              and computed with in single precision;
            * "dynamic": they are stored in 8 bits, those of depthwise convolutions as with
              "float16", and the products computed in integers where the runtime can;
            * "int8": the backbones compute in 8 bits from the first convolution on that reads 64
              channels (before it, integers are slower on CPUs; one without two-dimensional
              convolutions, such as C3D, stays as with "float16"), with ranges from typical clips:
              moving averages of their extremes, which agreed with float32 on more clips than the
              extremes themselves. What follows the backbones is computed in single precision, its
              weights stored in 8 bits.

            With all of them, top-down attention, all of an attention LSTM but its input products,
            what other recurrences compute in each step and the logits are as with "float16". VLAD's
            assignments and centres and norms stay in float32: nearly hard assignments (alpha=1000)
            turn the smallest error into another action word.
        streaming: frame by frame, see `streaming_model`.
        videos: as for `saved_model`. With "int8" they are typical videos: a fifth of them prove,
            the others calibrate. By default the run's training list calibrates.
        clips: as for `saved_model`; with "int8" they are divided like videos. 40 do.
        class_names: as for `saved_model`.
        weights: as for `saved_model`.
        on: as for `saved_model`.
        tolerance: in the place of the precision's limit, see `export.parity.LIMITS`.

    Raises:
        ParityError: when the file does not answer as the model does.
        ValueError: when the path is taken or has another suffix, the models, videos or clips cannot
            be used, the model cannot stream or needs operations that LiteRT has not built in, or an
            argument has no effect.

    Reference:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference" (8 bits with one scale for each output channel).

    Example:
        >>> export.litert("runs/kick", "actions.tflite", precision="int8")
    """
    check_precision(precision)
    target, proof = litert_files(path)
    exportable = load_exportable(model, class_names=class_names, weights=weights, on=on)
    calibrate = precision == "int8"
    with (
        export_clips(exportable, videos, clips, calibrate=calibrate) as found,
        write_aside(target) as aside,
    ):
        _tell(found)
        if calibrate and found.origin == "made":
            raise ValueError(
                "int8 is calibrated on typical videos, and those of a run's own lists are not at "
                "hand. Give `videos`."
            )
        calibration = track(found.calibration, "Calibrating", found.num_calibration)
        content = convert_litert(
            exportable.clip_model,
            precision=precision,
            streaming=streaming,
            calibration_clips=calibration if calibrate else None,
        )
        aside.write_bytes(content)
        parity = check_parity(
            aside,
            _classifier(exportable.clip_model),
            found.proof,
            precision=precision,
            tolerance=tolerance,
        )
        written = Export(target, parity, found.origin, operations(content), found.broken)
        write_json(proof, written.proof())
    return written


def _tell(clips: ExportClips) -> None:
    tell_left_out(clips.broken)
    if clips.origin == "made":
        _logger.info(
            "No videos of a run's own lists are at hand: the export is proved on made clips."
        )


def _classifier(clip_model: ClipModel) -> Callable[[Clip], np.ndarray]:
    """The Keras model on one clip, as `predict` runs it."""

    def answer(clip: Clip) -> np.ndarray:
        inputs = [clip[stream].astype("float32") for stream in clip_model.streams]
        scores = clip_model.model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        return clip_model.normalized(scores).numpy()[0]

    return answer


def _graph_operations(folder: Path) -> dict[str, int]:
    """How often each operation stands in the graph of the default signature."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    graph = signature.graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return dict(sorted(Counter(node.op for node in nodes).items()))
