import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from tests.conftest import PROJECT
from tests.helpers import MemoryClips, tiny_backbone
from tests.tfvlad.layers.equations import unit_rows
from tfvlad.backbones import flow_backbone, from_model, with_frozen_copy
from tfvlad.layers import NetVLAD
from tfvlad.models import action_vlad, average_pooling, ta_vlad, two_stream
from tfvlad.training import initialize_clusters

# Directions far apart, of any length.
CENTERS = unit_rows(np.array([[1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0], [0, 0, -1, 0, 1, 0]], float))


def make_maps(num_clips=8):
    """Maps `(n, T, h, w, D)` of directions near the centres."""
    generator = np.random.default_rng(0)
    directions = CENTERS[generator.integers(3, size=(num_clips, 2, 4, 4))]
    noise = 0.01 * generator.standard_normal(directions.shape)
    lengths = generator.uniform(1, 20, (*directions.shape[:-1], 1))
    return ((directions + noise) * lengths).astype("float32")


def batches(array, size=4):
    return [(array[i : i + size], None) for i in range(0, len(array), size)]


def make_model(build=action_vlad, **options):
    return build(tiny_backbone(), 3, **{"num_frames": 2, "num_clusters": 3, **options})


def centers_of(model):
    return model.get_layer("vlad").get_weights()[2]


def test_finds_separated_centers():
    model = make_model()
    initialize_clusters(model, batches(make_maps()), from_maps=True)
    kernel, bias, centers = model.get_layer("vlad").get_weights()
    nearest = np.argmax(CENTERS @ centers.T, axis=-1)
    assert sorted(nearest) == [0, 1, 2]
    np.testing.assert_allclose(centers[nearest], CENTERS, atol=0.02)
    np.testing.assert_allclose(kernel, 2000 * centers.T, rtol=1e-4)
    np.testing.assert_allclose(bias, -1000 * np.sum(centers**2, axis=-1), rtol=1e-4)


@pytest.mark.parametrize("build", [action_vlad, ta_vlad])
def test_encodes_frames_with_the_backbone(build):
    clips = MemoryClips.random(6, num_frames=5)
    options = {"num_frames": 5, **({"units": 2} if build is ta_vlad else {})}
    models = [make_model(build, **options) for _ in range(2)]
    initialize_clusters(models[0], clips.dataset(4, False, False, 0))
    maps = models[1].get_layer("backbone")(clips.frames.astype("float32"))
    # The same draws: a batch of the dataset is one of the maps.
    initialize_clusters(models[1], batches(np.array(maps)), from_maps=True)
    np.testing.assert_allclose(centers_of(models[0]), centers_of(models[1]), atol=1e-4)


@pytest.mark.parametrize("fusion", ["concat", "early", "late"])
def test_encodes_each_stream_with_its_backbone(fusion):
    frames = MemoryClips.random(6, num_frames=5).frames
    flow = np.repeat(MemoryClips.random(6, num_frames=5, seed=1).frames[..., :2], 2, axis=-1)

    def make_two_stream():
        backbones = tiny_backbone(), flow_backbone(tiny_backbone(seed=1), 2)
        return two_stream(*backbones, 3, fusion=fusion, num_frames=5, num_clusters=3)

    models = [make_two_stream() for _ in range(2)]
    streams = (frames, flow)
    initialize_clusters(models[0], [(tuple(x[i : i + 4] for x in streams), None) for i in (0, 4)])
    layers = [models[1].get_layer(name) for name in ("rgb_backbone", "flow_backbone")]
    maps = [np.array(layer(x)) for layer, x in zip(layers, streams, strict=True)]
    initialize_clusters(
        models[1], [(tuple(x[i : i + 4] for x in maps), None) for i in (0, 4)], from_maps=True
    )
    vlads = [[x for x in model.layers if isinstance(x, NetVLAD)] for model in models]
    assert len(vlads[0]) == (1 if fusion == "early" else 2)
    for one, other in zip(*vlads, strict=True):
        np.testing.assert_allclose(one.get_weights()[2], other.get_weights()[2], atol=1e-4)


def test_encodes_what_the_attention_does_not_read():
    """A frozen copy of the last block is for the attention alone."""
    backbone = with_frozen_copy(tiny_backbone(), "block2")
    model = action_vlad(backbone, 3, num_frames=2, num_clusters=3, attention=True)
    clips = MemoryClips.random(6, num_frames=2)
    initialize_clusters(model, clips.dataset(4, False, False, 0))
    plain = make_model()
    initialize_clusters(plain, clips.dataset(4, False, False, 0))
    np.testing.assert_allclose(centers_of(model), centers_of(plain), atol=1e-4)


