import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests.helpers import MemoryClips, normal, tiny_backbone
from tfvlad.training import CachedClips, FeatureCache


@pytest.fixture(scope="module")
def network():
    return tiny_backbone().model


@pytest.fixture
def source():
    return MemoryClips.random(4, num_frames=2)


def direct(network, frames):
    maps = network.predict(frames.reshape(-1, 32, 32, 3).astype("float32"), verbose=0)
    return maps.reshape(*frames.shape[:-3], 4, 4, 6)


class TestFeatureCache:
    @pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float16", 1e-3)])
    @pytest.mark.parametrize("crops", [(), (5,)])
    def test_values(self, network, tmp_path, dtype, rtol, crops):
        source = MemoryClips.random(3, num_frames=2, crops=crops)
        features = FeatureCache(tmp_path / "new" / "folder", dtype).features(network, source)
        expected = direct(network, source.frames)
        assert (len(features), features.shape, features.dtype) == (3, expected.shape, dtype)
        for i in range(3):
            assert features[i].dtype == dtype
            np.testing.assert_allclose(features[i], expected[i], rtol=rtol, atol=rtol)

    def test_augmented_variants(self, network, source, tmp_path):
        cache = FeatureCache(tmp_path)
        for variant in (0, 1):
            features = cache.features(network, source, augment=True, variant=variant)
            clips = np.stack(list(source.clips(True, variant)))
            expected = direct(network, clips)
            np.testing.assert_allclose(np.stack(list(features)), expected, rtol=1e-4, atol=1e-4)
        assert len(list(tmp_path.glob("*.npy"))) == 8

    def test_nothing_is_computed_twice(self, network, source, tmp_path):
        FeatureCache(tmp_path).features(network, source)
        assert source.decoded == source.names
        FeatureCache(tmp_path).features(network, source)
        assert len(source.decoded) == 4
        # Another list of the same clips shares the files.
        reordered = FeatureCache(tmp_path).features(network, source.subset([2, 0]))
        assert len(source.decoded) == 4
        np.testing.assert_allclose(reordered[1], direct(network, source.frames)[0], atol=1e-4)

    @pytest.mark.parametrize("change", ["weights", "layers", "clips", "crops", "dtype", "variant"])
    def test_a_change_never_meets_a_stale_file(self, source, tmp_path, change):
        backbone, cache = tiny_backbone(), FeatureCache(tmp_path)
        network, options = backbone.model, {"augment": True}
        cache.features(network, source, **options)
        before = set(tmp_path.glob("*.npy"))
        if change == "weights":
            layer = network.get_layer("bn1")
            layer.set_weights([weight + 0.01 for weight in layer.get_weights()])
        elif change == "layers":
            network = keras.Model(network.input, network.get_layer("conv2").output)
        elif change == "clips":
            source.names = [f"other {name}" for name in source.names]
        elif change == "crops":
            options = {"augment": False}
        elif change == "dtype":
            cache = FeatureCache(tmp_path, "float16")
        else:
            options["variant"] = 1
        cache.features(network, source, **options)
        assert len(set(tmp_path.glob("*.npy")) - before) == 4

    def test_of_two_processes_one_extracts(self, source, tmp_path):
        network = tiny_backbone().model
        first, second = FeatureCache(tmp_path), FeatureCache(tmp_path)
        with ThreadPoolExecutor(2) as pool:
            for cache in (first, second):
                pool.submit(cache.features, network, source)
        assert sorted(source.decoded) == sorted(source.names)
        assert sorted(cache.extraction_seconds > 0 for cache in (first, second)) == [False, True]

    def test_trainability_is_not_a_change(self, source, tmp_path):
        backbone = tiny_backbone()
        for block in (None, "block1"):
            backbone.set_trainable(block)
            FeatureCache(tmp_path).features(backbone.model, source)
        assert len(source.decoded) == 4

    def test_killed_extraction_goes_on(self, network, source, tmp_path, monkeypatch):
        def killed(augment, variant):
            for number, clip in enumerate(MemoryClips.clips(source, augment, variant)):
                if number == 3:
                    raise KeyboardInterrupt
                yield clip

        with monkeypatch.context() as patch:
            patch.setattr(source, "clips", killed)
            patch.setattr(source, "subset", lambda indices: source)
            with pytest.raises(KeyboardInterrupt):
                FeatureCache(tmp_path).features(network, source)
        done = len(list(tmp_path.glob("*.npy")))
        assert 0 < done < 4
        source.decoded.clear()
        features = FeatureCache(tmp_path).features(network, source)
        assert source.decoded == source.names[done:]
        expected = direct(network, source.frames)
        np.testing.assert_allclose(np.stack(list(features)), expected, atol=1e-4)

    def test_full_disk(self, network, source, tmp_path, monkeypatch):
        # 4 clips of 2 frames of 4 x 4 x 6 numbers of 4 bytes
        for free, fits in ((3071, False), (3072, True)):
            usage = SimpleNamespace(free=free)
            monkeypatch.setattr("shutil.disk_usage", lambda folder, usage=usage: usage)
            if fits:
                FeatureCache(tmp_path).features(network, source)
                continue
            message = (
                f"The feature cache needs 0.0 GiB and '{tmp_path}' has 0.0 GiB free. Choose another"
                " folder, float16, fewer cached crops, or switch the cache off."
            )
            with pytest.raises(OSError, match=re.escape(message)):
                FeatureCache(tmp_path).features(network, source)
            assert source.decoded == []

    def test_unknown_dtype(self, tmp_path):
        message = '`dtype` must be "float32" or "float16". Received: dtype=\'int8\'.'
        with pytest.raises(ValueError, match=re.escape(message)):
            FeatureCache(tmp_path, "int8")


