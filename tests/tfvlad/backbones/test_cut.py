import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_backbone
from tfvlad.backbones import aggregate_at, fingerprint, mobilenet_v2, resnet18, vgg16
from tfvlad.backbones import with_frozen_copy as make_copy

SMALL = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def build():
    """Builds each network once."""
    return functools.cache(lambda make: make(weights=None, image_size=32))


class TestAggregateAt:
    @pytest.mark.parametrize(
        ("make", "layer", "activation", "shape", "last_block"),
        [
            (vgg16, "block4_conv3", "relu", (4, 4, 512), ("block4", "block4_conv3")),
            (vgg16, "block4_pool", "linear", (2, 2, 512), ("block5", "block4_pool")),
            (mobilenet_v2, "block_13_expand_relu", "relu6", (2, 2, 576), None),
            (resnet18, "layer3.1.relu2", "relu", (2, 2, 256), ("layer3", "layer3.1.add")),
            (resnet18, "layer3.1.add", "linear", (2, 2, 256), ("layer3", "layer3.1.add")),
        ],
    )
    def test_maps(self, build, make, layer, activation, shape, last_block):
        backbone = build(make)
        cut = aggregate_at(backbone, layer)
        assert cut.name == cut.model.name == f"{backbone.name}_{layer}"
        assert cut.model.output_shape == (None, *shape)
        assert (cut.activation, cut.num_channels) == (activation, shape[-1])
        assert cut.classifier_kernel is None
        pre_activation = cut.model(SMALL)
        expected = keras.Model(backbone.model.input, backbone.model.get_layer(layer).output)(SMALL)
        features = cut.activation_layer()(pre_activation)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
        if activation != "linear":
            assert np.min(pre_activation) < 0
        if last_block:
            block, last = last_block
            assert list(cut.blocks)[-1] == block
            assert cut.blocks[block][-1] == last
            frozen_part, freed_part = cut.split_at(block)
            np.testing.assert_allclose(
                freed_part(frozen_part(SMALL)), pre_activation, rtol=1e-4, atol=1e-5
            )

    def test_blocks_end_with_the_layer(self):
        cut = aggregate_at(tiny_backbone(), "relu1")
        assert cut.blocks == {"block1": ("conv1", "bn1")}
        cut.set_trainable("block1")
        assert [tuple(w.shape) for w in cut.model.trainable_variables] == [(3, 3, 3, 4)]

    def test_pooled(self):
        backbone = tiny_backbone()
        cut = aggregate_at(backbone, "pooled")
        assert (cut.name, cut.activation) == ("tiny_pooled", "linear")
        expected = np.maximum(backbone.model(SMALL), 0).mean(axis=(1, 2), keepdims=True)
        assert expected.shape == (2, 1, 1, 6)
        np.testing.assert_allclose(cut.model(SMALL), expected, rtol=1e-5)
        assert cut.classifier_kernel is None
        assert cut.blocks == backbone.blocks
        frozen_part, freed_part = cut.split_at("block2")
        np.testing.assert_allclose(freed_part(frozen_part(SMALL)), expected, rtol=1e-5)

    def test_the_last_map_is_the_backbone(self):
        backbone = tiny_backbone()
        assert aggregate_at(backbone, "bn2") is backbone

    def test_save_and_load(self, tmp_path):
        model = aggregate_at(tiny_backbone(), "relu1").model
        model.save(tmp_path / "cut.keras")
        loaded = keras.models.load_model(tmp_path / "cut.keras")
        np.testing.assert_array_equal(loaded(SMALL), model(SMALL))

    @pytest.mark.parametrize("layer", ["conv9", "fc7"])
    def test_unknown_layer(self, layer):
        message = (
            r"`layer` must be one of pooled, \w+, conv1, bn1, relu1, conv2, bn2, the feature maps "
            rf"of 'tiny'\. Received: layer='{layer}'\."
        )
        with pytest.raises(ValueError, match=message):
            aggregate_at(tiny_backbone(), layer)

    def test_frozen_copy(self):
        message = (
            "'tiny_frozen_copy' has a frozen copy already. Cut first: "
            "with_frozen_copy(aggregate_at(backbone, layer), block)."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            aggregate_at(make_copy(tiny_backbone(), "block2"), "pooled")


def halves(backbone, frames):
    return np.split(np.array(backbone.model(frames)), 2, axis=-1)


class TestWithFrozenCopy:
    @pytest.mark.parametrize("block", ["block1", "block2"])
    def test_both_halves_are_the_backbone_s_maps(self, block):
        backbone = tiny_backbone()
        both = make_copy(backbone, block)
        assert both.has_frozen_copy
        assert not backbone.has_frozen_copy
        assert both.name == both.model.name == "tiny_frozen_copy"
        assert both.num_channels == 6
        assert both.model.output_shape == (None, 4, 4, 12)
        assert both.blocks == backbone.blocks
        assert both.classifier_kernel is backbone.classifier_kernel
        for half in halves(both, SMALL):
            np.testing.assert_allclose(half, backbone.model(SMALL), atol=1e-6)

    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_training_leaves_the_copy_as_it_is(self, batch_norm):
        both = make_copy(tiny_backbone(), "block2")
        both.set_trainable("block2", batch_norm=batch_norm)
        assert len(both.model.trainable_variables) == (3 if batch_norm else 1)
        before = halves(both, SMALL)
        both.model.compile(keras.optimizers.SGD(0.1), "mse")
        both.model.fit(SMALL, np.ones((2, 4, 4, 12)), verbose=0)
        after = halves(both, SMALL)
        assert np.abs(after[0] - before[0]).max() > 1e-3
        np.testing.assert_array_equal(after[1], before[1])

    @pytest.mark.parametrize("block", [None, "block1", "block2"])
    def test_set_trainable_never_frees_the_copy(self, block):
        both = make_copy(tiny_backbone(), "block2")
        both.model.trainable = True
        both.set_trainable(block, batch_norm=True)
        copy = both.model.get_layer("frozen_copy")
        assert copy.trainable_variables == []
        assert len(copy.weights) == 5

    def test_gradients_reach_the_shared_blocks_through_both_halves(self):
        both = make_copy(tiny_backbone(), "block2")
        both.set_trainable("block1")
        kernels = [both.model.get_layer(f"conv{number}").kernel for number in (1, 2)]
        for half, reached in ((slice(0, 6), (True, True)), (slice(6, 12), (True, False))):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(both.model(SMALL)[..., half] ** 2)
            gradients = tape.gradient(
                loss, kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            assert tuple(bool(np.any(gradient)) for gradient in gradients) == reached

    @pytest.mark.parametrize("block", ["stem", "layer3"])
    def test_split(self, build, block):
        both = make_copy(build(resnet18), "layer3")
        frozen_part, freed_part = both.split_at(block)
        np.testing.assert_allclose(
            freed_part(frozen_part(SMALL)), both.model(SMALL), rtol=1e-4, atol=1e-4
        )

    def test_split_behind_the_copy_s_beginning(self, build):
        both = make_copy(build(resnet18), "layer3")
        message = (
            r"'resnet18_frozen_copy' cannot be split at 'layer4': .*\. The frozen copy begins "
            r"before it: split where the copy begins, or earlier\."
        )
        with pytest.raises(ValueError, match=message):
            both.split_at("layer4")

    def test_fingerprint_covers_the_copy(self):
        backbone = tiny_backbone()
        both = make_copy(backbone, "block2")
        original = both.fingerprint()
        assert original not in (backbone.fingerprint(), make_copy(backbone, "block1").fingerprint())
        assert make_copy(backbone, "block2").fingerprint() == original
        both.set_trainable("block2")
        assert both.fingerprint() == original
        copy = both.model.get_layer("frozen_copy")
        copy.set_weights([weight + 1 for weight in copy.get_weights()])
        assert fingerprint(both.model) != original
        assert backbone.fingerprint() == tiny_backbone().fingerprint()

    def test_save_and_load(self, tmp_path):
        both = make_copy(tiny_backbone(), "block2")
        both.set_trainable("block2")
        both.model.save(tmp_path / "both.keras")
        loaded = keras.models.load_model(tmp_path / "both.keras")
        np.testing.assert_array_equal(loaded(SMALL), both.model(SMALL))
        assert len(loaded.trainable_variables) == 1
        assert loaded.get_layer("frozen_copy").trainable_variables == []

    def test_errors(self):
        backbone = tiny_backbone()
        with pytest.raises(ValueError, match=r"'tiny_frozen_copy' has a frozen copy already\."):
            make_copy(make_copy(backbone, "block2"), "block2")
        message = "`block` must be one of ['block1', 'block2'], the blocks of 'tiny'. Received: "
        with pytest.raises(ValueError, match=re.escape(message)):
            make_copy(backbone, "layer4")
