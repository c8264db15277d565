import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient, uniform
from tests.tfvlad.layers import equations
from tfvlad.layers import ActionVLAD, NetVLAD

K, D = 4, 3


def make_layer(**arguments):
    layer = ActionVLAD(K, **arguments)
    layer.build((None, None, None, D))
    layer.kernel.assign(normal(D, K, seed=9))
    layer.bias.assign(normal(K, seed=10))
    layer.centers.assign(normal(K, D, seed=11))
    return layer


def encode(clip, layer, weights=None):
    """One clip `(T, N, D)`: the sum of its frames' VLADs, then the norms; float64 `(K*D,)`."""
    encoded = np.zeros((K, D))
    for t, features in enumerate(clip):
        encoded += equations.vlad(
            equations.unit_rows(features) if layer.normalize_input else features,
            layer.kernel.numpy(),
            layer.bias.numpy(),
            layer.centers.numpy(),
            None if weights is None else weights[t],
        )
    if layer.intra_normalize:
        encoded = equations.unit_rows(encoded)
    descriptor = np.concatenate([encoded[k] for k in range(K)])
    return equations.unit(descriptor) if layer.normalize_descriptor else descriptor


@pytest.mark.parametrize("switches", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_equations(switches, weighted):
    names = ("normalize_input", "intra_normalize", "normalize_descriptor")
    layer = make_layer(**dict(zip(names, switches, strict=True)))
    features, weights = normal(2, 3, 5, D), uniform(2, 3, 5, seed=1)
    outputs = layer(features, weights if weighted else None)
    assert outputs.shape == (2, K * D)
    for b in range(2):
        expected = encode(features[b], layer, weights[b] if weighted else None)
        np.testing.assert_allclose(outputs[b], expected, rtol=1e-4, atol=1e-5)


def test_is_the_sum_of_the_frames():
    arguments = {"intra_normalize": False, "normalize_descriptor": False}
    layer, framewise = make_layer(**arguments), NetVLAD(K, **arguments)
    features = normal(2, 3, 5, D)
    framewise(features)
    framewise.set_weights(layer.get_weights())
    expected = tf.reshape(tf.reduce_sum(framewise(features), axis=1), (2, -1))
    np.testing.assert_allclose(layer(features), expected, rtol=1e-5, atol=1e-6)


def test_feature_maps_equal_lists_of_locations():
    layer = make_layer(return_assignments=True)
    maps, weights = normal(2, 3, 2, 5, D), uniform(2, 3, 2, 5, seed=1)
    descriptor, assignments = layer(maps, weights)
    expected, flat = layer(maps.reshape(2, 3, 10, D), weights.reshape(2, 3, 10))
    np.testing.assert_allclose(descriptor, expected, atol=1e-6)
    np.testing.assert_allclose(assignments, np.reshape(flat, (2, 3, 2, 5, K)), atol=1e-6)


def test_assignments():
    layer = make_layer(return_assignments=True)
    features = normal(2, 3, 5, D)
    _, assignments = layer(features)
    for b, t in np.ndindex(2, 3):
        rows = equations.unit_rows(features[b, t])
        expected = equations.assign(rows, layer.kernel.numpy(), layer.bias.numpy())
        np.testing.assert_allclose(assignments[b, t], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_padded_clip_equals_the_shorter_clip(weighted):
    layer = make_layer()
    features, weights = normal(2, 3, 5, D), uniform(2, 3, 5, seed=1)
    padding = ((0, 0), (0, 2), (0, 0))
    padded, padded_weights = np.pad(features, (*padding, (0, 0))), np.pad(weights, padding)
    mask = np.arange(5)[np.newaxis] < [[3], [3]]
    outputs = layer(padded, padded_weights + 1 if weighted else None, mask=mask)
    expected = layer(features, weights + 1 if weighted else None)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    # Without the mask a zero feature adds -c_k.
    assert np.max(np.abs(layer(padded) - layer(features))) > 0.01


def test_all_masked_clip_gives_zeros_and_finite_gradients():
    layer = make_layer()
    features, mask = tf.constant(normal(2, 3, 5, D)), np.array([[True] * 3, [False] * 3])
    with tf.GradientTape() as tape:
        tape.watch(features)
        descriptor = layer(features, mask=mask)
        loss = tf.reduce_sum(descriptor * normal(2, K * D, seed=1))
    np.testing.assert_array_equal(descriptor[1], np.zeros(K * D))
    np.testing.assert_allclose(np.linalg.norm(descriptor[0]), 1, rtol=1e-5)
    gradient, *others = tape.gradient(loss, [features, *layer.trainable_variables])
    np.testing.assert_array_equal(gradient[1], np.zeros((3, 5, D)))
    for value in (gradient, *others):
        assert np.all(np.isfinite(value))


def test_mask_ends_here():
    layer = make_layer()
    mask = np.ones((2, 3), bool)
    assert layer.compute_mask(normal(2, 3, 5, D), mask) is None


def test_mask_as_an_input_of_a_model():
    layer = make_layer()
    features, mask = normal(1, 3, 2, D), np.array([[True, True, False]])
    inputs, mask_input = keras.Input((None, 2, D)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask_input], layer(inputs, mask=mask_input))
    np.testing.assert_allclose(model([features, mask]), layer(features[:, :2]), atol=1e-6)


def test_gradient_equals_finite_differences():
    layer = make_layer()
    features, upstream = tf.constant(normal(1, 2, 3, D)), normal(K * D, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(layer(features) * upstream)
    expected = numeric_gradient(lambda x: upstream @ encode(x[0], layer), features.numpy())
    assert_close_to_scale(tape.gradient(loss, features), expected, rtol=1e-3)


def test_graph_holds_no_residual_tensor():
    T, N = 3, 20
    layer = make_layer()

    @tf.function
    def train(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(layer(features) ** 2)
        return tape.gradient(loss, [features, *layer.trainable_variables])

    graph = train.get_concrete_function(tf.TensorSpec((1, T, N, D))).graph
    shapes = [out.shape for operation in graph.get_operations() for out in operation.outputs]
    largest = max(s.num_elements() or 0 for s in shapes if s.is_fully_defined())
    assert largest == T * N * max(K, D)


@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 2, 3, 4, 5, 6), (None, None, 49, None)])
def test_wrong_features(shape):
    with pytest.raises(ValueError, match=r"`ActionVLAD` needs features of shape \(B, T, N, D\) or"):
        ActionVLAD(K).build(shape)
