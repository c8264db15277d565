from itertools import product

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clips.augmentation import (
    FLOW_SCALES,
    augment_clip,
    crop_clip,
    crop_offsets,
    crop_sizes,
    draw_color_matrix,
    draw_crop,
    fixed_crops,
)
from pipelines.video.crops import Crop, resized_size

sizes = st.integers(16, 500)


def test_crop_sizes_are_those_of_temporal_segment_networks():
    pairs = crop_sizes(256, 224)
    expected = [256, 224, 192, 168]
    close = {(a, b) for (i, a), (j, b) in product(enumerate(expected), repeat=2) if abs(i - j) < 2}
    assert len(pairs) == 10
    assert set(pairs) == close
    assert len(crop_sizes(256, 224, FLOW_SCALES)) == 7
    assert (224, 224) in crop_sizes(226, 224, (1.0,))  # within 3 px
    assert crop_sizes(227, 224, (1.0,)) == [(227, 227)]


def test_crop_offsets_are_quarter_steps():
    five = crop_offsets(340, 256, 224, 224)
    assert five == [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
    thirteen = crop_offsets(340, 256, 224, 224, 13)
    assert len(set(thirteen)) == 13
    assert thirteen[:5] == five
    assert {x for x, _ in thirteen} == {0, 29, 58, 87, 116}
    with pytest.raises(ValueError, match=r"`num_offsets` must be 5 or 13. Received: num_offsets=9"):
        crop_offsets(340, 256, 224, 224, 9)


@given(sizes, sizes, st.integers(8, 300), st.sampled_from([5, 13]), st.integers(0, 50))
def test_drawn_crops_lie_in_the_frame(width, height, image_size, num_offsets, seed):
    crop = draw_crop(
        np.random.default_rng(seed), width, height, image_size, num_offsets=num_offsets
    )
    assert 0 <= crop.left <= crop.left + crop.width <= width
    assert 0 <= crop.top <= crop.top + crop.height <= height
    assert crop.width > 0
    assert crop.height > 0


def test_draws_are_seeded_and_reach_every_choice():
    def draws(seed):
        rng = np.random.default_rng(seed)
        return [draw_crop(rng, 340, 256) for _ in range(2000)]

    crops = draws(0)
    assert crops == draws(0) != draws(1)
    assert {(c.width, c.height) for c in crops} == set(crop_sizes(256, 224))
    assert 0.45 < np.mean([c.flip for c in crops]) < 0.55
    assert not any(
        draw_crop(np.random.default_rng(s), 340, 256, flip_probability=0).flip for s in range(20)
    )


@given(sizes, sizes, st.integers(8, 300), st.sampled_from([1, 5, 10]))
def test_fixed_crops(width, height, image_size, num_crops):
    crops = fixed_crops(width, height, image_size, num_crops)
    size = min(image_size, width, height)
    assert len(crops) == num_crops
    assert all((c.width, c.height) == (size, size) for c in crops)
    centre = crops[4 if num_crops > 1 else 0]
    assert (centre.left, centre.top) == ((width - size) // 2, (height - size) // 2)
    if num_crops > 1:
        corners = {(x, y) for x in (0, width - size) for y in (0, height - size)}
        assert {(c.left, c.top) for c in crops[:4]} == corners
    if num_crops == 10:
        assert [c._replace(flip=True) for c in crops[:5]] == list(crops[5:])


def test_fixed_crops_are_1_5_or_10():
    with pytest.raises(ValueError, match=r"`num_crops` must be 1, 5 or 10. Received: num_crops=3"):
        fixed_crops(340, 256, 224, 3)


@given(sizes, sizes, st.integers(8, 300))
def test_resized_size_keeps_the_short_side(width, height, short_side):
    new = resized_size(width, height, short_side)
    assert min(new) == short_side
    assert abs(new[0] * height - new[1] * width) <= max(width, height)


def test_crop_clip_cuts_resizes_and_mirrors():
    clip = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    crop = Crop(5, 7, 20, 16, 50, 40)
    expected = [cv2.resize(f[7:23, 5:25], (8, 8)) for f in clip]
    np.testing.assert_array_equal(crop_clip(clip, crop, 8), expected)
    mirrored = crop_clip(clip, crop._replace(flip=True), 8)
    np.testing.assert_array_equal(mirrored, np.array(expected)[:, :, ::-1])
    with pytest.raises(ValueError, match=r"shape \(T, 40, 50, C\).*clip.shape=\(3, 20, 50, 3\)"):
        crop_clip(clip[:, :20], crop, 8)


@pytest.mark.parametrize("channels", [2, 20])
def test_mirrored_flow_changes_the_sign_of_x(channels):
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(2, 16, 16, channels)).astype(np.float32)
    crop = Crop(0, 0, 16, 16, 16, 16, flip=True)
    flipped = crop_clip(clip, crop, 16, is_flow=True)
    np.testing.assert_array_equal(flipped[..., 0::2], -clip[:, :, ::-1, 0::2])
    np.testing.assert_array_equal(flipped[..., 1::2], clip[:, :, ::-1, 1::2])
    stored = rng.integers(0, 256, (2, 16, 16, 2), dtype=np.uint8)
    flipped = crop_clip(stored, crop, 16, is_flow=True)
    np.testing.assert_array_equal(flipped[..., 0], 255 - stored[:, :, ::-1, 0])


def test_augment_clip_is_one_draw_for_all_frames():
    frame = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    clip = augment_clip(np.stack([frame] * 4), seed=3, image_size=32)
    assert (clip == clip[0]).all()
    results = {augment_clip(frame[None], seed, 32).tobytes() for seed in range(30)}
    assert len(results) > 10


def test_color_matrix():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(draw_color_matrix(rng, 0.0), np.eye(3, 4), atol=1e-6)
    matrix = draw_color_matrix(np.random.default_rng(1), 0.4)
    b, c, s = np.random.default_rng(1).uniform(0.6, 1.4, 3)
    rgb = np.array([200.0, 30.0, 90.0])
    grey = rgb @ [0.299, 0.587, 0.114]
    expected = c * (b * (grey + s * (rgb - grey)) - 127.5) + 127.5
    np.testing.assert_allclose(matrix @ [*rgb, 1], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`strength` must lie between 0 and 1"):
        draw_color_matrix(rng, 1.5)
