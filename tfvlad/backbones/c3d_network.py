"""C3D: a network of 3-D convolutions on windows of 16 frames."""

import os

import keras
from keras import layers

from tfvlad.backbones.extractors import FeatureExtractor, extractor_at
from tfvlad.backbones.published_weights import read_tensors, set_weights
from tfvlad.layers.image_normalization import ImageNormalization

# The convolutions in front of each pooling layer and their filters.
_BLOCKS = (
    (("conv1", 64),),
    (("conv2", 128),),
    (("conv3a", 256), ("conv3b", 256)),
    (("conv4a", 512), ("conv4b", 512)),
    (("conv5a", 512), ("conv5b", 512)),
)
_LAYERS = (
    *(name for block in _BLOCKS for name, _ in block),
    *(f"pool{index}" for index in range(1, 6)),
    *("fc6", "fc7", "fc8"),
)
_NUM_UNITS = 4096
_NUM_SPORTS = 487

_ADVICE = (
    "C3D_Sport1M_weights_keras_2.2.4.h5 and c3d.pickle fit, files with Theano's kernels do not."
)


def c3d(layer: str = "fc6", *, weights: str | os.PathLike[str] | None) -> FeatureExtractor:
    """Features of C3D, a vector for each window of 16 RGB frames of 112x112 pixels.

    The published network: frames are resized to 128x171 and cropped to 112x112 before the model,
    which turns them to BGR and subtracts the mean of Sports-1M's frames. Departure: the published
    mean is a volume of 16x128x171 pixels, here it is that volume's mean for each channel.

    Args:
        layer: "fc6" or "fc7", 4,096 channels after the ReLU as in Caffe, whose ReLU works in place;
            "fc8" for the scores before the softmax, 487 sports; or a convolution or pooling layer,
            such as "conv5b" or "pool5", averaged over space and time.
        weights: a published file of Sports-1M weights: an `.h5` file of Keras with channels-last
            kernels, such as `C3D_Sport1M_weights_keras_2.2.4.h5` or `sports1M_weights_tf.h5`, or
            the state dict of the PyTorch port (`c3d.pickle` of DavideA/c3d-pytorch, which needs
            PyTorch, or the same tensors as `.safetensors`, which do not). The number of classes is
            the file's. None for random weights.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when there is no such layer, or a tensor in the file is missing, not expected or
            of another shape.

    Reference:
        Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015,
        section 3.3. The zeros around the last map lie on both sides, as in Caffe's release; some
        Keras ports of the same weights have them on one side only.
    """
    if layer not in _LAYERS:
        raise ValueError(f"`layer` must be one of {', '.join(_LAYERS)}. Received: layer={layer!r}.")
    tensors = {} if weights is None else read_tensors(weights)
    biases = [tensors[name] for name in ("fc8.bias", "fc8/bias") if name in tensors]
    model = _build(len(biases[0]) if biases else _NUM_SPORTS)
    if weights is not None:
        set_weights(model, tensors, path=weights, advice=_ADVICE)
    return extractor_at(model, layer, network="c3d", window_frames=16)


def _build(num_classes: int) -> keras.Model:
    frames = keras.Input((16, 112, 112, 3), name="frames")
    x = ImageNormalization((90.25, 97.66, 101.41), channel_order="bgr", name="normalization")(
        frames
    )
    for index, block in enumerate(_BLOCKS, start=1):
        for name, filters in block:
            x = layers.Conv3D(filters, 3, padding="same", activation="relu", name=name)(x)
        if index == 5:
            x = layers.ZeroPadding3D((0, 1, 1), name="pool5.pad")(x)
        x = layers.MaxPooling3D((1, 2, 2) if index == 1 else 2, name=f"pool{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(_NUM_UNITS, activation="relu", name="fc6")(x)
    x = layers.Dense(_NUM_UNITS, activation="relu", name="fc7")(x)
    scores = layers.Dense(num_classes, name="fc8")(x)
    return keras.Model(frames, scores, name="c3d")
