import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvlad.layers import ImageNormalization

PUBLISHED = {
    "tf": {"mean": 127.5, "std": 127.5},
    "torch": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "caffe": {"mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
}


@pytest.mark.parametrize("mode", PUBLISHED)
def test_equals_published_preprocessing(mode):
    images = np.random.uniform(0, 255, (2, 4, 5, 3)).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
    outputs = ImageNormalization(**PUBLISHED[mode])(images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_integer_frames():
    frames = np.random.randint(0, 256, (1, 2, 2, 3)).astype("uint8")
    layer = ImageNormalization(**PUBLISHED["torch"])
    np.testing.assert_array_equal(layer(frames), layer(frames.astype("float32")))


def test_half_precision_rounds_only_the_output():
    images = np.random.uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    outputs = ImageNormalization(127.5, 0.1, dtype="mixed_bfloat16")(images)
    assert outputs.dtype == tf.bfloat16
    expected = tf.cast((images - 127.5) / 0.1, tf.bfloat16)
    np.testing.assert_array_equal(tf.cast(outputs, "float32"), tf.cast(expected, "float32"))


def test_config_round_trip():
    layer = ImageNormalization(**PUBLISHED["caffe"], name="normalization")
    copy = ImageNormalization.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.get_config()["channel_order"] == "bgr"


def test_unknown_channel_order():
    message = "`channel_order` must be 'rgb' or 'bgr'. Received: channel_order='BGR'."
    with pytest.raises(ValueError, match=message):
        ImageNormalization(channel_order="BGR")


@pytest.mark.parametrize("std", [0, (1.0, -1.0, 1.0)])
def test_std_not_positive(std):
    with pytest.raises(ValueError, match=r"`std` must be positive\. Received: std="):
        ImageNormalization(std=std)
