import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tests.tfvlad.layers.test_bahdanau_lstm_cell import WEIGHTS
from tfvlad.layers import AttentionLSTM

B, N, DV, DA, U, M = 4, 5, 4, 3, 2, 6
every_attend = pytest.mark.parametrize("attend", ["every_step", "last_step"])
every_size = pytest.mark.parametrize("num_attended", [N, 3, 7])
# Right-padded, with gaps, masked as a whole, complete.
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def make_layer(attend="every_step", **arguments):
    layer = AttentionLSTM(U, matching_units=M, attend=attend, **arguments)
    layer(*make_inputs(N))
    weights = [0.7 * normal(*w.shape, seed=20 + n) for n, w in enumerate(layer.get_weights())]
    layer.set_weights(weights)
    return layer


def make_inputs(num_attended, batch=B):
    return normal(batch, N, DV), normal(batch, num_attended, DA, seed=3)


def make_attended_mask(num_attended):
    mask = np.random.default_rng(5).random((B, num_attended)) > 0.4
    mask[3] = False
    return mask


def weights_of(layer):
    return dict(zip(WEIGHTS, layer.get_weights(), strict=True))


def as_function_of_any_length(layer):
    """The layer in a graph that knows no sizes, so that it does not unroll."""
    signature = [tf.TensorSpec((None, None, size)) for size in (DV, DA)]
    signature += [tf.TensorSpec((None, None), tf.bool), tf.TensorSpec((None, None), tf.bool)]

    @tf.function(input_signature=signature)
    def function(input_data, attended_data, mask, attended_mask):
        return layer(input_data, attended_data, mask=mask, attended_mask=attended_mask)

    return function


@pytest.fixture(scope="module")
def looped():
    """A layer and its function of any length, which is traced once for all sizes."""

    def make(attend):
        layer = make_layer(attend, return_state=True)
        return layer, as_function_of_any_length(layer)

    return functools.cache(make)


@every_attend
@every_size
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("unrolled", [False, True])
def test_equals_the_equations(attend, num_attended, masked, unrolled, looped):
    (layer, function), (inputs, attended) = looped(attend), make_inputs(num_attended)
    masks = (MASK, make_attended_mask(num_attended)) if masked else (np.ones((B, N), bool), None)
    if unrolled:
        mask, attended_mask = masks if masked else (None, None)
        outputs = layer(inputs, attended, mask=mask, attended_mask=attended_mask)
    else:
        attended_mask = masks[1] if masked else np.ones((B, num_attended), bool)
        outputs = function(inputs, attended, masks[0], attended_mask)
    for b in range(B):
        expected = equations.attention_lstm(
            inputs[b],
            attended[b],
            weights_of(layer),
            np.zeros((2, U)),
            attend,
            masks[0][b],
            masks[1][b] if masked else None,
        )
        for actual, value in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(actual[b], value, rtol=1e-5, atol=2e-6)


@every_attend
@every_size
def test_gradients_equal_finite_differences(attend, num_attended):
    layer, (inputs, attended) = make_layer(attend), make_inputs(num_attended, batch=1)
    mask = np.array([[True, True, False, True, False]])
    data = [inputs, attended, normal(1, U, seed=8), normal(1, U, seed=9)]
    data = [tf.constant(x) for x in data]
    upstream = normal(N, U, seed=5), normal(N, num_attended, seed=6)
    with tf.GradientTape() as tape:
        tape.watch(data)
        outputs = layer(*data[:2], data[2:], mask=mask)
        loss = sum(
            tf.reduce_sum(x[0] * u[: x.shape[1]]) for x, u in zip(outputs, upstream, strict=True)
        )
    actual = tape.gradient(loss, [*data, *layer.trainable_variables])
    values = [*(x.numpy()[0] for x in data), *layer.get_weights()]

    def numpy_loss(values):
        weights = dict(zip(WEIGHTS, values[4:], strict=True))
        outputs = equations.attention_lstm(*values[:2], weights, values[2:4], attend, mask[0])
        return sum(np.sum(x * u[: len(x)]) for x, u in zip(outputs[:2], upstream, strict=True))

    for n, gradient in enumerate(actual):
        expected = numeric_gradient(
            lambda x, n=n: numpy_loss([*values[:n], x, *values[n + 1 :]]), values[n]
        )
        assert_close_to_scale(np.reshape(gradient, expected.shape), expected, rtol=1e-3)


@every_attend
def test_gradients_of_any_length_equal_the_unrolled(attend):
    layer, data = make_layer(attend), [tf.constant(x) for x in make_inputs(7)]
    masks = MASK, make_attended_mask(7)

    def unrolled(*data):
        return layer(*data, mask=masks[0], attended_mask=masks[1])

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(data)
            loss = sum(tf.reduce_sum(output**2) for output in function(*data))
        return tape.gradient(loss, [*data, *layer.trainable_variables])

    looped = as_function_of_any_length(layer)
    actual = gradients(lambda *data: looped(*data, *map(tf.constant, masks)))
    for one, other in zip(actual, gradients(unrolled), strict=True):
        assert np.all(np.isfinite(other))
        assert_close_to_scale(one, other, rtol=1e-5)


