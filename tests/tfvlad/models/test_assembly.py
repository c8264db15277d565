import re

import keras
import numpy as np
import pytest

from tests.helpers import tiny_backbone
from tfvlad.backbones import with_frozen_copy
from tfvlad.models import (
    action_vlad,
    average_pooling,
    head_of,
    intermediate_outputs,
    max_pooling,
    ta_vlad,
    with_num_frames,
)

pytestmark = pytest.mark.usefixtures("eagerly")

CLIPS = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype("float32")
SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}
BUILDERS = (ta_vlad, action_vlad, average_pooling, max_pooling)


@pytest.fixture(scope="module")
def model():
    return ta_vlad(tiny_backbone(), 3, units=5, **SMALL)


@pytest.fixture(scope="module")
def outputs(model):
    return intermediate_outputs(model).predict(CLIPS, verbose=0)


class TestIntermediateOutputs:
    def test_shapes(self, outputs):
        assert {name: value.shape for name, value in outputs.items()} == {
            "feature_map": (2, 3, 4, 4, 6),
            "attention": (2, 3, 4, 4),
            "assignments": (2, 3, 4, 4, 4),
            "frame_vlad": (2, 3, 4, 6),
            "states": (2, 3, 4, 5),
            "descriptor": (2, 20),
            "logits": (2, 3),
        }

    def test_values(self, model, outputs):
        np.testing.assert_allclose(outputs["logits"], model.predict(CLIPS, verbose=0), atol=1e-6)
        maps = model.get_layer("backbone").model.predict(CLIPS.reshape(-1, 32, 32, 3), verbose=0)
        expected = np.maximum(maps, 0).reshape(2, 3, 4, 4, 6)
        np.testing.assert_allclose(outputs["feature_map"], expected, atol=1e-5)
        np.testing.assert_allclose(outputs["attention"].sum(axis=(2, 3)), 1, rtol=1e-5)
        np.testing.assert_allclose(outputs["assignments"].sum(axis=-1), 1, rtol=1e-5)
        norms = np.linalg.norm(outputs["frame_vlad"], axis=-1)
        np.testing.assert_allclose(norms, 1, rtol=1e-4)
        last = outputs["states"][:, -1]
        last = last / np.linalg.norm(last, axis=-1, keepdims=True)
        np.testing.assert_allclose(outputs["descriptor"], last.reshape(2, 20) / 2, atol=1e-5)
        kernel, bias = model.get_layer("logits").get_weights()
        expected = outputs["descriptor"] @ kernel + bias
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)

    def test_chosen_names(self, model, outputs):
        chosen = intermediate_outputs(model, ["attention"]).predict(CLIPS, verbose=0)
        assert list(chosen) == ["attention"]
        np.testing.assert_allclose(chosen["attention"], outputs["attention"], atol=1e-6)

    @pytest.mark.parametrize(
        ("build", "names"),
        [
            (action_vlad, ["assignments", "descriptor", "feature_map", "logits"]),
            (average_pooling, ["descriptor", "feature_map", "logits"]),
        ],
    )
    def test_only_what_the_model_has(self, build, names):
        built = build(tiny_backbone(), 3, num_frames=3)
        assert sorted(intermediate_outputs(built).output) == names

    @pytest.mark.parametrize("has_copy", [False, True])
    def test_features_before_the_activation(self, has_copy):
        backbone = tiny_backbone()
        maps = backbone.model.predict(CLIPS.reshape(-1, 32, 32, 3), verbose=0)
        if has_copy:
            backbone = with_frozen_copy(backbone, "block2")
        built = action_vlad(backbone, 3, num_frames=3)
        found = intermediate_outputs(built, ["feature_map"]).predict(CLIPS, verbose=0)
        np.testing.assert_allclose(found["feature_map"].reshape(maps.shape), maps, atol=1e-5)

    def test_weights_are_shared(self, model):
        model.get_layer("logits").set_weights([np.ones((20, 3)), np.arange(3)])
        logits = intermediate_outputs(model, ["logits"]).predict(CLIPS, verbose=0)["logits"]
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], 1, atol=1e-5)

    def test_unknown_name(self):
        model = max_pooling(tiny_backbone(), 3, num_frames=3)
        message = (
            "`names` must be among ['feature_map', 'descriptor', 'logits'] for 'max_pooling'. "
            "Received: ['attention', 'state']."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            intermediate_outputs(model, ["logits", "attention", "state"])


@pytest.mark.parametrize("build", BUILDERS)
def test_head_of(build):
    model = build(tiny_backbone(), 3, num_frames=3)
    head = head_of(model)
    maps = model.get_layer("backbone").model.predict(CLIPS.reshape(-1, 32, 32, 3), verbose=0)
    logits = head.predict(maps.reshape(2, 3, 4, 4, 6), verbose=0)
    np.testing.assert_allclose(logits, model.predict(CLIPS, verbose=0), atol=1e-5)
    assert head.get_layer("logits") is model.get_layer("logits")
    assert head.name == f"{model.name}_head"


def test_no_head():
    maps = keras.Input((3, 4, 4, 6))
    model = keras.Model(maps, keras.layers.GlobalAveragePooling3D()(maps), name="pool")
    with pytest.raises(ValueError, match=r"'pool' has no backbone in front of a head\."):
        head_of(model)


VARIANTS = {
    "average_pooling": (average_pooling, {}),
    "max_pooling": (max_pooling, {}),
    "action_vlad": (action_vlad, {**SMALL, "attention": True}),
    "shared_gru": (ta_vlad, {**SMALL, "units": 5}),
    "flattened_gru": (ta_vlad, {**SMALL, "units": 5, "temporal": "flattened_gru"}),
    "separate_grus": (
        ta_vlad,
        {**SMALL, "units": 5, "temporal": "separate_grus", "bidirectional": True},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
class TestWithNumFrames:
    def make(self, name, num_frames=3):
        build, arguments = VARIANTS[name]
        return build(tiny_backbone(), 3, **{**arguments, "num_frames": num_frames})

    def test_equals_a_model_of_that_number(self, name):
        model, clips = self.make(name), np.concatenate([CLIPS, CLIPS[::-1]], axis=1)
        wanted = self.make(name, 6)
        wanted.set_weights(model.get_weights())
        expected = wanted.predict(clips, verbose=0)
        for num_frames in (6, None):
            longer = with_num_frames(model, num_frames)
            assert longer.input_shape == (None, num_frames, 32, 32, 3)
            assert longer.name == model.name
            np.testing.assert_allclose(longer.predict(clips, verbose=0), expected, atol=1e-5)
        maps = model.get_layer("backbone")(clips).numpy()
        for head in (head_of(with_num_frames(model, 6)), with_num_frames(head_of(model), 6)):
            np.testing.assert_allclose(head.predict(maps, verbose=0), expected, atol=1e-5)

    def test_shares_the_weights(self, name, tmp_path):
        model = self.make(name)
        longer = with_num_frames(model, 6)
        for layer in model.layers[1:]:
            assert longer.get_layer(layer.name) is layer
        names = list(intermediate_outputs(model).output)
        outputs = intermediate_outputs(longer).predict(np.tile(CLIPS, (1, 2, 1, 1, 1)), verbose=0)
        assert set(outputs) == set(names)
        # A saved one stands for itself.
        longer.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert head_of(loaded).input_shape == (None, 6, 4, 4, 6)
        logits = loaded.predict(np.tile(CLIPS, (1, 2, 1, 1, 1)), verbose=0)
        np.testing.assert_allclose(logits, outputs["logits"], atol=1e-5)


@pytest.mark.parametrize("num_frames", [0, -1, 2.5])
def test_with_a_wrong_number_of_frames(num_frames):
    message = f"`num_frames` must be a positive integer. Received: num_frames={num_frames}."
    with pytest.raises(ValueError, match=re.escape(message)):
        with_num_frames(average_pooling(tiny_backbone(), 3, num_frames=3), num_frames)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("temporal", "states", "descriptor"), [("flattened_gru", (), 1), ("separate_grus", (4,), 4)]
)
def test_states_of_the_other_grus(temporal, states, descriptor, bidirectional):
    model = ta_vlad(
        tiny_backbone(), 3, units=5, temporal=temporal, bidirectional=bidirectional, **SMALL
    )
    outputs = intermediate_outputs(model).predict(CLIPS, verbose=0)
    units = 5 * (1 + bidirectional)
    assert outputs["states"].shape == (2, 3, *states, units)
    assert outputs["descriptor"].shape == (2, descriptor * units)
    if not bidirectional:
        last = outputs["states"][:, -1].reshape(2, -1, 5)
        last = last / np.linalg.norm(last, axis=-1, keepdims=True) / np.sqrt(descriptor)
        np.testing.assert_allclose(outputs["descriptor"], last.reshape(2, -1), atol=1e-5)


class TestErrors:
    @pytest.mark.parametrize("build", BUILDERS)
    @pytest.mark.parametrize(
        ("name", "value", "demand"),
        [
            ("num_classes", 0, "be a positive integer"),
            ("num_classes", None, "be a positive integer"),
            ("num_frames", 0, "be a positive integer"),
            ("num_frames", 2.5, "be a positive integer"),
            ("dropout", 1.0, "be in [0, 1)"),
            ("dropout", -0.1, "be in [0, 1)"),
        ],
    )
    def test_arguments(self, build, name, value, demand):
        message = f"`{name}` must {demand}. Received: {name}={value}."
        with pytest.raises(ValueError, match=re.escape(message)):
            build(tiny_backbone(), **{"num_classes": 3, name: value})

    @pytest.mark.parametrize(
        ("build", "arguments"), [(ta_vlad, {}), (action_vlad, {"attention": True})]
    )
    def test_attention_without_classifier(self, build, arguments):
        message = (
            "Top-down attention needs a backbone that ends in average pooling and one dense layer. "
            "Received: backbone 'tiny' without a classifier. Give `classifier_kernel` and "
            "`classifier_bias`, or build the model with attention=False."
        )
        backbone = tiny_backbone(classifier=False)
        with pytest.raises(ValueError, match=re.escape(message)):
            build(backbone, 3, **arguments)
        build(backbone, 3, **{**SMALL, "attention": False})