class Watched(keras.layers.Layer):
    """Keeps how many images each of its calls is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, images):
        self.seen.append(images.shape[0])
        return images


class TestMemory:
    def model(self):
        watched = Watched()
        images = keras.Input((8, 8, 3))
        backbone = from_model(keras.Model(images, keras.layers.ReLU()(watched(images))))
        model = action_vlad(backbone, 3, num_frames=7, num_clusters=3)
        watched.seen.clear()
        return model, watched.seen

    def clips(self):
        frames = np.random.randint(0, 256, (10, 7, 8, 8, 3)).astype("uint8")
        return batches(frames, size=5)

    def test_the_backbone_sees_a_few_frames_at_a_time(self, eagerly):
        model, seen = self.model()
        initialize_clusters(model, self.clips())
        assert seen == 2 * [16, 16, 3]

    def test_the_backbone_is_traced_once(self, traced):
        model, seen = self.model()
        initialize_clusters(model, self.clips())
        assert seen == [None]

    @pytest.mark.slow
    def test_of_full_size_clips(self):
        """25 frames of 224 pixels, in batches of 8, through MobileNetV2."""
        code = """
            import numpy as np
            import tfvlad

            def kilobytes(name):  # of this process alone: `ru_maxrss` begins with the parent's
                lines = open("/proc/self/status").read().splitlines()
                return next(int(line.split()[1]) for line in lines if line.startswith(name))

            backbone = tfvlad.backbones.mobilenet_v2(weights=None)
            model = tfvlad.models.ta_vlad(backbone, 8)
            before = kilobytes("VmRSS")
            clips = np.random.randint(0, 256, (8, 25, 224, 224, 3)).astype("uint8")
            tfvlad.training.initialize_clusters(model, [(clips, None)])
            print((kilobytes("VmHWM") - before) / 2**20)
        """
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert 0.1 < float(result.stdout) < 1.0


def test_clips_of_another_shape():
    clips = np.zeros((4, 2, 32, 48, 3), "uint8")
    message = (
        "`dataset` must have clips of the shape (2, 32, 32, 3), as the model takes them. "
        "Received: shape (2, 32, 48, 3)."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        initialize_clusters(make_model(), batches(clips))


def test_batches_without_labels():
    models = [make_model(), make_model()]
    initialize_clusters(models[0], batches(make_maps()), from_maps=True)
    initialize_clusters(models[1], [maps for maps, _ in batches(make_maps())], from_maps=True)
    np.testing.assert_array_equal(centers_of(models[0]), centers_of(models[1]))


def test_seed():
    found = []
    for seed in (0, 0, 1):
        model = make_model(num_clusters=5)
        initialize_clusters(model, batches(make_maps()), seed=seed, from_maps=True)
        found.append(centers_of(model))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])


@pytest.mark.parametrize(("num_descriptors", "expected"), [(100, 100), (10, 10), (1000, 256)])
def test_bounded_memory(monkeypatch, num_descriptors, expected):
    model = make_model()
    layer = model.get_layer("vlad")
    seen = []
    monkeypatch.setattr(layer, "set_centers", lambda centers, descriptors: seen.append(descriptors))
    maps = batches(make_maps())
    initialize_clusters(model, maps, num_descriptors=num_descriptors, from_maps=True)
    assert seen[0].shape == (expected, 6)
    np.testing.assert_allclose(np.linalg.norm(seen[0], axis=-1), 1, rtol=1e-5)


def test_automatic_alpha_is_measured_on_the_features():
    model = make_model(alpha="auto")
    before = model.get_layer("vlad").get_weights()[0]
    initialize_clusters(model, batches(make_maps()), from_maps=True)
    kernel, _, centers = model.get_layer("vlad").get_weights()
    assert np.any(kernel != before)
    features = unit_rows(make_maps().reshape(-1, 6).astype("float64"))
    squared = np.sort(((features[:, None] - centers) ** 2).sum(axis=-1), axis=-1)
    alpha = -np.log(0.01) / np.mean(squared[:, 1] - squared[:, 0])
    np.testing.assert_allclose(kernel, 2 * alpha * centers.T, rtol=1e-3)


def test_model_without_clusters():
    model = average_pooling(tiny_backbone(), 3, num_frames=2)
    message = "The model 'average_pooling' has no VLAD layer whose centres could be set."
    with pytest.raises(ValueError, match=re.escape(message)):
        initialize_clusters(model, batches(make_maps()), from_maps=True)


def test_fewer_features_than_clusters():
    message = (
        "k-means needs at least as many features as clusters. Received: 32 features, "
        "num_clusters=64. Give more clips or fewer clusters."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        initialize_clusters(make_model(num_clusters=64), batches(make_maps(1)), from_maps=True)
