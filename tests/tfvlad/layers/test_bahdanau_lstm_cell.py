import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tfvlad.layers import BahdanauLSTMCell

B, T, DV, DA, U, M = 2, 5, 4, 3, 2, 6
WEIGHTS = (
    "input",
    "bias",
    "context",
    "recurrent",
    "memory",
    "query",
    "query_bias",
    "score",
)
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]], bool)


def make_cell(**arguments):
    cell = BahdanauLSTMCell(U, matching_units=M, **arguments)
    cell(*make_inputs())
    cell.set_weights(
        [0.7 * normal(*w.shape, seed=20 + n) for n, w in enumerate(cell.get_weights())]
    )
    return cell


def make_inputs():
    states = [normal(B, U, seed=1), normal(B, U, seed=2)]
    return normal(B, DV), states, normal(B, T, DA, seed=3)


def weights_of(cell):
    return dict(zip(WEIGHTS, cell.get_weights(), strict=True))


def one_step(inputs, hidden, state, memory, weights, mask=None):
    attention = equations.bahdanau_attention(hidden, memory, weights, mask)
    hidden, state = equations.lstm_step(inputs, attention @ memory, hidden, state, weights)
    return hidden, state, attention


@pytest.mark.parametrize("mask", [None, MASK])
def test_equals_the_equations(mask):
    cell, (inputs, states, memory) = make_cell(), make_inputs()
    output, (hidden, state), attention = cell(inputs, states, memory, mask=mask)
    for b in range(B):
        expected = one_step(
            inputs[b],
            states[0][b],
            states[1][b],
            memory[b],
            weights_of(cell),
            None if mask is None else mask[b],
        )
        for actual, value in zip((hidden, state, attention), expected, strict=True):
            np.testing.assert_allclose(actual[b], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(output, hidden)


def test_given_keys_equal_its_own():
    cell, (inputs, states, memory) = make_cell(), make_inputs()
    expected, _, attention = cell(inputs, states, memory)
    keys = cell.memory_projection(memory)
    np.testing.assert_allclose(cell(inputs, states, memory, keys)[0], expected, atol=1e-6)
    # They decide the weights; the context is still that of the memory.
    _, _, uniform = cell(inputs, states, memory, tf.zeros_like(keys))
    np.testing.assert_allclose(uniform, np.full((B, T), 1 / T), rtol=1e-6)
    assert np.max(np.abs(attention - uniform)) > 0.01


def test_gradients_equal_finite_differences():
    cell, (inputs, states, memory) = make_cell(), make_inputs()
    data = [tf.constant(x[:1]) for x in (inputs, *states, memory)]
    upstream = [normal(U, seed=5), normal(U, seed=6), normal(T, seed=7)]
    with tf.GradientTape() as tape:
        tape.watch(data)
        _, new_states, attention = cell(data[0], data[1:3], data[3])
        outputs = (*new_states, attention)
        loss = sum(tf.reduce_sum(x * u) for x, u in zip(outputs, upstream, strict=True))
    actual = tape.gradient(loss, [*data, *cell.trainable_variables])
    values = [*(x.numpy()[0] for x in data), *cell.get_weights()]

    def numpy_loss(values):
        outputs = one_step(*values[:4], dict(zip(WEIGHTS, values[4:], strict=True)))
        return sum(x @ u for x, u in zip(outputs, upstream, strict=True))

    for n, gradient in enumerate(actual):
        expected = numeric_gradient(
            lambda x, n=n: numpy_loss([*values[:n], x, *values[n + 1 :]]), values[n]
        )
        assert_close_to_scale(np.reshape(gradient, expected.shape), expected, rtol=1e-3)


def test_without_context_it_is_the_lstm_of_keras():
    cell, (inputs, states, memory) = make_cell(), make_inputs()
    lstm = keras.layers.LSTMCell(U)
    lstm.build((None, DV))
    weights = weights_of(cell)
    lstm.set_weights([weights[name] for name in ("input", "recurrent", "bias")])
    _, actual, _ = cell(inputs, states, np.zeros_like(memory))
    _, expected = lstm(inputs, [tf.constant(state) for state in states])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_starts_as_the_lstm_of_keras():
    keras.utils.set_random_seed(0)
    cell, lstm = BahdanauLSTMCell(64), keras.layers.LSTMCell(64)
    lstm.build((None, 32))
    cell(tf.zeros((1, 32)), [tf.zeros((1, 64))] * 2, tf.zeros((1, 3, 16)))
    weights = weights_of(cell)
    for name, expected in zip(("input", "recurrent", "bias"), lstm.get_weights(), strict=True):
        assert weights[name].shape == expected.shape
        assert np.std(weights[name]) == pytest.approx(np.std(expected), rel=0.05)
    np.testing.assert_array_equal(weights["bias"], expected)
    assert weights["memory"].shape == (16, 64)


def test_masked_memory_has_no_weight_and_no_gradient():
    cell, (inputs, states, memory) = make_cell(), make_inputs()
    mask, memory = np.array([[True] * 3 + [False] * 2, [False] * T]), tf.constant(memory)
    with tf.GradientTape() as tape:
        tape.watch(memory)
        output, _, attention = cell(inputs, states, memory, mask=mask)
        loss = tf.reduce_sum(output) + tf.reduce_sum(attention**2)
    gradient = tape.gradient(loss, memory)
    np.testing.assert_array_equal(attention[~mask], 0)
    np.testing.assert_allclose(np.sum(attention, axis=-1), [1, 0], rtol=1e-6)
    np.testing.assert_array_equal(gradient[~mask], 0)
    assert np.all(np.any(gradient[mask] != 0, axis=-1))
    # Without any memory, the context is zero.
    np.testing.assert_allclose(output[1], cell(inputs, states, 0 * memory)[0][1], atol=1e-6)


def test_softmax_in_float32_under_mixed_precision():
    single, half = make_cell(), make_cell(dtype="mixed_bfloat16")
    _, states, memory = make_inputs()
    expected = single.attend(states[0], single.memory_projection(memory))
    keys = half.memory_projection(memory)
    attention = half.attend(tf.cast(states[0], tf.bfloat16), keys)
    assert attention.dtype == keys.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(attention, tf.float32), expected, rtol=0.05)
    # A sum of many rounded weights would be off.
    many = half.attend(tf.cast(states[0], tf.bfloat16), tf.repeat(keys, 200, axis=1))
    assert np.sum(tf.cast(many, tf.float32)) == pytest.approx(B, rel=0.01)


