"""What a model makes of clips, against its own outputs."""

import numpy as np
import pytest

from tests.helpers import tiny_backbone
from tfvlad.models import average_pooling, intermediate_outputs, ta_vlad
from tfvlad.visualization import look, seen, word_shares

pytestmark = pytest.mark.usefixtures("eagerly")

CLIPS = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype("uint8")


def of_clips(model):
    return intermediate_outputs(model).predict_on_batch(CLIPS)


def test_all_that_a_model_has():
    first, model = (
        ta_vlad(tiny_backbone(seed=seed), 3, num_frames=3, num_clusters=4, units=5)
        for seed in (1, 2)
    )
    found = look(model, iter(CLIPS), first)
    expected = of_clips(model)
    np.testing.assert_array_equal(found.frames, CLIPS)
    assert list(found.attention) == ["after stage 1", "after stage 2"]
    before, after = found.attention.values()
    np.testing.assert_allclose(before, of_clips(first)["attention"], atol=1e-5)
    np.testing.assert_allclose(after, expected["attention"], atol=1e-5)
    assert np.abs(before - after).max() > 1e-4
    np.testing.assert_allclose(found.assignments, expected["assignments"], atol=1e-4)
    np.testing.assert_allclose(found.descriptors, expected["descriptor"].reshape(2, -1), atol=1e-4)
    np.testing.assert_array_equal(found.top_classes, expected["logits"].argmax(axis=-1))
    shares = word_shares(found.assignments, after).mean(axis=1)
    np.testing.assert_allclose(found.word_shares, shares)
    # All 3 x 4 x 4 locations, in any order.
    locations = expected["feature_map"].reshape(2, 48, 6)
    assert found.features.shape == locations.shape
    np.testing.assert_allclose(
        np.sort(found.features, axis=1), np.sort(locations, axis=1), atol=1e-4
    )


def test_some_of_many_locations(monkeypatch):
    monkeypatch.setattr(seen, "_NUM_LOCATIONS", 5)
    model = average_pooling(tiny_backbone(), 3, num_frames=3)
    found = look(model, CLIPS)
    assert found.features.shape == (2, 5, 6)
    locations = of_clips(model)["feature_map"].reshape(2, 48, 6)
    for some, every in zip(found.features, locations, strict=True):
        distances = np.abs(some[:, np.newaxis] - every).max(axis=-1)
        assert distances.min(axis=1).max() < 1e-4
    assert found.attention == {}
    assert found.assignments is None
    assert found.word_shares is None


def test_flow_is_shown_as_speed():
    clip = np.full((2, 3, 4, 4), 127.5, "float32")
    clip[0, 1, 2] = [127.5 + 30, 127.5 - 40, 127.5 + 30, 127.5 + 40]
    clip[1, 0, 0, 0] += 50
    shown = seen._visible(clip)
    assert shown.shape == (2, 3, 4, 3)
    assert shown.dtype == np.uint8
    assert (shown[0, 1, 2].tolist(), shown[1, 0, 0].tolist()) == ([255] * 3, [127] * 3)
    assert np.count_nonzero(shown) == 6
