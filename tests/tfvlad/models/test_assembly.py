import re

import numpy as np
import pytest

from tests.helpers import tiny_backbone
from tfvlad.models import (
    action_vlad,
    average_pooling,
    head_of,
    intermediate_outputs,
    max_pooling,
    ta_vlad,
)

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
        np.testing.assert_allclose(norms, np.sqrt(6), rtol=1e-4)
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
            (action_vlad, ["assignments", "descriptor", "logits"]),
            (average_pooling, ["descriptor", "feature_map", "logits"]),
        ],
    )
    def test_only_what_the_model_has(self, build, names):
        built = build(tiny_backbone(), 3, num_frames=3)
        assert sorted(intermediate_outputs(built).output) == names

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
