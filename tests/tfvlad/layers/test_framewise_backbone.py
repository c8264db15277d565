import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvlad.layers import FramewiseBackbone


def make_model(channels=3, image_size=8):
    images = keras.Input((image_size, image_size, channels))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="conv1")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return keras.Model(images, keras.layers.Conv2D(5, 1, name="conv2")(x), name="small")


@pytest.mark.parametrize("channels", [3, 6])
def test_equals_time_distributed(channels):
    model = make_model(channels)
    clips = np.random.normal(size=(2, 3, 8, 8, channels)).astype("float32")
    outputs = FramewiseBackbone(model)(clips)
    assert outputs.shape == (2, 3, 4, 4, 5)
    expected = keras.layers.TimeDistributed(model)(clips)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("clip_shape", [(None, 8, 8, 3), (3, 8, 8, 3)])
def test_symbolic_shapes(clip_shape):
    clips = keras.Input(clip_shape)
    outputs = FramewiseBackbone(make_model())(clips)
    assert tuple(outputs.shape) == (None, clip_shape[0], 4, 4, 5)
    predicted = keras.Model(clips, outputs).predict(np.zeros((2, 3, 8, 8, 3)), verbose=0)
    assert predicted.shape == (2, 3, 4, 4, 5)


def test_unknown_image_size():
    layer = FramewiseBackbone(make_model(image_size=None))
    clips = tf.random.normal((2, 3, 6, 10, 3))
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, None, 3))])
    np.testing.assert_allclose(traced(clips), layer(clips), atol=1e-6)


def test_model_appears_once_in_the_graph():
    layer = FramewiseBackbone(make_model())
    clips = tf.TensorSpec((2, 7, 8, 8, 3))
    graph = tf.function(layer).get_concrete_function(clips).graph
    assert sum(operation.type == "Conv2D" for operation in graph.get_operations()) == 2


def test_integer_frames():
    layer = FramewiseBackbone(make_model())
    clips = np.random.randint(0, 256, (1, 2, 8, 8, 3)).astype("uint8")
    np.testing.assert_allclose(layer(clips), layer(clips.astype("float32")), atol=1e-5)


def test_training_reaches_the_model():
    model = make_model()
    layer = FramewiseBackbone(model)
    clips = np.random.normal(3.0, 1.0, (2, 3, 8, 8, 3)).astype("float32")
    before = model.get_layer("bn").get_weights()[2]
    layer(clips, training=False)
    np.testing.assert_array_equal(model.get_layer("bn").get_weights()[2], before)
    layer(clips, training=True)
    assert np.abs(model.get_layer("bn").get_weights()[2] - before).max() > 0


def test_save_and_load_keep_what_is_trainable(tmp_path):
    model = make_model()
    model.get_layer("conv1").trainable = False
    model.get_layer("bn").trainable = False
    clips = keras.Input((None, 8, 8, 3))
    network = keras.Model(clips, FramewiseBackbone(model, name="backbone")(clips))
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")

    inputs = np.random.normal(size=(2, 3, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(inputs), network(inputs))
    inner = loaded.get_layer("backbone").model
    assert [layer.name for layer in inner.layers if layer.trainable_weights] == ["conv2"]
    assert len(loaded.trainable_variables) == 2


def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = FramewiseBackbone(make_model())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    outputs = layer(np.random.uniform(0, 255, (1, 2, 8, 8, 3)).astype("float32"))
    assert outputs.dtype == tf.bfloat16
    assert layer.trainable_variables[0].dtype == "float32"


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 3, 8, 8, 4), (2, 3, 9, 8, 3)])
def test_clips_of_another_shape(shape):
    message = r"`clips` must have the shape \(batch, frames, 8, 8, 3\)"
    with pytest.raises(ValueError, match=message):
        FramewiseBackbone(make_model())(np.zeros(shape, "float32"))
