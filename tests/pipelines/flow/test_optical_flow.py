from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.flow import optical_flow
from pipelines.flow.optical_flow import compute_flow, dequantize_flow, flow_methods, quantize_flow

METHODS = ("tvl1", "dis", "farneback")


def texture(height, width, seed=0):
    """Smooth noise of several sizes."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    layers = [sigma * cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1.5, 3, 6)]
    image = sum(layers)
    return 128 + 40 * (image - image.mean()) / image.std()


def pan(velocity, height=96, width=128):
    """Two grey frames that show a picture moving by `velocity`, pixels to the right and down."""
    picture = texture(height + 40, width + 40)
    frames = []
    for time in (0, 1):
        left, top = 20 - time * velocity[0], 20 - time * velocity[1]
        shift = np.array([[1, 0, -left], [0, 1, -top]], np.float32)
        frame = cv2.warpAffine(picture, shift, (width, height), flags=cv2.INTER_CUBIC)
        frames.append(np.rint(frame).clip(0, 255).astype(np.uint8))
    return frames


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("velocity", [(3, 0), (1, 0), (0, 3), (-2.5, -2.5)])
@pytest.mark.parametrize("method", METHODS)
def test_a_pan_survives_the_images(method, velocity):
    flow = compute_flow(*pan(velocity), method)
    assert flow.shape == (96, 128, 2)
    assert flow.dtype == np.float32
    kept = dequantize_flow(np.stack([jpeg(quantize_flow(flow[..., i])) for i in (0, 1)], axis=-1))
    assert np.linalg.norm(kept - np.float32(velocity), axis=-1).mean() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_nothing_moves(method):
    frame, _ = pan((0, 0))
    images = quantize_flow(compute_flow(frame, frame, method))
    assert np.abs(images.astype(int) - 128).max() <= 1


@given(st.lists(st.floats(-40, 40, width=32), min_size=1), st.sampled_from([5.0, 20.0]))
def test_quantisation_errs_by_half_a_step_at_most(values, bound):
    flow = np.array(values, np.float32)
    images = quantize_flow(flow, bound)
    assert images.dtype == np.uint8
    error = np.abs(dequantize_flow(images, bound) - flow.clip(-bound, bound))
    assert error.max() <= bound / 255 + 1e-4


def test_the_bounds_are_black_and_white():
    np.testing.assert_array_equal(quantize_flow([-99, -20, 0, 20, 99]), [0, 0, 128, 255, 255])
    np.testing.assert_array_equal(quantize_flow([-1.0, 1.0], bound=2), [64, 191])
    np.testing.assert_allclose(dequantize_flow(np.array([0, 255], np.uint8)), [-20, 20], atol=1e-5)


def test_methods_are_those_of_the_installed_opencv():
    assert flow_methods() == METHODS
    with mock.patch.object(optical_flow, "cv2", mock.Mock(spec=["DISOpticalFlow_create"])):
        assert flow_methods() == ("dis", "farneback")
        with pytest.raises(ValueError, match=r"install opencv-contrib-python-headless .* of dis"):
            compute_flow(*pan((0, 0)), "tvl1")


def test_errors():
    frame = np.zeros((32, 32), np.uint8)
    with pytest.raises(ValueError, match=r"`method` must be one of tvl1, .*Received: 'raft'"):
        compute_flow(frame, frame, "raft")
    with pytest.raises(ValueError, match=r"`previous` must be a grey frame.*Received: float32"):
        compute_flow(frame.astype(np.float32), frame, "dis")
    with pytest.raises(ValueError, match=r"`following` must .* uint8 \(32, 32\). .*\(32, 31\)"):
        compute_flow(frame, frame[:, 1:], "dis")
    with pytest.raises(ValueError, match=r"`previous` must be a grey frame.*\(32, 32, 3\)"):
        compute_flow(np.zeros((32, 32, 3), np.uint8), frame, "dis")