class TestCachedClips:
    def make(self, num_variants=1, count=10):
        # Map value: 100 * variant + clip
        clips = np.arange(count, dtype="float32")[:, None, None, None, None]
        variants = [clips + 100 * variant for variant in range(num_variants)]
        return CachedClips(variants, np.arange(count, dtype="int32"))

    @staticmethod
    def read(dataset):
        maps, labels = zip(*dataset.as_numpy_iterator(), strict=True)
        return np.concatenate(maps).ravel(), np.concatenate(labels)

    def test_in_order(self):
        dataset = self.make(num_variants=3).dataset(4, shuffle=False)
        assert len(dataset) == 3
        assert [len(maps) for maps, _ in dataset] == [4, 4, 2]
        maps, labels = self.read(dataset)
        np.testing.assert_array_equal(maps, np.arange(10))
        np.testing.assert_array_equal(labels, np.arange(10))

    def test_shuffled_by_seed_and_epoch(self):
        clips, orders = self.make(), {}
        for seed, epoch in ((0, 0), (0, 1), (1, 0)):
            draws = [
                self.read(
                    clips.dataset(4, shuffle=True, seed=seed, epoch=lambda epoch=epoch: epoch)
                )
                for _ in range(2)
            ]
            np.testing.assert_array_equal(draws[0], draws[1])
            np.testing.assert_array_equal(*draws[0])
            assert sorted(draws[0][1]) == list(range(10))
            orders[seed, epoch] = tuple(draws[0][1])
        assert len(set(orders.values())) == 3

    def test_every_iteration_asks_for_its_epoch(self):
        epochs = iter((3, 4, 3))
        dataset = self.make().dataset(4, shuffle=True, epoch=lambda: next(epochs))
        first, second, third = (tuple(self.read(dataset)[1]) for _ in range(3))
        assert first == third != second

    def test_variants_are_drawn(self):
        dataset = self.make(num_variants=3, count=60).dataset(16, shuffle=True)
        maps, labels = self.read(dataset)
        np.testing.assert_array_equal(maps % 100, labels)
        counts = np.bincount((maps // 100).astype(int))
        assert counts.sum() == 60
        assert counts.min() >= 10

    def test_float16_and_several_labels(self):
        labels = np.eye(3, dtype="float32")
        maps = normal(3, 1, 2, 2, 4).astype("float16")
        batch = next(iter(CachedClips([maps], labels).dataset(3, shuffle=False)))
        assert [tensor.dtype.name for tensor in batch] == ["float16", "float32"]
        np.testing.assert_array_equal(batch[0].numpy(), maps)
        np.testing.assert_array_equal(batch[1].numpy(), labels)
