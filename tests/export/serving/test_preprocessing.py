"""Preprocessing in the graph against the pipeline's own test crops."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from export.serving.preprocessing import crop_frames
from pipelines.clips.augmentation import fixed_crops
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import center_crop, resized_size


@pytest.fixture(scope="module")
def picture():
    return load_sample_image("china.jpg")


def pipeline_crop(frame, image_size, short_side):
    height, width = frame.shape[:2]
    frame_size = resized_size(width, height, short_side)
    crop = center_crop(*frame_size, image_size)
    if image_size[0] == image_size[1]:
        assert fixed_crops(*frame_size, image_size[0]) == (crop,)
    image = np.empty((1, *image_size, 3), np.uint8)
    FrameConverter([crop], image_size).convert_rgb(frame, image)
    return image[0]


# height, width
@pytest.mark.parametrize("image_size", [(224, 224), (112, 112), (128, 171)])
@pytest.mark.parametrize(
    "size", [(256, 340), (340, 256), (427, 640), (240, 320), (90, 123), (700, 393), (720, 1280)]
)
def test_natural_images(picture, size, image_size):
    """OpenCV cuts off the last bits: up to one grey level, an eighth in the mean."""
    frame = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    actual = crop_frames(tf.constant(frame[np.newaxis]), image_size, 256)[0].numpy()
    np.testing.assert_array_equal(actual, np.round(actual))
    differences = np.abs(actual - pipeline_crop(frame, image_size, 256))
    assert differences.max() <= 1
    assert differences.mean() < 0.13


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 24), st.integers(0, 20))
def test_any_size(height, width, side, more):
    """The same pixels are cut out, however the sizes are rounded."""
    assume((height, width) != (side, side))
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype("uint8")
    actual = crop_frames(tf.constant(frame[np.newaxis]), (side, side), side + more)[0]
    expected = pipeline_crop(frame, (side, side), side + more)
    assert np.abs(actual - expected).max() <= 1


def test_own_size_is_unchanged():
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 20)).astype("uint8")
    np.testing.assert_array_equal(crop_frames(tf.constant(frames), (24, 32), 40), frames)


def test_flow_is_cropped_as_its_planes_are(picture):
    planes = np.concatenate([picture, picture[::-1]], axis=-1)
    actual = crop_frames(tf.constant(planes[np.newaxis]), (112, 112), 128)[0]
    crop = center_crop(*resized_size(640, 427, 128), (112, 112))
    for channel in range(6):
        expected = np.empty((1, 112, 112), np.uint8)
        FrameConverter([crop], (112, 112)).convert_grey(
            np.ascontiguousarray(planes[..., channel]), expected
        )
        assert np.abs(actual[..., channel] - expected[0]).max() <= 1


def test_no_frames():
    frames = tf.zeros((0, 50, 60, 3), tf.uint8)
    assert crop_frames(frames, (24, 24), 32).shape == (0, 24, 24, 3)
