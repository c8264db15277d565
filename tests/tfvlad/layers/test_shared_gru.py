import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tfvlad.layers import SharedGRU

T, K, D, U = 5, 3, 4, 2


def make_layer(**arguments):
    layer = SharedGRU(U, **arguments)
    layer.build((None, None, K, D))
    for number, weight in enumerate(layer.trainable_variables):
        weight.assign(0.5 * normal(*weight.shape, seed=20 + number))
    return layer


def make_keras_gru(layer, **arguments):
    """Keras' GRU, or its `Bidirectional`, with the layer's weights."""
    gru = keras.layers.GRU(U, **arguments)
    if layer.bidirectional:
        gru = keras.layers.Bidirectional(gru)
    gru.build((None, None, D))
    gru.set_weights(layer.get_weights())
    return gru


def over_clusters(gru, inputs):
    """`TimeDistributed` over the cluster axis: `(B, T, K, D) -> (B, K, T, D) -> (B, K, ...)`."""
    return keras.layers.TimeDistributed(gru)(tf.transpose(inputs, (0, 2, 1, 3)))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_time_distributed_gru(bidirectional):
    layer, inputs = make_layer(bidirectional=bidirectional), normal(2, T, K, D)
    expected = over_clusters(make_keras_gru(layer), inputs)
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sequences_equal_time_distributed_gru(bidirectional):
    layer = make_layer(bidirectional=bidirectional, return_sequences=True)
    inputs = normal(2, T, K, D)
    expected = over_clusters(make_keras_gru(layer, return_sequences=True), inputs)
    expected = tf.transpose(expected, (0, 2, 1, 3))
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks_and_states_equal_keras_gru(bidirectional, return_sequences):
    arguments = {"return_sequences": return_sequences, "return_state": True}
    layer = make_layer(bidirectional=bidirectional, **arguments)
    gru = make_keras_gru(layer, **arguments)
    inputs, initial_state = normal(2, T, K, D), normal(2, K, U * (1 + bidirectional), seed=1)
    mask = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 1]], bool)
    output, state = layer(inputs, initial_state, mask=mask)
    # At masked steps Keras' `Bidirectional` gives zeros, its `GRU` and ours the state.
    real = mask[..., np.newaxis] if return_sequences else 1
    for k in range(K):
        states = np.split(initial_state[:, k], 1 + bidirectional, axis=-1)
        expected, *last = gru(
            inputs[:, :, k], mask=mask, initial_state=[tf.constant(s) for s in states]
        )
        np.testing.assert_allclose(real * output[..., k, :], real * expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(state[:, k], np.concatenate(last, -1), rtol=1e-4, atol=1e-6)


def test_equals_the_equations():
    layer, inputs = make_layer(return_sequences=True), normal(2, T, K, D)
    initial_state, mask = normal(2, K, U, seed=1), np.random.default_rng(2).random((2, T)) > 0.4
    outputs = layer(inputs, initial_state, mask=mask)
    for b, k in np.ndindex(2, K):
        expected = equations.gru(
            inputs[b, :, k], *layer.get_weights(), initial_state[b, k], mask[b]
        )
        np.testing.assert_allclose(outputs[b, :, k], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padded_clip_equals_the_shorter_clip(bidirectional):
    layer, inputs = make_layer(bidirectional=bidirectional), normal(2, 3, K, D)
    padded = np.pad(inputs, ((0, 0), (0, 2), (0, 0), (0, 0)))
    mask = np.array([[True, True, True, False, False]] * 2)
    np.testing.assert_allclose(layer(padded, mask=mask), layer(inputs), atol=1e-6)
    assert np.max(np.abs(layer(padded) - layer(inputs))) > 0.01


def test_all_masked_clip_keeps_the_initial_state():
    layer, state = make_layer(), normal(2, K, U)
    mask = np.zeros((2, T), bool)
    np.testing.assert_array_equal(layer(normal(2, T, K, D), state, mask=mask), state)


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
def test_pieces_with_carried_state_equal_the_whole_clip(pieces):
    layer = make_layer(return_sequences=True, return_state=True)
    inputs = normal(2, T, K, D)
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
    inputs, state = tf.constant(normal(1, T, 1, D)), tf.constant(normal(1, 1, U, seed=1))
    upstream = normal(U, seed=2)
    with tf.GradientTape() as tape:
        tape.watch([inputs, state])
        loss = tf.reduce_sum(layer(inputs, state) * upstream)
    sources = {"inputs": inputs, "state": state, **weights}
    values = {name: source.numpy() for name, source in sources.items()}

    def numpy_loss(x):
        v = {**values, argument: x}
        states = equations.gru(v["inputs"][0, :, 0], *(v[name] for name in names), v["state"][0, 0])
        return upstream @ states[-1]

    expected = numeric_gradient(numpy_loss, values[argument])
    assert_close_to_scale(tape.gradient(loss, sources[argument]), expected, rtol=1e-3)


def test_mask_goes_on_with_the_sequence():
    inputs, mask = normal(1, 2, K, D), np.array([[True, False]])
    assert make_layer().compute_mask(inputs, mask) is None
    assert make_layer(return_sequences=True).compute_mask(inputs, mask) is mask
    layer = make_layer(return_sequences=True, return_state=True)
    assert layer.compute_mask(inputs, mask) == (mask, None)


@pytest.mark.parametrize("update_bias", [float("nan"), float("inf")])
def test_wrong_update_bias(update_bias):
    message = rf"`update_bias` must be a finite number\. Received: update_bias={update_bias}\."
    with pytest.raises(ValueError, match=message):
        SharedGRU(3, update_bias=update_bias)


@pytest.mark.parametrize("units", [0, -1, 2.5, "256"])
def test_wrong_units(units):
    with pytest.raises(ValueError, match=r"`units` must be a positive integer\. Received: units="):
        SharedGRU(units)


@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 2, 3, 4, 5), (None, None, 64, None)])
def test_wrong_inputs(shape):
    message = r"`SharedGRU` needs inputs of shape \(B, T, K, D\) with a known D\. Received: shape="
    with pytest.raises(ValueError, match=message):
        SharedGRU(U).build(shape)
