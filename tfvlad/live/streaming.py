"""A clip model as a model of one frame at a time, for live video: state in, state out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfvlad import compat
from tfvlad.layers import (
    ActionVLAD,
    AttentionLSTM,
    DescriptorNormalization,
    NetVLAD,
    SegmentPooling,
    SeparateGRUs,
    SharedGRU,
)
from tfvlad.live.attention_window import AttentionWindow
from tfvlad.models import parts_of, with_num_frames
from tfvlad.models.portable import portable, single_precision

# The names of the streams' inputs.
_INPUTS = ("frame", "flow")
_SUMS = (ActionVLAD, keras.layers.GlobalAveragePooling3D, keras.layers.GlobalMaxPooling3D)
_RECURRENT = (SharedGRU, SeparateGRUs, keras.layers.GRU)

# An aggregation's result after a frame, its old states (inputs) and its new ones.
_Step = tuple[Any, list[Any], list[Any]]


@single_precision()
def streaming_model(
    model: keras.Model, *, decay: float = 1.0, carry_state: bool = False
) -> keras.Model:
    """The model of single frames that scores, after each frame, all that it has seen so far.

    What it keeps from frame to frame is small and of constant size:

    * ActionVLAD: the sum over the frames of each cluster's residuals, before any norm; average and
      maximum pooling likewise. With `decay=1` the scores equal the clip model's on all frames so
      far.
    * With `num_segments`: what is summed of each of the last T frames, T being the model's. The
      scores equal the clip model's on the last T frames, or on all of them while there are fewer.
    * TA-VLAD: the GRU's state of each cluster. The scores equal the clip model's on all frames so
      far.
    * An attention LSTM behind frame extractors (`end_to_end`): what the LSTM reads of the last T
      frames, its projections of them. Every step attends to the whole window, so the LSTM is run
      over the window again after each frame; that is cheap beside the extractor. The scores equal
      the clip model's on the last T frames. Before there are T, the missing ones are masked. Its
      baselines likewise.

    It computes in float32. The layers are shared with `model`, but for the centres and assignments
    of an ActionVLAD layer, which are copied; of a model of mixed precision all are.

    A model that sums over time is linear in its states (`<name>_sum`, `feature_sum` and
    `num_frames`, `feature_maximum`): who multiplies all of them by `0.5 ** (t / h)` before a frame
    halves the weight of what was seen h seconds ago, where the frame before came t seconds ago.
    `decay` does so by a constant, for frames that come at a constant rate.

    Args:
        model: from clips `(B, T, H, W, channels)` to scores, made or loaded by `tfvlad`.
        decay: factor of a running sum, or maximum, before each frame is added. 1 never forgets; an
            endless stream wants less. `0.5 ** (1 / n)` halves a frame's weight every n frames.
        carry_state: of an attention LSTM: its run over the window starts from the state after the
            frame that left the window last, instead of zeros. Its memory then reaches further back
            than the window, and it no longer equals the clip model.

    Returns:
        A functional model of dicts, of any batch size. Inputs: `frame` `(B, H, W, 3)`, values
        0..255, of a two-stream model also `flow` `(B, H, W, 2L)`, and the states. Outputs: `scores`
        `(B, C)`, the new states under the names of the old ones, `attention` `(B, h, w)` where the
        model has top-down attention, and `frame_weights` `(B, T)`, oldest frame first, of an
        attention LSTM. The states of `initial_state` are zeros.

    Raises:
        ValueError: when `decay` or `carry_state` does not suit the model, or the model cannot
            stream: it reads the frames backwards, or windows of several frames, or consists of
            several models.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay}.")
    model = portable(model)
    parts = parts_of(model)
    inner = parts.feature_model
    is_window = inner is not None
    if not is_window and not parts.backbone_layers:
        raise ValueError(
            f"'{model.name}' cannot stream: it is not one model from frames to scores. Stream the "
            "models of an ensemble or a fusion one by one, and a model of features in front of its "
            "extractors, see `tfvlad.models.end_to_end`."
        )
    if any(_is_bidirectional(layer) for layer in model.layers):
        raise ValueError(
            f"'{model.name}' cannot stream: it is bidirectional and reads the frames from the last "
            "one too. Train it with bidirectional=False."
        )
    attends = inner is not None and isinstance(parts_of(inner).joint.temporal, AttentionLSTM)
    if carry_state and not attends:
        raise ValueError(
            f"`carry_state` is of attention LSTMs. Received: carry_state=True for '{model.name}'."
        )
    forgets = (SegmentPooling, *_RECURRENT)
    if decay < 1 and (is_window or any(isinstance(layer, forgets) for layer in model.layers)):
        raise ValueError(
            f"`decay` is of models that sum over time; '{model.name}' forgets by itself. "
            f"Received: decay={decay}."
        )
    if inner is not None:
        inputs, outputs = _window_graph(model, inner, carry_state)
    else:
        inputs, outputs = _running_graph(model, decay)
    return keras.Model(inputs, outputs, name=f"{model.name}_stream")


