import numpy as np
import pytest

from tests.helpers import MemoryClips, tiny_backbone
from tfvlad.models import action_vlad, average_pooling, ta_vlad
from tfvlad.training import FeatureCache, frozen_part, predict_logits, trained_part
from tfvlad.training.networks import frozen_features


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def model(backbone):
    return action_vlad(backbone, 3, num_frames=3, num_clusters=4, alpha=5.0)


@pytest.mark.parametrize("freed_block", [None, "block1", "block2"])
@pytest.mark.parametrize("num_frames", [3, None])
def test_frozen_and_trained_part(backbone, freed_block, num_frames):
    model = action_vlad(backbone, 3, num_frames=num_frames, num_clusters=4, alpha=5.0)
    clips = MemoryClips.random(2).frames.astype("float32")
    frozen, trained = frozen_part(backbone, freed_block), trained_part(model, freed_block)
    maps = np.array(frozen(clips.reshape(-1, 32, 32, 3)))
    logits = trained(maps.reshape(2, 3, *maps.shape[1:]))
    np.testing.assert_allclose(np.array(logits), np.array(model(clips)), atol=1e-5)
    layer = next(layer for layer in trained.layers if layer.weights)
    shared = {id(weight) for weight in model.weights}
    assert {id(weight) for weight in trained.weights} <= shared
    assert layer.weights


def test_the_last_maps_are_the_same_whatever_stage_2_frees(model, tmp_path):
    source = MemoryClips.random(3)
    direct = frozen_features(FeatureCache(tmp_path / "a"), model, source, None)
    cache = FeatureCache(tmp_path / "b")
    for block in ("block1", "block2"):
        found = frozen_features(cache, model, source, None, later_freed_block=block)
        assert [path.name for path in found.paths] == [path.name for path in direct.paths]
    np.testing.assert_allclose(found[2], direct[2], atol=1e-4)
    # Decoded for the whole backbone, and for the first of the blocks on the way to it: not again.
    assert len(source.decoded) == 6


@pytest.mark.parametrize("test_crops", [1, 5])
def test_predict_logits(backbone, model, tmp_path, test_crops):
    source = MemoryClips.random(5, crops=(5,) if test_crops == 5 else ())
    crops = source.frames if test_crops == 5 else source.frames[:, None]
    each = [np.array(model(crops[:, i].astype("float32"))) for i in range(test_crops)]
    expected = np.mean(each, axis=0)
    np.testing.assert_allclose(predict_logits(model, source), expected, atol=1e-5)
    for freed_block in (None, "block2"):
        logits = predict_logits(
            model,
            source,
            freed_block=freed_block,
            cache=FeatureCache(tmp_path),
        )
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    # Once for each way: without the cache, and for each of the two networks.
    assert len(source.decoded) == 15


def test_cached_features_serve_other_models(backbone, model, tmp_path):
    source, cache = MemoryClips.random(3), FeatureCache(tmp_path)
    for built in (model, average_pooling(backbone, 3, num_frames=3)):
        predict_logits(built, source, cache=cache)
    assert len(source.decoded) == 3


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("freed_block", [None, "block2"])
def test_one_bag(backbone, model, tmp_path, is_cached, freed_block):
    """The frames of all crops are pooled as those of one long clip."""
    source = MemoryClips.random(2, crops=(5,))
    longer = action_vlad(backbone, 3, num_frames=15, num_clusters=4, alpha=5.0)
    longer.set_weights(model.get_weights())
    expected = np.array(longer(source.frames.reshape(2, 15, 32, 32, 3).astype("float32")))
    options = {"cache": FeatureCache(tmp_path)} if is_cached else {}
    logits = predict_logits(model, source, freed_block=freed_block, one_bag=True, **options)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    averaged = predict_logits(model, source)
    assert np.abs(averaged - expected).max() > 1e-4


def test_one_bag_has_no_order(backbone):
    recurrent = ta_vlad(backbone, 3, num_frames=3, num_clusters=4, units=4)
    in_segments = average_pooling(backbone, 3, num_frames=3, num_segments=2)
    for model, layer in ((recurrent, "shared_gru"), (in_segments, "segments")):
        message = rf"'{model.name}' reads the frames in their order \({layer}\)"
        with pytest.raises(ValueError, match=message):
            predict_logits(model, MemoryClips.random(2, crops=(5,)), one_bag=True)
