"""What every public layer does, whatever it computes."""

import inspect
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal
from tests.tfvlad.layers.layer_cases import CASES, layer_class, make_layer
from tfvlad import layers

pytestmark = pytest.mark.parametrize("name", CASES)
flatten = tf.nest.flatten
SIZES = [(2, 3), (1, 1), (3, 5)]  # (batch, frames)


def fill(shape, batch, time):
    """The shape with its first unknown size, the batch, and its second, the frames, filled in."""
    sizes = iter((batch, time))
    return tuple(next(sizes) if size is None else size for size in shape)


def from_shapes(name, make):
    """The arguments of `call`: `make(shape)` for every shape of the case, in lists where it is."""
    shapes = CASES[name].input_shapes
    return [[make(s) for s in x] if isinstance(x, list) else make(x) for x in shapes]


def make_inputs(name, batch=2, time=3):
    seeds = itertools.count()
    return from_shapes(name, lambda shape: normal(*fill(shape, batch, time), seed=next(seeds)))


def make_model(name, batch=None, time=None):
    inputs = from_shapes(
        name, lambda shape: keras.Input(fill(shape[1:], time, None), batch_size=batch)
    )
    outputs = make_layer(name)(*inputs)
    # Signatures of exported models have no nested outputs.
    outputs = flatten(outputs) if isinstance(outputs, tuple) else outputs
    return keras.Model(flatten(inputs), outputs)


def make_signature(name):
    return from_shapes(name, tf.TensorSpec)


def shapes_of(outputs):
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(map(shapes_of, outputs))
    return tuple(outputs.shape)


def assert_equal_outputs(actual, expected, atol=1e-6):
    actual, expected = flatten(actual), flatten(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


def test_is_public(name):
    assert {case.split(",")[0] for case in CASES} == set(layers.__all__)
    assert layer_class(name).__doc__


def test_config_keeps_every_argument(name):
    cls, arguments = layer_class(name), CASES[name].arguments()
    parameters = dict(inspect.signature(cls.__init__).parameters)
    del parameters["self"], parameters["kwargs"]
    assert set(arguments) == set(parameters)
    layer = cls(**arguments)
    for key, value in arguments.items():
        assert value != parameters[key].default or "," in name
        assert getattr(layer, key) == value
    assert set(arguments) <= set(layer.get_config())
    # Keras empties a nested model's config while it reads it: one of its own for each use.
    assert cls.from_config(layer.get_config()).get_config() == layer.get_config()


def test_is_registered(name):
    cls = layer_class(name)
    assert keras.saving.get_registered_name(cls) == f"tfvlad>{cls.__name__}"


def test_shapes(name):
    model, layer = make_model(name), make_layer(name)
    for batch, time in SIZES:
        inputs = make_inputs(name, batch, time)
        outputs = layer(*inputs)
        assert layer.compute_output_shape(*shapes_of(inputs)) == shapes_of(outputs)
        known_outputs = flatten(model.output)
        outputs = flatten(model(flatten(inputs)))
        for known, output in zip(known_outputs, outputs, strict=True):
            assert output.shape.is_compatible_with(tuple(known.shape))
            assert None not in tuple(known.shape)[2:]


def test_empty_batch(name):
    layer = make_layer(name)
    layer(*make_inputs(name))
    for output in flatten(layer(*make_inputs(name, batch=0))):
        assert output.shape[0] == 0


def test_one_trace_for_all_sizes(name):
    layer, traces = make_layer(name), []
    layer(*make_inputs(name))

    @tf.function(input_signature=make_signature(name))
    def function(*inputs):
        traces.append(inputs)
        return layer(*inputs)

    for batch, time in SIZES:
        inputs = make_inputs(name, batch, time)
        assert_equal_outputs(function(*inputs), layer(*inputs))
    assert len(traces) == 1


def test_compiled_by_xla(name):
    layer, inputs = make_layer(name), make_inputs(name)
    expected = layer(*inputs)
    assert_equal_outputs(tf.function(layer, jit_compile=True)(*inputs), expected, atol=1e-5)


def test_saved_and_loaded_without_custom_objects(name, tmp_path):
    model, inputs = make_model(name), flatten(make_inputs(name))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal_outputs(loaded(inputs), model(inputs))


def test_mixed_precision(name):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = make_layer(name)
        outputs = layer(*make_inputs(name))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert [x.dtype for x in flatten(outputs)] == [tf.bfloat16] * len(flatten(outputs))
    assert {tf.as_dtype(v.dtype) for v in layer.trainable_variables} <= {tf.float32}


def test_trains(name):
    first, *others = symbolic = from_shapes(
        name, lambda shape: keras.Input(fill(shape[1:], None, None))
    )
    # A layer below shows that the gradient passes, also through layers without weights.
    below = keras.layers.Dense(first.shape[-1])
    layer = make_layer(name)
    output = flatten(layer(below(first), *others))[0]
    model = keras.Model(flatten(symbolic), output)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = flatten(make_inputs(name))
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(inputs, normal(*model(inputs).shape, seed=7), batch_size=2, verbose=0)
    assert len(before) == 2 + len(layer.trainable_variables)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert np.all(np.isfinite(variable))
        assert np.any(variable.numpy() != value), variable.name


def export(model, folder, specs):
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, input_signature=[specs])
    archive.write_out(folder, verbose=False)


@pytest.mark.current
def test_saved_model(name, tmp_path):
    model = make_model(name)
    export(model, tmp_path, flatten(make_signature(name)))
    loaded = tf.saved_model.load(tmp_path)
    for batch, time in SIZES:
        inputs = flatten(make_inputs(name, batch, time))
        assert_equal_outputs(loaded.serve(inputs), model(inputs))


@pytest.mark.current
def test_litert_with_built_in_ops(name, tmp_path):
    inputs = flatten(make_inputs(name, batch=1, time=3))
    model = make_model(name, batch=1, time=3)
    export(model, tmp_path, [tf.TensorSpec(x.shape) for x in inputs])
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    details = sorted(interpreter.get_input_details(), key=lambda detail: detail["name"])
    for detail, value in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    details = sorted(interpreter.get_output_details(), key=lambda detail: detail["name"])
    actual = [interpreter.get_tensor(detail["index"]) for detail in details]
    assert_equal_outputs(actual, model(inputs), atol=1e-5)