def test_gradient_compiled_by_xla():
    layer, data = make_layer(), [tf.constant(x) for x in make_inputs(N)]

    def gradients(*data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(*data)[0] ** 2)
        return tape.gradient(loss, layer.trainable_variables)

    compiled = tf.function(gradients, jit_compile=True)
    for one, other in zip(compiled(*data), gradients(*data), strict=True):
        assert_close_to_scale(one, other, rtol=1e-4)


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
@every_size
def test_pieces_with_carried_state_equal_the_whole(pieces, num_attended):
    layer, (inputs, attended) = make_layer(return_state=True), make_inputs(num_attended)
    parts, states = [], None
    for piece in np.split(inputs, np.cumsum(pieces)[:-1], axis=1):
        *outputs, hidden, cell = layer(piece, attended, states)
        states = [hidden, cell]
        parts.append(outputs)
    expected = layer(inputs, attended)
    for part, value in zip(zip(*parts, strict=True), expected[:2], strict=True):
        np.testing.assert_allclose(np.concatenate(part, axis=1), value, atol=1e-6)
    np.testing.assert_allclose(states, expected[2:], atol=1e-6)


@every_attend
def test_padded_clip_equals_the_shorter_clip(attend):
    layer, (inputs, attended) = make_layer(attend, return_state=True), make_inputs(3)
    padded, padded_attended = (
        np.pad(data, ((0, 0), (0, 2), (0, 0))) for data in (inputs, attended)
    )
    masks = [np.arange(size + 2)[np.newaxis] < np.full((B, 1), size) for size in (N, 3)]
    states, attention, *last = layer(padded, padded_attended, mask=masks[0], attended_mask=masks[1])
    expected = layer(inputs, attended)
    np.testing.assert_allclose(states[:, :N], expected[0], atol=1e-6)
    np.testing.assert_allclose(attention[:, :N, :3], expected[1], atol=1e-6)
    np.testing.assert_allclose(last, expected[2:], atol=1e-6)
    # The padding repeats the state and pays no attention.
    np.testing.assert_array_equal(states[:, N:], np.repeat(states[:, N - 1 : N], 2, axis=1))
    np.testing.assert_array_equal(attention[:, N:], 0)


def test_without_context_it_is_the_lstm_of_keras():
    layer, (inputs, attended) = make_layer(return_state=True), make_inputs(N)
    lstm = keras.layers.LSTM(U, return_sequences=True, return_state=True)
    lstm.build((None, None, DV))
    lstm.set_weights([weights_of(layer)[name] for name in ("input", "recurrent", "bias")])
    mask = MASK.copy()
    mask[:, 0] = True  # Keras gives zeros, not the state, for masked steps at the beginning
    initial_state = [normal(B, U, seed=1), normal(B, U, seed=2)]
    actual = layer(inputs, np.zeros_like(attended), initial_state, mask=mask)
    expected = lstm(inputs, mask=mask, initial_state=[tf.constant(s) for s in initial_state])
    for one, other in zip((actual[0], *actual[2:]), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_last_step_is_a_plain_lstm_before_it():
    last, every = make_layer("last_step"), make_layer()
    inputs, attended = make_inputs(N)
    states, attention = last(inputs, attended)
    plain, _ = every(inputs, np.zeros_like(attended))
    np.testing.assert_allclose(states[:, :-1], plain[:, :-1], atol=1e-6)
    assert np.max(np.abs(states[:, -1] - plain[:, -1])) > 0.01
    assert attention.shape == (B, 1, N)


def test_masks_go_on_with_the_outputs():
    inputs, mask = make_inputs(N)[0], MASK
    assert make_layer().compute_mask(inputs, mask) == (mask, mask)
    assert make_layer("last_step").compute_mask(inputs, [mask, None]) == (mask, None)
    layer = make_layer(return_state=True)
    assert layer.compute_mask(inputs, mask) == (mask, mask, None, None)


def test_matching_units_follow_the_units():
    assert AttentionLSTM(7).cell.matching_units == 7


@pytest.mark.parametrize("argument", ["units", "matching_units"])
def test_wrong_units(argument):
    message = f"`{argument}` must be a positive integer. Received: {argument}=0."
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionLSTM(**{"units": 4, argument: 0})


def test_wrong_attend():
    message = "`attend` must be one of ('every_step', 'last_step'). Received: attend='first'."
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionLSTM(U, attend="first")


@pytest.mark.parametrize("argument", ["input_data", "attended_data"])
@pytest.mark.parametrize("shape", [(2, 5), (1, 2, 3, 4), (None, 12, None)])
def test_wrong_shapes(argument, shape):
    shapes = {"input_data": (None, N, DV), "attended_data": (None, N, DA), argument: shape}
    message = (
        f"`AttentionLSTM` needs `{argument}` of shape (batch, steps, channels) with a known "
        f"number of channels. Received: shape={shape}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionLSTM(U).build(*shapes.values())
