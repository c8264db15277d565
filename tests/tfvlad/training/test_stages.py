import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal
from tfvlad import compat
from tfvlad.training import (
    Stage,
    action_vlad_stages,
    attention_lstm_stage,
    hollywood2_stage,
    ta_vlad_stages,
)
from tfvlad.training.training_state import TrainingState


def rates(stage):
    return [stage.learning_rate_at(epoch) for epoch in range(stage.epochs)]


def test_ta_vlad_stages():
    first, second = ta_vlad_stages("layer4")
    assert {"shared_gru", "separate_grus", "flattened_gru", "logits"} < set(first.trainable_layers)
    assert first.freed_block is None
    assert second.trainable_layers is None
    assert second.freed_block == "layer4"
    # lr 1e-2, halved every 5 epochs; 1e-4, halved every 8
    assert rates(first) == pytest.approx([1e-2 * 0.5**n for n in range(6) for _ in range(5)])
    assert rates(second) == pytest.approx([1e-4 * 0.5**n for n in range(4) for _ in range(8)][:30])
    for stage in (first, second):
        assert (stage.clip_norm, stage.weight_decay) == (None, None)


def test_action_vlad_stages():
    first, second = action_vlad_stages("block5", steps_per_epoch=250)
    assert first.trainable_layers == ("logits", "rgb_logits", "flow_logits")
    assert (second.trainable_layers, second.freed_block) == (None, "block5")
    # 10,000 and 8,000 steps, divided by 10 every 5,000
    assert rates(first) == pytest.approx([1e-2] * 20 + [1e-3] * 20)
    assert rates(second) == pytest.approx([1e-4] * 20 + [1e-5] * 12)
    for stage in (first, second):
        assert (stage.epsilon, stage.clip_norm, stage.weight_decay) == (1e-4, 5.0, 4e-5)


def test_action_vlad_stages_have_an_epoch_at_least():
    assert [stage.epochs for stage in action_vlad_stages("block5", 100_000)] == [1, 1]


def test_attention_lstm_stage():
    # 22,624 videos in batches of 200: 2,512 steps are 22 epochs, 125 are 1
    stage = attention_lstm_stage(114)
    assert (stage.momentum, stage.best_by, stage.patience, stage.epochs) == (0.9, "loss", 10, 44)
    assert rates(stage)[:25] == pytest.approx([1e-2] * 22 + [8e-3, 6.4e-3, 5.12e-3])


def test_hollywood2_stage():
    stage = hollywood2_stage(10)  # 823 clips in batches of 100 would be 9
    assert (stage.momentum, stage.best_by, stage.patience, stage.epochs) == (0.6, "loss", None, 250)
    # 1,000 steps, then falling by 0.8 in 125
    assert rates(stage)[:100] == pytest.approx([1e-3] * 100)
    assert rates(stage)[100] == pytest.approx(1e-3 * 0.8**0.08)
    assert rates(stage)[99 + 25] == pytest.approx(1e-3 * 0.8**2)


def test_constant_epochs_are_those_before_the_first_decay():
    stage = Stage(epochs=7, learning_rate=1.0, decay_epochs=2, constant_epochs=3)
    assert rates(stage) == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "`patience` must be positive or None. Received: patience=0."),
        (
            {"constant_epochs": -1},
            "`constant_epochs` must be positive or None. Received: constant_epochs=-1.",
        ),
        (
            {"optimizer": "adagrad"},
            f"`optimizer` must be one of {', '.join(compat.OPTIMIZERS)}. "
            "Received: optimizer='adagrad'.",
        ),
        ({"momentum": 1.0}, "`momentum` must be in [0, 1). Received: momentum=1.0."),
        (
            {"best_by": "top1"},
            '`best_by` must be "measure" or "loss". Received: best_by=\'top1\'.',
        ),
    ],
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Stage(epochs=1, learning_rate=0.1, **options)


@pytest.mark.parametrize(
    "name", ["epochs", "learning_rate", "decay_factor", "decay_epochs", "epsilon"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_errors(name, value):
    message = f"`{name}` must be positive. Received: {name}={value}."
    with pytest.raises(ValueError, match=re.escape(message)):
        Stage(**{"epochs": 1, "learning_rate": 0.1, name: value})


def trained(name, weight_decay, state=None, epochs=2):
    """A layer and its state after epochs of a task, from the start or from a state."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.set_weights([normal(4, 3), normal(3)])
    optimizer = compat.make_optimizer(
        name, 0.01, momentum=0.9, epsilon=1e-7, clip_norm=5.0, weight_decay=weight_decay
    )
    model.compile(optimizer, "mse")
    if state is not None:
        state.restore(model)
    x = normal(12, 4)
    model.fit(x, x[:, :3], batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    state = TrainingState({})
    state.capture(model, is_best=True)
    return model, state


@pytest.mark.parametrize("weight_decay", [None, 0.01])
@pytest.mark.parametrize("name", compat.OPTIMIZERS)
def test_every_optimizer_goes_on_from_its_state(name, weight_decay):
    whole, _ = trained(name, weight_decay, epochs=7)
    _, state = trained(name, weight_decay, epochs=3)
    resumed, _ = trained(name, weight_decay, state, epochs=4)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(whole.get_weights()[0], normal(4, 3))
    resumed.optimizer.learning_rate = 0.005
    assert float(resumed.optimizer.learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize("name", compat.OPTIMIZERS)
def test_weight_decay_is_decoupled(name):
    weights = tf.Variable(normal(3))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = compat.make_optimizer(
        name, 0.1, momentum=0.9, epsilon=1e-7, clip_norm=None, weight_decay=0.5
    )
    model.compile(optimizer, "mse")
    for _ in range(6):  # lookahead takes its weights from the others at the sixth step
        optimizer.apply_gradients([(tf.zeros(3), weights)])
    shrunk = 0.95**6
    if name == "lookahead":
        shrunk = (1 + shrunk) / 2
    np.testing.assert_allclose(weights.numpy(), shrunk * normal(3), rtol=1e-5)


@pytest.mark.addons
@pytest.mark.parametrize("name", ["rectified_adam", "lookahead"])
def test_optimizers_of_tensorflow_addons(name):
    import tensorflow_addons as tfa

    kinds = {"rectified_adam": tfa.optimizers.RectifiedAdam, "lookahead": tfa.optimizers.Lookahead}
    assert isinstance(trained(name, None, epochs=1)[0].optimizer, kinds[name])
