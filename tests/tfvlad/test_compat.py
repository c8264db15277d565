import runpy

import h5py
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


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hdf5_rows_equal_the_file(tmp_path, dtype):
    rows = np.random.default_rng(0).normal(size=(1030, 3)).astype(dtype)
    path = str(tmp_path / "rows.h5")
    with h5py.File(path, "w") as file:
        file["some"] = rows
    dataset = compat.hdf5_rows(path, "some", rows.shape, dtype)
    assert dataset.element_spec == tf.TensorSpec([3], dtype)
    assert dataset.cardinality() == 1030
    np.testing.assert_array_equal(np.stack(list(dataset.as_numpy_iterator())), rows)


@pytest.mark.addons
def test_hdf5_rows_come_through_tensorflow_io(tmp_path, monkeypatch):
    import tensorflow_io

    opened = []
    from_hdf5 = tensorflow_io.IODataset.from_hdf5
    monkeypatch.setattr(
        tensorflow_io.IODataset,
        "from_hdf5",
        lambda path, *rest, **options: opened.append(path) or from_hdf5(path, *rest, **options),
    )
    for dtype in ("float16", "float32"):
        with h5py.File(tmp_path / f"{dtype}.h5", "w") as file:
            file["rows"] = np.ones((2, 3), dtype)
        compat.hdf5_rows(str(tmp_path / f"{dtype}.h5"), "rows", (2, 3), dtype)
    assert opened == [str(tmp_path / "float32.h5")]
