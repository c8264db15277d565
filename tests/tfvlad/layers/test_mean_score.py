import re

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient
from tests.tfvlad.layers import equations
from tfvlad.layers import MeanScore

B, N, C = 3, 4, 5
MASK = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
every_kind = pytest.mark.parametrize("multi_label", [False, True])


@every_kind
@pytest.mark.parametrize("mask", [None, MASK])
def test_equals_the_equations(multi_label, mask):
    logits = 3 * normal(B, N, C)
    scores = MeanScore(multi_label=multi_label)(logits, mask=mask)
    for b in range(B):
        expected = equations.mean_score(logits[b], None if mask is None else mask[b], multi_label)
        np.testing.assert_allclose(scores[b], expected, rtol=1e-5, atol=1e-6)


@every_kind
@pytest.mark.parametrize("mask", [None, MASK])
def test_step_weights(multi_label, mask):
    logits, weights = 3 * normal(B, N, C), (0.5, 1, 0, 2)
    layer = MeanScore(multi_label=multi_label, step_weights=weights)
    scores = layer(logits, mask=mask)
    for b in range(B):
        row = None if mask is None else mask[b]
        expected = equations.mean_score(logits[b], row, multi_label, weights)
        np.testing.assert_allclose(scores[b], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [(1, -1), (0.0, 0.0)])
def test_wrong_step_weights(weights):
    message = (
        "`step_weights` must be numbers, none of them negative and not all zero. "
        f"Received: step_weights={weights}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        MeanScore(step_weights=weights)


def test_step_weights_of_other_steps():
    message = "`step_weights` must be one for each of 3 steps. Received: step_weights=(1, 2)."
    with pytest.raises(ValueError, match=re.escape(message)):
        MeanScore(step_weights=(1, 2)).build((None, 3, C))


def test_probabilities_are_the_mean_ones():
    logits = normal(B, N, C)
    mean = np.mean(tf.nn.softmax(logits), axis=1)
    np.testing.assert_allclose(tf.nn.softmax(MeanScore()(logits)), mean, rtol=1e-5)
    mean = np.mean(tf.sigmoid(logits), axis=1)
    scores = MeanScore(multi_label=True)(logits)
    np.testing.assert_allclose(tf.sigmoid(scores), mean, rtol=1e-5)


@every_kind
def test_gradient_equals_finite_differences(multi_label):
    logits, upstream = tf.constant(normal(1, N, C)), normal(C, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(MeanScore(multi_label=multi_label)(logits) * upstream)
    expected = numeric_gradient(
        lambda x: upstream @ equations.mean_score(x[0], multi_label=multi_label), logits.numpy()
    )
    assert_close_to_scale(tape.gradient(loss, logits), expected, rtol=1e-3)


def test_one_step_of_one_label_is_unchanged_under_multi_label():
    logits = 30 * normal(B, 1, C)
    np.testing.assert_allclose(MeanScore(multi_label=True)(logits), logits[:, 0], rtol=1e-5)


@every_kind
def test_sure_steps_stay_finite(multi_label):
    logits = tf.constant([[[200.0, -200.0], [200.0, -200.0]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        scores = MeanScore(multi_label=multi_label)(logits)
    expected = [[200, -200]] if multi_label else [[0, -400]]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert np.all(np.isfinite(tape.gradient(scores, logits)))


def test_float32_under_mixed_precision():
    logits = normal(B, N, C)
    scores = MeanScore(dtype="mixed_bfloat16")(logits)
    assert scores.dtype == tf.bfloat16
    # Keras casts the logits to bfloat16, nothing else is rounded before the end.
    expected = MeanScore()(tf.cast(tf.cast(logits, tf.bfloat16), tf.float32))
    np.testing.assert_allclose(tf.cast(scores, tf.float32), expected, rtol=2**-8)


@pytest.mark.parametrize("shape", [(2, 5), (1, 2, 3, 4)])
def test_wrong_shape(shape):
    message = f"`MeanScore` needs inputs of shape (batch, steps, classes). Received: shape={shape}."
    with pytest.raises(ValueError, match=re.escape(message)):
        MeanScore().build(shape)
