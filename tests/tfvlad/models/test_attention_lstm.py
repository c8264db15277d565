"""The attention LSTM and its baselines: scores, training, files, errors."""

import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal
from tests.tfvlad.layers import equations
from tests.tfvlad.layers.test_bahdanau_lstm_cell import WEIGHTS
from tfvlad.models import (
    attention_lstm,
    feature_softmax,
    intermediate_outputs,
    is_multi_label,
    plain_lstm,
)

pytestmark = pytest.mark.usefixtures("eagerly")

B, N, T, DV, DA, C, U = 6, 4, 5, 3, 6, 3, 2
SIZES = {"num_steps": N, "num_attended": T, "units": U, "matching_units": 7}
INPUTS = [normal(B, N, DV), normal(B, T, DA, seed=1)]
LABELS = np.arange(B) % C
every_kind = pytest.mark.parametrize("multi_label", [False, True])
every_attend = pytest.mark.parametrize("attend", ["every_step", "last_step"])


def build(**arguments):
    return attention_lstm(C, DV, DA, **{**SIZES, **arguments})


def build_baseline(builder, **arguments):
    sizes = {"num_steps": N, "units": U} if builder is plain_lstm else {"num_steps": N}
    return builder(C, DV, **{**sizes, **arguments})


def randomize(model):
    model.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(model.get_weights())])
    return model


def weights_of(model, layer):
    return [weight.astype("float64") for weight in model.get_layer(layer).get_weights()]


def sigmoid_layer(model, inputs):
    kernel, bias = weights_of(model, "input_dense")
    assert kernel.shape == (DV, DV)
    return equations.sigmoid(inputs @ kernel + bias)


def scores_of(model, states, multi_label):
    kernel, bias = weights_of(model, "logits")
    return equations.mean_score(states @ kernel + bias, multi_label=multi_label)


