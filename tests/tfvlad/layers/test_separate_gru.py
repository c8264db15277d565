import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tfvlad.layers import SeparateGRUs, SharedGRU

B, T, K, D, U = 2, 5, 3, 4, 2
both_ways = pytest.mark.parametrize("bidirectional", [False, True])


def make_layer(**arguments):
    layer = SeparateGRUs(U, **arguments)
    layer.build((None, None, K, D))
    for number, weight in enumerate(layer.trainable_variables):
        weight.assign(0.5 * normal(*weight.shape, seed=20 + number))
    return layer


def make_keras_gru(layer, k, **arguments):
    """Keras' GRU, or its `Bidirectional`, with the weights of cluster k."""
    gru = keras.layers.GRU(U, reset_after=True, **arguments)
    if layer.bidirectional:
        gru = keras.layers.Bidirectional(gru)
    gru.build((None, None, D))
    gru.set_weights([weight[k] for weight in layer.get_weights()])
    return gru


@both_ways
@pytest.mark.parametrize("return_sequences", [False, True])
def test_equal_keras_grus(bidirectional, return_sequences):
    arguments = {"return_sequences": return_sequences}
    layer, inputs = make_layer(bidirectional=bidirectional, **arguments), normal(B, T, K, D)
    outputs = layer(inputs)
    assert outputs.shape == (B, *[T] * return_sequences, K, U * (1 + bidirectional))
    for k in range(K):
        expected = make_keras_gru(layer, k, **arguments)(inputs[:, :, k])
        np.testing.assert_allclose(outputs[..., k, :], expected, rtol=1e-4, atol=1e-6)


@both_ways
def test_masks_and_states_equal_keras_grus(bidirectional):
    layer = make_layer(bidirectional=bidirectional, return_state=True)
    inputs, initial_state = normal(B, T, K, D), normal(B, K, U * (1 + bidirectional), seed=1)
    mask = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 1]], bool)
    output, state = layer(inputs, initial_state, mask=mask)
    np.testing.assert_array_equal(output, state)
    for k in range(K):
        states = np.split(initial_state[:, k], 1 + bidirectional, axis=-1)
        gru = make_keras_gru(layer, k, return_state=True)
        _, *last = gru(inputs[:, :, k], mask=mask, initial_state=[tf.constant(s) for s in states])
        np.testing.assert_allclose(state[:, k], np.concatenate(last, -1), rtol=1e-4, atol=1e-6)


def test_equals_the_equations():
    layer, inputs = make_layer(return_sequences=True), normal(B, T, K, D)
    initial_state, mask = normal(B, K, U, seed=1), np.random.default_rng(2).random((B, T)) > 0.4
    outputs = layer(inputs, initial_state, mask=mask)
    for b, k in np.ndindex(B, K):
        weights = [weight[k] for weight in layer.get_weights()]
        expected = equations.gru(inputs[b, :, k], *weights, initial_state[b, k], mask[b])
        np.testing.assert_allclose(outputs[b, :, k], expected, rtol=1e-4, atol=1e-6)


@both_ways
def test_equal_weights_are_a_shared_gru(bidirectional):
    layer = make_layer(bidirectional=bidirectional)
    shared = SharedGRU(U, bidirectional=bidirectional)
    inputs = normal(B, T, K, D)
    shared(inputs)
    layer.set_weights([np.repeat(w[np.newaxis], K, axis=0) for w in shared.get_weights()])
    np.testing.assert_allclose(layer(inputs), shared(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3)])
def test_pieces_with_carried_state_equal_the_whole_clip(pieces):
    layer = make_layer(return_sequences=True, return_state=True)
    inputs = normal(B, T, K, D)
    outputs, state = [], None
    for piece in np.split(inputs, np.cumsum(pieces)[:-1], axis=1):
        output, state = layer(piece, state)
        outputs.append(output)
    expected, expected_state = layer(inputs)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, atol=1e-6)
    np.testing.assert_allclose(state, expected_state, atol=1e-6)


@pytest.mark.parametrize("argument", ["inputs", "kernel", "recurrent_kernel", "bias", "state"])
def test_gradients_equal_finite_differences(argument):
    layer = make_layer()
    names = ("kernel", "recurrent_kernel", "bias")
    weights = dict(zip(names, layer.trainable_variables, strict=True))
    inputs, state = tf.constant(normal(1, T, K, D)), tf.constant(normal(1, K, U, seed=1))
    upstream = normal(K, U, seed=2)
    with tf.GradientTape() as tape:
        tape.watch([inputs, state])
        loss = tf.reduce_sum(layer(inputs, state)[0] * upstream)
    sources = {"inputs": inputs, "state": state, **weights}
    values = {name: source.numpy() for name, source in sources.items()}

    def numpy_loss(x):
        v = {**values, argument: x}
        return sum(
            upstream[k]
            @ equations.gru(v["inputs"][0, :, k], *(v[n][k] for n in names), v["state"][0, k])[-1]
            for k in range(K)
        )

    expected = numeric_gradient(numpy_loss, values[argument])
    assert_close_to_scale(tape.gradient(loss, sources[argument]), expected, rtol=1e-3)


def test_clusters_start_apart_and_each_as_keras_does():
    layer = SeparateGRUs(8)
    layer.build((None, None, K, 24))
    kernel, recurrent_kernel, bias = layer.get_weights()
    assert kernel.shape == (K, 24, 24)
    assert recurrent_kernel.shape == (K, 8, 24)
    limit = np.sqrt(6 / (24 + 24))  # Glorot's for one GRU of 24 inputs and 3 * 8 outputs
    for k in range(K):
        assert 0.9 * limit < np.max(np.abs(kernel[k])) <= limit
        np.testing.assert_allclose(
            recurrent_kernel[k] @ recurrent_kernel[k].T, np.eye(8), atol=1e-5
        )
        assert np.max(np.abs(kernel[k] - kernel[k - 1])) > 0.1
        assert np.max(np.abs(recurrent_kernel[k] - recurrent_kernel[k - 1])) > 0.1
    np.testing.assert_array_equal(bias, np.zeros((K, 2, 24)))


@pytest.mark.parametrize("units", [0, 2.5])
def test_wrong_units(units):
    with pytest.raises(ValueError, match=r"`units` must be a positive integer\. Received: units="):
        SeparateGRUs(units)


@pytest.mark.parametrize("shape", [(2, 5, 3), (None, None, 64, None), (None, None, None, 8)])
def test_wrong_inputs(shape):
    message = (
        "`SeparateGRUs` needs inputs of shape (B, T, K, D) with a known K and D. "
        f"Received: shape={shape}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        SeparateGRUs(U).build(shape)
