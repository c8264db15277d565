"""From frames to scores: feature extractors in front of a model of features."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import FeatureExtractor
from tfvlad.layers import FramewiseBackbone


def end_to_end(
    model: keras.Model,
    input_extractor: FeatureExtractor,
    attended_extractor: FeatureExtractor | None = None,
    *,
    num_frames: int = 192,
    name: str = "end_to_end",
) -> keras.Model:
    """Puts feature extractors in front of `attention_lstm` or one of its baselines.

    The F frames of a clip are cut into N windows for the input data and into T windows for the
    attended data. An extractor sees the first frames of each window, as many as it needs. The
    frames have the larger of the two extractors' image sizes and are resized for the other one. One
    extractor given twice, for as many steps, runs once. The extractors are frozen; the layers of
    all are shared.

    Args:
        model: from input data `(B, N, Dv)`, or `[input_data, attended_data (B, T, Da)]`, to scores.
        input_extractor: gives the input data.
        attended_extractor: gives the attended data.
        num_frames: F, a multiple of N and of T.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, F, H, W, 3)`, values 0..255, to scores `(B, C)`.

    Raises:
        ValueError: when the extractors do not fit the model or the number of frames.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", sections 3.1 and 3.2
        (192 frames in windows of 16).
    """
    extractors = {"input_extractor": input_extractor, "attended_extractor": attended_extractor}
    given = {key: value for key, value in extractors.items() if value is not None}
    if len(given) != len(model.inputs):
        raise ValueError(
            f"'{model.name}' needs {len(model.inputs)} extractors, one for each of its inputs. "
            f"Received: {', '.join(given)}."
        )
    known = (extractor.image_size for extractor in given.values())
    sizes = [(height, width) for height, width in known if height and width]
    if not sizes:
        raise ValueError(
            "`end_to_end` needs an extractor with a known image size. Received: "
            f"{', '.join(extractor.name for extractor in given.values())}."
        )
    image_size = max(sizes, key=lambda size: size[0] * size[1])
    frames = keras.Input((num_frames, *image_size, 3), name="frames")
    features: list[Any] = []
    for (argument, extractor), data in zip(given.items(), model.inputs, strict=True):
        num_windows, channels = data.shape[1:]
        _check(argument, extractor, num_windows, channels, num_frames)
        if features and extractor is input_extractor and num_windows == features[0].shape[1]:
            features.append(features[0])
            break
        length = num_frames // num_windows
        windows = keras.layers.Reshape(
            (num_windows, length, *image_size, 3), dtype="float32", name=f"{argument}_windows"
        )(frames)
        window_model = _window_model(extractor, length, image_size)
        features.append(FramewiseBackbone(window_model, name=argument)(windows))
    scores = model(features if len(features) > 1 else features[0])
    return keras.Model(frames, scores, name=name)


def _check(
    argument: str,
    extractor: FeatureExtractor,
    num_windows: int | None,
    channels: int,
    num_frames: int,
) -> None:
    if extractor.num_channels != channels:
        raise ValueError(
            f"`{argument}` must give features of {channels} channels, as the model takes. "
            f"Received: {extractor.num_channels} channels of '{extractor.name}'."
        )
    if num_windows is None or num_frames % num_windows:
        raise ValueError(
            "`num_frames` must be a multiple of the model's known number of steps. "
            f"Received: num_frames={num_frames}, {num_windows} steps for `{argument}`."
        )
    if num_frames // num_windows < extractor.window_frames:
        raise ValueError(
            f"`num_frames` must give each step the {extractor.window_frames} frames that "
            f"'{extractor.name}' takes. Received: num_frames={num_frames} for {num_windows} steps."
        )


def _window_model(
    extractor: FeatureExtractor, length: int, image_size: tuple[int, int]
) -> keras.Model:
    """From windows `(B, length, H, W, 3)` to the features of their first frames."""
    # Half precision would round raw frames.
    crop = keras.layers.Cropping3D(
        ((0, length - extractor.window_frames), (0, 0), (0, 0)), dtype="float32"
    )
    window = keras.Input((length, *image_size, 3), name="window")
    x: Any = crop(window)
    if extractor.image_size not in (image_size, (None, None)):
        frame = keras.Input((*image_size, 3))
        resizing = keras.layers.Resizing(*extractor.image_size, dtype="float32")
        x = FramewiseBackbone(keras.Model(frame, resizing(frame)), name="resizing")(x)
    if extractor.window_frames == 1:
        x = keras.layers.Reshape(tuple(x.shape[2:]), dtype="float32")(x)
    extractor.model.trainable = False
    return keras.Model(window, extractor.model(x), name=f"{extractor.model.name}_window")
