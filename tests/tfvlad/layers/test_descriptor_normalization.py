import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal
from tests.tfvlad.layers import equations
from tfvlad.layers import DescriptorNormalization


@pytest.mark.parametrize("intra_normalize", [False, True])
def test_equals_the_equation(intra_normalize):
    states = normal(2, 3, 4)
    outputs = DescriptorNormalization(intra_normalize=intra_normalize)(states)
    for b, vectors in enumerate(states):
        rows = [equations.unit(v) if intra_normalize else v for v in vectors]
        expected = equations.unit(np.concatenate(rows))
        np.testing.assert_allclose(outputs[b], expected, rtol=1e-5)


def test_zeros_have_finite_gradients():
    states = tf.zeros((1, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(states)
        outputs = DescriptorNormalization()(states)
    np.testing.assert_array_equal(outputs, np.zeros((1, 12)))
    assert np.all(np.isfinite(tape.gradient(outputs, states)))


def test_float32_under_mixed_precision():
    # Squares of these are 0 in float16.
    states = 1e-4 * normal(2, 3, 4)
    outputs = DescriptorNormalization(dtype="mixed_float16")(states)
    assert outputs.dtype == tf.float16
    expected = DescriptorNormalization()(states)
    np.testing.assert_allclose(tf.cast(outputs, "float32"), expected, rtol=2**-10)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_wrong_inputs(shape):
    message = r"`DescriptorNormalization` needs inputs of shape \(B, K, U\)\. Received: shape="
    with pytest.raises(ValueError, match=message):
        DescriptorNormalization()(normal(*shape))
