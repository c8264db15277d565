import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient, uniform
from tests.tfvlad.layers import equations
from tfvlad import ops


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def test_l2_normalize_of_zeros_is_zero_with_finite_gradient():
    x = np.stack([normal(4), np.zeros(4, "float32")])
    np.testing.assert_allclose(ops.l2_normalize(x), equations.unit_rows(x), rtol=1e-6)
    assert np.all(np.isfinite(gradient(lambda x: tf.reduce_sum(ops.l2_normalize(x)), x)))


def test_l2_normalize_of_small_half_precision_numbers():
    x = tf.fill((1, 4), tf.constant(1e-4, tf.float16))
    np.testing.assert_allclose(ops.l2_normalize(x), np.full((1, 4), 0.5), rtol=1e-3)


def test_soft_assign():
    features, kernel, bias = normal(2, 5, 3), normal(3, 4, seed=1), normal(4, seed=2)
    expected = [equations.assign(x, kernel, bias) for x in features]
    np.testing.assert_allclose(ops.soft_assign(features, kernel, bias), expected, rtol=1e-5)


def test_soft_assign_computes_in_float32():
    features = tf.cast(normal(5, 3), tf.bfloat16)
    assignments = ops.soft_assign(features, 100 * normal(3, 4, seed=1), normal(4, seed=2))
    assert assignments.dtype == tf.float32
    expected = equations.assign(
        tf.cast(features, "float32").numpy(), 100 * normal(3, 4, seed=1), normal(4, seed=2)
    )
    np.testing.assert_allclose(assignments, expected, rtol=1e-3, atol=1e-6)


def test_aggregate_residuals():
    features, centers, assignments = normal(2, 5, 3), normal(4, 3, seed=1), uniform(2, 5, 4, seed=2)
    expected = np.zeros((2, 4, 3))
    for b, i, k in np.ndindex(2, 5, 4):
        expected[b, k] += assignments[b, i, k] * (features[b, i] - centers[k])
    encoded = ops.aggregate_residuals(features, assignments, centers)
    np.testing.assert_allclose(encoded, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 3, 4)])
def test_flatten_clusters_is_cluster_major(shape):
    x = normal(*shape)
    expected = np.array([np.concatenate(list(v)) for v in x.reshape(-1, 3, 4)])
    np.testing.assert_array_equal(ops.flatten_clusters(x), expected.reshape(*shape[:-2], 12))


def test_flatten_clusters_keeps_the_static_shape():
    traced = tf.function(ops.flatten_clusters).get_concrete_function(
        tf.TensorSpec((None, None, 3, 4))
    )
    assert traced.output_shapes.as_list() == [None, None, 12]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_class_activation_map(reduction):
    features, kernel, bias = normal(2, 3, 5, 4), normal(4, 6, seed=1), normal(6, seed=2)
    activation = ops.class_activation_map(features, kernel, bias, reduction)
    for b, t in np.ndindex(2, 3):
        expected = equations.class_activation_map(features[b, t], kernel, bias, reduction)
        np.testing.assert_allclose(activation[b, t], expected, rtol=1e-4, atol=1e-6)


def test_bias_takes_part_in_choosing_the_winner():
    features, kernel = uniform(1, 5, 4), normal(4, 3, seed=1)
    for winner in range(3):
        bias = 100 * np.eye(3, dtype="float32")[winner]
        activation = ops.class_activation_map(features, kernel, bias)
        np.testing.assert_allclose(activation, features @ kernel[:, winner], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalization", ["softmax", "sigmoid", "min_max", "relu_sum"])
def test_normalize_map(normalization):
    maps = normal(3, 6)
    expected = [equations.normalize_map(x, normalization) for x in maps.astype("float64")]
    np.testing.assert_allclose(ops.normalize_map(maps, normalization), expected, atol=1e-6)


@pytest.mark.parametrize("normalization", ["min_max", "relu_sum"])
def test_normalize_map_of_a_padded_frame(normalization):
    maps = np.zeros((1, 6), "float32")
    np.testing.assert_array_equal(ops.normalize_map(maps, normalization), maps)
    slopes = gradient(lambda x: tf.reduce_sum(ops.normalize_map(x, normalization)[:, 0]), maps)
    np.testing.assert_array_equal(slopes, maps)


@pytest.mark.parametrize("reverse", [False, True])
def test_gru_states_of_several_grus(reverse):
    time, grus, rows, units = 4, 2, 3, 5
    projected = normal(time, grus, rows, 3 * units)
    recurrent, bias = normal(grus, units, 3 * units, seed=1), normal(grus, 1, 3 * units, seed=2)
    state, mask = normal(grus, rows, units, seed=3), normal(time, grus, rows, 1, seed=4) > 0
    states = ops.gru_states(projected, recurrent, bias, state, mask, reverse=reverse)
    for k in range(grus):
        arguments = projected[:, k], recurrent[k], bias[k, 0], state[k], mask[:, k]
        expected = ops.gru_states(*arguments, reverse=reverse)
        np.testing.assert_allclose(states[:, k], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gru_states(masked, reverse):
    time, rows, units = 6, 3, 4
    projected, recurrent = normal(time, rows, 3 * units), normal(units, 3 * units, seed=1)
    bias, state = normal(3 * units, seed=2), normal(rows, units, seed=3)
    mask = np.random.default_rng(4).random((time, rows, 1)) > 0.4 if masked else None
    states = ops.gru_states(projected, recurrent, bias, state, mask, reverse=reverse)
    order = slice(None, None, -1) if reverse else slice(None)
    identity, no_bias = np.eye(3 * units), np.zeros(3 * units)
    for row in range(rows):
        expected = equations.gru(
            projected[order, row],
            identity,
            recurrent,
            (no_bias, bias),
            state[row],
            mask[order, row, 0] if masked else None,
        )
        np.testing.assert_allclose(states[:, row], expected[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("argument", ["projected", "recurrent", "bias", "state"])
def test_gru_states_gradient(argument):
    values = {
        "projected": normal(4, 1, 6),
        "recurrent": normal(2, 6, seed=1),
        "bias": normal(6, seed=2),
        "state": normal(1, 2, seed=3),
    }
    upstream = normal(4, 2, seed=4)

    def loss(x):
        v = {**values, argument: x}
        states = equations.gru(
            v["projected"][:, 0], np.eye(6), v["recurrent"], (0, v["bias"]), v["state"][0]
        )
        return np.sum(upstream * states)

    actual = gradient(
        lambda x: tf.reduce_sum(
            upstream[:, np.newaxis] * ops.gru_states(*{**values, argument: x}.values())
        ),
        values[argument],
    )
    assert_close_to_scale(actual, numeric_gradient(loss, values[argument]), rtol=1e-3)