@pytest.mark.addons
def test_scores_equal_those_of_tensorflow_addons():
    import tensorflow_addons as tfa

    cell, (_, states, memory) = make_cell(), make_inputs()
    cell.query_projection.bias.assign(tf.zeros(M))  # theirs has none without `normalize`
    mask = np.array([[True] * 3 + [False] * 2, [True] * T])
    theirs = tfa.seq2seq.BahdanauAttention(
        M, memory, memory_sequence_length=mask.sum(axis=1), normalize=False
    )
    theirs([states[0], tf.zeros((B, T))])
    theirs.query_layer.set_weights([cell.query_projection.get_weights()[0]])
    theirs.memory_layer.set_weights(cell.memory_projection.get_weights())
    theirs.attention_v.assign(cell.score_projection.get_weights()[0][:, 0])
    theirs.setup_memory(memory, memory_sequence_length=mask.sum(axis=1))
    expected, _ = theirs([states[0], tf.zeros((B, T))])
    actual = cell.attend(states[0], cell.memory_projection(memory), mask)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("argument", ["units", "matching_units"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "512"])
def test_wrong_units(argument, value):
    message = f"`{argument}` must be a positive integer. Received: {argument}={value}."
    with pytest.raises(ValueError, match=re.escape(message)):
        BahdanauLSTMCell(**{"units": 4, argument: value})


def test_matching_units_follow_the_units():
    assert BahdanauLSTMCell(7).matching_units == 7
