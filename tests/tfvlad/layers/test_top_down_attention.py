import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tfvlad.layers import TopDownAttention

D, NUM_OBJECTS = 4, 6
NORMALIZATIONS = ("softmax", "sigmoid", "min_max", "relu_sum")


def make_layer(**arguments):
    layer = TopDownAttention(NUM_OBJECTS, **arguments)
    layer.build((None, None, None, D))
    layer.set_classifier(normal(D, NUM_OBJECTS, seed=8), normal(NUM_OBJECTS, seed=9))
    return layer


def attend(features, layer, kernel=None):
    """One frame `(N, D)` by the equations."""
    kernel = layer.kernel.numpy() if kernel is None else kernel
    activation = equations.class_activation_map(
        features, kernel, layer.bias.numpy(), layer.reduction
    )
    return equations.normalize_map(activation / layer.temperature, layer.normalization)


@pytest.mark.parametrize(
    ("reduction", "normalization"), list(itertools.product(("sum", "mean"), NORMALIZATIONS))
)
def test_equals_the_equations(reduction, normalization):
    layer = make_layer(reduction=reduction, normalization=normalization)
    features = normal(2, 3, 5, D)
    attention = layer(features)
    assert attention.shape == (2, 3, 5)
    for b, t in np.ndindex(2, 3):
        expected = attend(features[b, t], layer)
        np.testing.assert_allclose(attention[b, t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", ["softmax", "sigmoid"])
def test_temperature(normalization):
    layer, features = make_layer(normalization=normalization, temperature=3.0), normal(2, 3, 5, D)
    attention = layer(features)
    for b, t in np.ndindex(2, 3):
        expected = attend(features[b, t], layer)
        np.testing.assert_allclose(attention[b, t], expected, rtol=1e-4, atol=1e-5)


def test_feature_maps_equal_lists_of_locations():
    layer, maps = make_layer(), normal(2, 3, 2, 5, D)
    expected = np.reshape(layer(maps.reshape(2, 3, 10, D)), (2, 3, 2, 5))
    np.testing.assert_allclose(layer(maps), expected, atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_equal_finite_differences(normalization):
    layer = make_layer(normalization=normalization)
    features, upstream = tf.constant(normal(1, 1, 5, D)), normal(5, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(layer(features) * upstream)
    actual, kernel_gradient = tape.gradient(loss, [features, layer.kernel])
    expected = numeric_gradient(lambda x: upstream @ attend(x[0, 0], layer), features.numpy())
    assert_close_to_scale(actual, expected, rtol=1e-3)
    expected = numeric_gradient(
        lambda kernel: upstream @ attend(features[0, 0].numpy(), layer, kernel),
        layer.kernel.numpy(),
    )
    assert_close_to_scale(kernel_gradient, expected, rtol=1e-3)
    # Of W, the winner's row alone.
    assert np.count_nonzero(np.any(expected != 0, axis=0)) == 1


def test_bias_is_not_trained():
    layer = make_layer()
    assert [tuple(v.shape) for v in layer.trainable_variables] == [(D, NUM_OBJECTS)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padded_frames_have_finite_gradients(normalization):
    layer, features = make_layer(normalization=normalization), tf.zeros((1, 2, 5, D))
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(layer(features)[..., 0])
    for gradient in tape.gradient(loss, [features, layer.kernel]):
        assert np.max(np.abs(gradient)) < 10


def test_mask_goes_on():
    mask = np.array([[True, False]])
    assert make_layer().compute_mask(normal(1, 2, 5, D), mask) is mask


def test_float32_under_mixed_precision():
    single, half = make_layer(), make_layer(dtype="mixed_bfloat16")
    features = 100 * normal(2, 3, 7, 7, D)
    expected, attention = single(features), half(features)
    assert attention.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(attention, "float32"), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("num_objects", [0, -1, 2.5, "1000"])
def test_wrong_num_objects(num_objects):
    with pytest.raises(ValueError, match=r"`num_objects` must be a positive integer\. Received:"):
        TopDownAttention(num_objects)


@pytest.mark.parametrize("argument", ["reduction", "normalization"])
def test_wrong_choice(argument):
    message = rf"`{argument}` must be one of \(.*\)\. Received: {argument}='max'\."
    with pytest.raises(ValueError, match=message):
        TopDownAttention(NUM_OBJECTS, **{argument: "max"})


def test_wrong_temperature():
    with pytest.raises(ValueError, match=r"`temperature` must be positive\. Received: temp.*=0\."):
        TopDownAttention(NUM_OBJECTS, temperature=0)
    message = r"`temperature` has no effect on normalization='min_max'\. Received: temperature=2\."
    with pytest.raises(ValueError, match=message):
        TopDownAttention(NUM_OBJECTS, normalization="min_max", temperature=2)


@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 2, 3, 4, 5, 6), (None, None, 49, None)])
def test_wrong_features(shape):
    message = r"`TopDownAttention` needs features of shape \(B, T, N, D\) or"
    with pytest.raises(ValueError, match=message):
        TopDownAttention(NUM_OBJECTS).build(shape)


def test_set_classifier_needs_a_built_layer():
    message = "`set_classifier` needs a built layer. Received: an unbuilt layer"
    with pytest.raises(ValueError, match=message):
        TopDownAttention(NUM_OBJECTS).set_classifier(normal(D, NUM_OBJECTS), normal(NUM_OBJECTS))


@pytest.mark.parametrize(
    ("kernel_shape", "bias_shape"),
    [((NUM_OBJECTS, D), (NUM_OBJECTS,)), ((D, NUM_OBJECTS), (D,)), ((D, NUM_OBJECTS), (1, 6))],
)
def test_wrong_classifier(kernel_shape, bias_shape):
    message = r"`kernel` must have shape \(4, 6\) and `bias` \(6,\)\. Received: kernel of shape"
    with pytest.raises(ValueError, match=message):
        make_layer().set_classifier(normal(*kernel_shape), normal(*bias_shape))