@every_attend
@every_kind
@pytest.mark.parametrize("any_length", [False, True])
def test_attention_lstm_equals_the_equations(attend, multi_label, any_length):
    sizes = {"num_steps": None, "num_attended": None} if any_length else {}
    model = randomize(build(attend=attend, multi_label=multi_label, **sizes))
    assert model.input_shape == [
        (None, None if any_length else N, DV),
        (None, None if any_length else T, DA),
    ]
    actual = model.predict(INPUTS, verbose=0)
    outputs = intermediate_outputs(model).predict(INPUTS, verbose=0)
    weights = dict(zip(WEIGHTS, weights_of(model, "attention_lstm"), strict=True))
    for b, (inputs, attended) in enumerate(zip(*INPUTS, strict=True)):
        inputs = sigmoid_layer(model, inputs)
        states, attention, *_ = equations.attention_lstm(
            inputs, attended, weights, np.zeros((2, U)), attend
        )
        scored = states if attend == "every_step" else states[-1:]
        expected = scores_of(model, scored, multi_label)
        np.testing.assert_allclose(actual[b], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["attention"][b], attention, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs["states"][b], states, rtol=1e-4, atol=1e-6)
        kernel, bias = weights_of(model, "logits")
        np.testing.assert_allclose(
            outputs["step_logits"][b], scored @ kernel + bias, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(outputs["logits"], actual)
    assert sorted(outputs) == ["attention", "logits", "states", "step_logits"]


@every_kind
def test_plain_lstm_equals_the_equations(multi_label):
    model = randomize(build_baseline(plain_lstm, multi_label=multi_label))
    kernel, recurrent_kernel, bias = weights_of(model, "lstm")
    no_context = np.zeros(1)
    weights = {"input": kernel, "recurrent": recurrent_kernel, "bias": bias}
    weights["context"] = np.zeros((1, 4 * U))
    for inputs, actual in zip(INPUTS[0], model.predict(INPUTS[0], verbose=0), strict=True):
        carry, states = np.zeros((2, U)), []
        for x in sigmoid_layer(model, inputs):
            carry = equations.lstm_step(x, no_context, *carry, weights)
            states.append(carry[0])
        expected = scores_of(model, np.array(states), multi_label)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@every_kind
def test_feature_softmax_equals_the_equations(multi_label):
    model = randomize(build_baseline(feature_softmax, multi_label=multi_label))
    expected = [scores_of(model, inputs, multi_label) for inputs in INPUTS[0]]
    np.testing.assert_allclose(model.predict(INPUTS[0], verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_defaults_are_the_papers():
    def defaults(build):
        parameters = inspect.signature(build).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    common = {"num_steps": 12, "multi_label": False, "dropout": 0.5}
    assert defaults(attention_lstm) == {
        **common,
        "num_attended": 12,
        "units": 512,
        "matching_units": 512,
        "attend": "every_step",
        "name": "attention_lstm",
    }
    assert defaults(plain_lstm) == {**common, "units": 512, "name": "plain_lstm"}
    assert defaults(feature_softmax) == {**common, "name": "feature_softmax"}


def test_input_names():
    assert [x.name.split(":")[0] for x in build().inputs] == ["input_data", "attended_data"]
    for builder in (plain_lstm, feature_softmax):
        assert build_baseline(builder).inputs[0].name.split(":")[0] == "input_data"


def test_dropout_on_everything_but_the_recurrence():
    def dropouts(model):
        layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        assert {layer.rate for layer in layers} == {0.3}
        return sorted(layer.name for layer in layers)

    lstm = ["dropout", "input_dropout", "lstm_dropout"]
    assert dropouts(build(dropout=0.3)) == sorted([*lstm, "attended_dropout"])
    assert dropouts(build_baseline(plain_lstm, dropout=0.3)) == lstm
    assert dropouts(build_baseline(feature_softmax, dropout=0.3)) == ["dropout"]
    # Each of the attended data is dropped on its own: what is left of them is attended to.
    model = build(dropout=0.5)
    dropped = model.get_layer("attended_dropout")(np.ones((1, 50, 40)), training=True)
    assert np.mean(np.equal(dropped, 0)) == pytest.approx(0.5, abs=0.05)
    assert np.all(np.std(dropped, axis=(0, 2)) > 0)


@every_attend
def test_fits_saves_and_loads(attend, tmp_path):
    model = build(attend=attend, dropout=0.0, units=8)
    model.compile(
        keras.optimizers.Adam(0.2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(INPUTS, LABELS, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    loss, _ = model.evaluate(INPUTS, LABELS, verbose=0)
    scores = model.predict(INPUTS, verbose=0)
    np.testing.assert_allclose(np.exp(scores).sum(axis=-1), 1, rtol=1e-5)
    assert loss == pytest.approx(-np.mean(scores[np.arange(B), LABELS]), rel=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(INPUTS, verbose=0), scores, atol=1e-6)
    assert is_multi_label(loaded) is False
    attention = intermediate_outputs(loaded, ["attention"]).predict(INPUTS, verbose=0)
    assert attention["attention"].shape == (B, N if attend == "every_step" else 1, T)


def test_fits_several_labels(tmp_path):
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 1]])
    model = build(dropout=0.0, units=8, multi_label=True)
    model.compile(keras.optimizers.Adam(0.2), keras.losses.BinaryCrossentropy(from_logits=True))
    history = model.fit(INPUTS, labels, epochs=10, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    model.save(tmp_path / "model.keras")
    assert is_multi_label(keras.models.load_model(tmp_path / "model.keras")) is True


def test_weights_go_to_a_model_of_another_length(tmp_path):
    model, longer = build(), build(num_steps=2 * N, num_attended=None)
    model.save_weights(tmp_path / "model.weights.h5")
    longer.load_weights(tmp_path / "model.weights.h5")
    for one, other in zip(model.get_weights(), longer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mixed_precision():
    expected = randomize(build(dropout=0.0)).predict(INPUTS, verbose=0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = randomize(build(dropout=0.0))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    scores = model(INPUTS)
    assert scores.dtype == tf.float32
    np.testing.assert_allclose(scores, expected, atol=0.1)


@pytest.mark.parametrize(
    ("builder", "name"),
    [
        *(
            (attention_lstm, name)
            for name in (
                "num_classes",
                "input_channels",
                "attended_channels",
                "num_steps",
                "num_attended",
                "units",
                "matching_units",
            )
        ),
        *((plain_lstm, name) for name in ("num_classes", "input_channels", "num_steps", "units")),
        *((feature_softmax, name) for name in ("num_classes", "input_channels", "num_steps")),
    ],
)
@pytest.mark.parametrize("value", [0, 2.5])
def test_wrong_sizes(builder, name, value):
    arguments = {"num_classes": C, "input_channels": DV, name: value}
    if builder is attention_lstm:
        arguments = {"attended_channels": DA, **arguments}
    message = f"`{name}` must be a positive integer. Received: {name}={value}."
    with pytest.raises(ValueError, match=re.escape(message)):
        builder(**arguments)


@pytest.mark.parametrize("dropout", [1.0, -0.1])
def test_wrong_dropout(dropout):
    message = f"`dropout` must be in [0, 1). Received: dropout={dropout}."
    with pytest.raises(ValueError, match=re.escape(message)):
        build(dropout=dropout)
    for builder in (plain_lstm, feature_softmax):
        with pytest.raises(ValueError, match=re.escape(message)):
            build_baseline(builder, dropout=dropout)
