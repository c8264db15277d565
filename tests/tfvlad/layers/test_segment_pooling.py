import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import normal
from tfvlad.layers import SegmentPooling


def pooled(clip, num_segments, reduction):
    """One clip `(T, F)` by the definition, frame by frame."""
    found = np.zeros((num_segments, clip.shape[1]))
    counts = np.zeros((num_segments, 1))
    for t, frame in enumerate(clip):
        segment = t * num_segments // len(clip)
        found[segment] += frame
        counts[segment] += 1
    return found / np.maximum(counts, 1) if reduction == "mean" else found


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 13), st.integers(1, 6), st.sampled_from(["sum", "mean"]))
def test_equals_the_definition(num_frames, num_segments, reduction):
    clips = normal(2, num_frames, 3)
    layer = SegmentPooling(num_segments, reduction=reduction)
    expected = [pooled(clip, num_segments, reduction) for clip in clips]
    np.testing.assert_allclose(layer(clips), expected, atol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_maps(reduction):
    maps = normal(2, 5, 2, 3, 4)
    outputs = SegmentPooling(2, reduction=reduction)(maps)
    assert outputs.shape == (2, 2, 2, 3, 4)
    for b, clip in enumerate(maps):
        expected = pooled(clip.reshape(5, -1), 2, reduction).reshape(2, 2, 3, 4)
        np.testing.assert_allclose(outputs[b], expected, atol=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_masked_frames_are_not_there(reduction):
    clip, layer = normal(1, 7, 3), SegmentPooling(2, reduction=reduction)
    mask = np.array([[True, True, False, True, True, False, False]])
    np.testing.assert_allclose(layer(clip, mask=mask), layer(clip[:, mask[0]]), atol=1e-6)
    nothing = layer(clip, mask=np.zeros((1, 7), bool))
    np.testing.assert_array_equal(nothing, np.zeros((1, 2, 3)))


def test_segments_add_up_to_the_clip():
    clip = normal(2, 11, 4)
    np.testing.assert_allclose(
        tf.reduce_sum(SegmentPooling(4)(clip), axis=1), clip.sum(axis=1), atol=1e-5
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_is_the_weight(reduction):
    layer, clip = SegmentPooling(2, reduction=reduction), tf.constant(normal(1, 5, 3))
    upstream = normal(1, 2, 3, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(clip)
        loss = tf.reduce_sum(layer(clip) * upstream)
    # Frames 0 to 2 are in the first segment, 3 and 4 in the second.
    sizes = np.array([3, 3, 3, 2, 2]) if reduction == "mean" else np.ones(5)
    expected = upstream[0, [0, 0, 0, 1, 1]] / sizes[:, np.newaxis]
    np.testing.assert_allclose(tape.gradient(loss, clip)[0], expected, atol=1e-6)


def test_sums_in_float32_under_mixed_precision():
    # In float16 2048 + 1 is 2048.
    clip = np.array([[[2048.0], [1.0], [1.0], [-2048.0]]], "float16")
    layer = SegmentPooling(1, dtype="mixed_float16")
    outputs = layer(clip)
    assert outputs.dtype == tf.float16
    np.testing.assert_array_equal(outputs, [[[2.0]]])


@pytest.mark.parametrize("num_segments", [0, -1, 2.5])
def test_wrong_number(num_segments):
    with pytest.raises(ValueError, match=r"`num_segments` must be a positive integer\. Received:"):
        SegmentPooling(num_segments)


def test_wrong_reduction():
    message = r"`reduction` must be one of \('sum', 'mean'\)\. Received: reduction='max'\."
    with pytest.raises(ValueError, match=message):
        SegmentPooling(2, reduction="max")


def test_wrong_inputs():
    message = (
        r"`SegmentPooling` needs inputs of shape \(B, T, \.\.\.\)\. Received: shape=\(2, 5\)\."
    )
    with pytest.raises(ValueError, match=message):
        SegmentPooling(2)(normal(2, 5))
