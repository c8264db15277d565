import gc
import runpy
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvlad import compat


def make_model():
    model = keras.Sequential(
        [keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.build((None, 3))
    model.compile("adam", "mse")
    return model


def test_build_optimizer_makes_the_slots_before_the_first_step():
    model = make_model()
    compat.build_optimizer(model)
    # Two moments a weight, besides counters such as `iterations`.
    shapes = [tuple(variable.shape) for variable in compat.optimizer_variables(model.optimizer)]
    for weight in model.trainable_variables:
        assert shapes.count(tuple(weight.shape)) >= 2
    compat.build_optimizer(model)
    assert len(compat.optimizer_variables(model.optimizer)) == len(shapes)


def test_optimizer_variables_follow_training():
    model = make_model()
    compat.build_optimizer(model)
    before = [v.numpy() for v in compat.optimizer_variables(model.optimizer)]
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    after = [v.numpy() for v in compat.optimizer_variables(model.optimizer)]
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))


def test_walk_layers_finds_nested_layers_once():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [inner(inputs), inner(inputs)])
    names = [layer.name for layer in compat.walk_layers(model)]
    assert names.count("deep") == 1
    assert names[0] == model.name


def test_walk_layers_enters_wrappers():
    wrapper = keras.layers.TimeDistributed(keras.layers.Dense(2, name="wrapped"))
    assert "wrapped" in [layer.name for layer in compat.walk_layers(wrapper)]


@pytest.mark.current
def test_reseed_repeats_the_dropout():
    model = keras.Sequential([keras.layers.Dropout(0.5)])
    x = np.ones((4, 32), "float32")
    draws = []
    for seed in (3, 3, 4):
        compat.reseed(model, seed)
        draws.append([np.array(model(x, training=True)) for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0][0] != draws[0][1])
    assert np.any(draws[0][0] != draws[2][0])


@pytest.mark.current
def test_other_backend_of_keras(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = r"tfvlad needs the TensorFlow backend of Keras\. Received: KERAS_BACKEND=jax\."
    with pytest.raises(ImportError, match=message):
        runpy.run_path(compat.__file__)


def num_graphs():
    gc.collect()
    return sum(issubclass(type(found), tf.Graph) for found in gc.get_objects())


def test_the_graphs_of_a_training_end_with_its_model():
    counts = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(compat.SGD(0.1, clipnorm=1.0, weight_decay=0.1), "mse")
        model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
        del model
        keras.backend.clear_session()
        counts.append(num_graphs())
    assert counts[0] == counts[1]


OPTIMIZERS = [(compat.Adam, keras.optimizers.Adam), (compat.SGD, keras.optimizers.SGD)]


@pytest.mark.parametrize(("own", "kind"), OPTIMIZERS)
def test_optimizers_are_those_of_keras(own, kind):
    results = []
    for optimizer in (own, kind):
        weights = tf.Variable([1.0, 2.0])
        optimizer = optimizer(0.1, weight_decay=0.1, clipnorm=1.0)
        for gradient in ([3.0, 4.0], [0.5, -0.5]):
            optimizer.apply_gradients([(tf.constant(gradient), weights)])
        results.append(weights.numpy())
    np.testing.assert_array_equal(*results)
    assert not np.array_equal(results[0], [1.0, 2.0])


@pytest.mark.current
def test_optimizers_sum_over_the_replicas_of_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        weights, optimizer = tf.Variable([1.0]), compat.SGD(0.1)
        optimizer.build([weights])
    reduced = tf.distribute.ReplicaContext.all_reduce
    with mock.patch.object(tf.distribute.ReplicaContext, "all_reduce", autospec=True) as sums:
        sums.side_effect = reduced
        strategy.run(lambda: optimizer.apply([tf.constant([1.0])], [weights]))
    assert sums.call_count == 1
    assert weights.numpy() == pytest.approx(0.9)


@pytest.mark.parametrize(("own", "kind"), OPTIMIZERS)
def test_optimizers_are_loaded_with_their_model(own, kind):
    loaded = keras.optimizers.deserialize(keras.optimizers.serialize(own(0.25)))
    assert type(loaded) is own
    assert float(loaded.learning_rate) == 0.25