def initial_state(stream: keras.Model, batch_size: int = 1) -> dict[str, np.ndarray]:
    """The states before the first frame: float32 zeros by the names of the model's inputs.

    Args:
        stream: what `streaming_model` returned, or that model loaded from its file.
        batch_size: B.
    """
    return {
        name: np.zeros((batch_size, *x.shape[1:]), "float32")
        for name, x in zip(compat.input_names(stream), stream.inputs, strict=True)
        if name not in _INPUTS
    }


def _running_graph(model: keras.Model, decay: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A clip model around its aggregation over time, which becomes a step."""
    parts = parts_of(model)
    attention = parts.joint.attention
    kinds = (*_SUMS, SegmentPooling, *_RECURRENT)
    aggregations = [layer for layer in model.layers if isinstance(layer, kinds)]
    if not aggregations:
        raise ValueError(
            f"'{model.name}' cannot stream: no layer of it is known to take one frame at a time. "
            "ActionVLAD, average and maximum pooling, and the GRUs are."
        )
    # What the aggregations take of one frame, and from their results to the scores.
    tensors: dict[str, Any] = {layer.name: compat.first_input(layer) for layer in aggregations}
    if attention is not None:
        tensors["attention_map"] = compat.first_output(attention)
    frames = [compat.first_input(layer) for layer in parts.backbone_layers]
    before = keras.Model(frames, tensors, name="maps")
    before = with_num_frames(before, 1)
    results = [_result(layer) for layer in aggregations]
    after = keras.Model(results, compat.first_output(model.layers[-1]), name="classification")

    inputs = {
        name: keras.Input(x.shape[2:], name=name)
        for name, x in zip(_INPUTS, before.inputs, strict=False)
    }
    clips = [keras.layers.Reshape((1, *x.shape[1:]))(x) for x in inputs.values()]
    of_frame = before(clips)
    outputs: dict[str, Any] = {}
    results = []
    for layer in aggregations:
        if isinstance(layer, SegmentPooling):
            num_frames = model.inputs[0].shape[1]
            result, old, new = _segments_step(layer, of_frame[layer.name], num_frames)
        elif isinstance(layer, _RECURRENT):
            result, old, new = _recurrent_step(layer, of_frame[layer.name])
        else:
            result, old, new = _sum_step(layer, of_frame[layer.name], decay)
        results.append(result)
        inputs |= {x.name: x for x in old}
        outputs |= dict(zip((x.name for x in old), new, strict=True))
    outputs["scores"] = after(results)
    if attention is not None:
        weights = of_frame["attention_map"]
        outputs["attention"] = keras.layers.Reshape(weights.shape[2:])(weights)
    return inputs, outputs


def _result(aggregation: keras.layers.Layer) -> Any:
    """The tensor of an aggregation that the rest of the clip model reads."""
    output = compat.first_output(aggregation)
    if isinstance(aggregation, ActionVLAD):
        return output[0]
    return output[1] if isinstance(aggregation, _RECURRENT) else output


def _sum_step(layer: keras.layers.Layer, of_frame: Any, decay: float) -> _Step:
    """Adds a frame to a running sum, or maximum."""
    if isinstance(layer, ActionVLAD):
        return _vlad_step(layer, of_frame, decay)
    is_mean = isinstance(layer, keras.layers.GlobalAveragePooling3D)
    channels = of_frame.shape[-1]
    old = keras.Input((channels,), name="feature_sum" if is_mean else "feature_maximum")
    count = keras.Input((1,), name="num_frames")
    faded, faded_count = (keras.layers.Rescaling(decay)(x) for x in (old, count))
    new_count = faded_count + 1.0
    vector = layer(of_frame)
    if is_mean:
        new = keras.layers.Add()([faded, vector])
        return new / new_count, [old, count], [new, new_count]
    # Before the first frame there is no maximum, and features may be negative.
    new = keras.ops.where(count > 0, keras.ops.maximum(faded, vector), vector)
    return new, [old, count], [new, new_count]


def _vlad_step(layer: ActionVLAD, of_frame: Any, decay: float) -> _Step:
    features, *weights = of_frame if isinstance(of_frame, (list, tuple)) else [of_frame]
    frame_vlad = NetVLAD(
        layer.num_clusters,
        alpha=layer.alpha,
        normalize_input=layer.normalize_input,
        intra_normalize=False,
        normalize_descriptor=False,
        name=layer.name,
    )
    residuals = frame_vlad(features, *weights)
    frame_vlad.set_weights(layer.get_weights())
    shape = (layer.num_clusters, features.shape[-1])
    old = keras.Input(shape, name=f"{layer.name}_sum")
    new = keras.layers.Add()(
        [keras.layers.Rescaling(decay)(old), keras.layers.Reshape(shape)(residuals)]
    )
    normalization = DescriptorNormalization(
        intra_normalize=layer.intra_normalize, name=f"{layer.name}_descriptor"
    )
    return normalization(new), [old], [new]


def _segments_step(layer: SegmentPooling, of_frame: Any, num_frames: int | None) -> _Step:
    """Pools the segments of the last T frames."""
    if num_frames is None:
        raise ValueError(
            "A model with segments cannot stream without a number of frames: build it with "
            "`num_frames`. Received: num_frames=None."
        )
    window = keras.Input((num_frames, *of_frame.shape[2:]), name="window")
    filled = keras.Input((num_frames,), name="filled")
    new = [_shifted(window, of_frame), _shifted(filled, keras.ops.ones_like(filled[:, :1]))]
    return layer(new[0], mask=new[1] > 0), [window, filled], new


def _shifted(window: Any, new: Any) -> Any:
    """The window `(B, T, ...)` without its oldest frame and with a new one `(B, 1, ...)`."""
    return keras.layers.Concatenate(axis=1)([window[:, 1:], new])


def _recurrent_step(layer: keras.layers.Layer, of_frame: Any) -> _Step:
    """Takes a recurrence one step on."""
    of_clusters = (layer.units,) if isinstance(layer, keras.layers.GRU) else None
    old = keras.Input(of_clusters or (of_frame.shape[2], layer.units), name="memory")
    _, new = layer(of_frame, initial_state=old)
    return new, [old], [new]


def _is_bidirectional(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Bidirectional) or getattr(layer, "bidirectional", False)


def _window_graph(
    model: keras.Model, inner: keras.Model, carry_state: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Frame extractors and a window of the last T frames."""
    num_frames, *frame_shape = model.inputs[0].shape[1:]
    if {x.shape[1] for x in inner.inputs} != {num_frames}:
        raise ValueError(
            f"'{model.name}' cannot stream: it cuts {num_frames} frames into windows for "
            f"{' and '.join(str(x.shape[1]) for x in inner.inputs)} steps. Every step must read "
            "one frame, by frame extractors: num_frames, num_steps and num_attended must be equal."
        )
    frame = keras.Input(frame_shape, name="frame")
    window = keras.layers.Reshape((1, 1, *frame_shape))(frame)
    # One extractor may serve both inputs.
    features = [extractor(window) for extractor in parts_of(model).extractors]
    data, attended = features[0], features[-1]
    parts = parts_of(inner)
    lstm, classifier = parts.joint.temporal, parts.joint.classifier
    mean_score: Any = parts.mean_score
    if parts.joint.input_dense is not None:
        data = parts.joint.input_dense(data)
    states = {"filled": keras.Input((num_frames,), name="filled")}
    if isinstance(lstm, AttentionLSTM):
        gates = (num_frames, 4 * lstm.units)
        shapes: dict[str, tuple[int, ...]] = {
            "input_gates": gates,
            "attended_keys": (num_frames, lstm.matching_units),
            "attended_gates": gates,
        }
        if carry_state:
            shapes |= {"hidden": (lstm.units,), "cell": (lstm.units,)}
        states |= {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
        step = AttentionWindow(lstm, carry_state=carry_state, name="attention_window")
        outputs = step({"input_data": data, "attended_data": attended, **states})
        steps = outputs.pop("steps")
    else:
        states["window"] = keras.Input((num_frames, data.shape[-1]), name="window")
        one = keras.ops.ones_like(states["filled"][:, :1])
        outputs = {
            name: _shifted(states[name], new) for name, new in (("filled", one), ("window", data))
        }
        steps = outputs["window"]
        if lstm is not None:
            steps = lstm(steps, mask=outputs["filled"] > 0)
    logits = classifier(steps)
    mask = outputs["filled"] > 0 if logits.shape[1] == num_frames else None
    outputs["scores"] = mean_score(logits, mask=mask)
    return {"frame": frame, **states}, outputs
