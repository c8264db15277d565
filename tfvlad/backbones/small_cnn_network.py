"""A small convolutional network that is trained in a minute, for demonstrations and tests."""

from __future__ import annotations

import math

import keras
import numpy as np

from tfvlad.backbones.backbone import Backbone, from_model, input_images


def small_cnn(num_object_classes: int, *, image_size: int | tuple[int, int] = 64) -> keras.Model:
    """A classifier of small images: four convolutions, average pooling and one dense layer.

    The map `(image_size / 8, image_size / 8, 128)` of its layer "features" is averaged before the
    dense layer "scores", as class activation maps need it.

    Args:
        num_object_classes: number of scores.
        image_size: the side of a square in pixels, or (height, width).

    Returns:
        A model from raw RGB images `(B, H, W, 3)`, values 0..255, to logits
        `(B, num_object_classes)`.
    """
    images = input_images(image_size)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(images)
    for index, (filters, strides) in enumerate(((16, 2), (48, 2), (96, 2), (128, 1)), start=1):
        x = keras.layers.Conv2D(
            filters,
            5 if index == 1 else 3,
            strides=strides,
            padding="same",
            use_bias=False,
            name=f"conv{index}",
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"batch_norm{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}" if index < 4 else "features")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    scores = keras.layers.Dense(num_object_classes, name="scores")(x)
    return keras.Model(images, scores, name="small_cnn")


def fit_small_cnn(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int = 8,
    learning_rate: float = 2e-3,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Trains the classifier with Adam and a learning rate that falls to zero along a cosine.

    Args:
        model: what `small_cnn` returned.
        images: RGB, `(num_images, height, width, 3)`, values 0..255.
        labels: class indices, `(num_images,)`.
        epochs: passes over the images, in batches of 64.
        learning_rate: the first learning rate.
        verbose: as in `keras.Model.fit`.

    Returns:
        The history of loss and accuracy; the last tenth of the images is for validation.
    """
    num_steps = epochs * math.ceil(0.9 * len(images) / 64)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(
        images, labels, batch_size=64, epochs=epochs, validation_split=0.1, verbose=verbose
    )


def small_cnn_backbone(model: keras.Model) -> Backbone:
    """The backbone in a classifier that `small_cnn` made: its last feature map and dense layer."""
    kernel, bias = model.get_layer("scores").get_weights()
    features = keras.Model(model.input, model.get_layer("features").output)
    return from_model(
        features,
        name="small_cnn",
        classifier_kernel=kernel,
        classifier_bias=bias,
        blocks={"block4": ("conv4", "batch_norm4")},
    )
