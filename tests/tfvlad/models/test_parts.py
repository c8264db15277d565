"""What `parts_of` finds in each model, built, loaded and cut."""

import json
import re
import shutil
import zipfile

import keras
import numpy as np
import pytest

from tests.helpers import MemoryClips, tiny_backbone
from tfvlad.backbones import FeatureExtractor, flow_backbone, with_frozen_copy
from tfvlad.layers import (
    ActionVLAD,
    AttentionLSTM,
    FramewiseBackbone,
    NetVLAD,
    SeparateGRUs,
    SharedGRU,
)
from tfvlad.models import (
    action_vlad,
    attention_lstm,
    average_pooling,
    end_to_end,
    head_of,
    late_fusion,
    parts_of,
    plain_lstm,
    ta_vlad,
    two_stream,
    with_num_frames,
)
from tfvlad.training import Stage, fit_in_stages

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}
BLOCKS = {"block1": ("conv1", "bn1", "relu1"), "block2": ("conv2", "bn2")}


def make_two_stream(fusion, rgb=None, **options):
    flow = flow_backbone(tiny_backbone(seed=1), 2)
    return two_stream(rgb or tiny_backbone(), flow, 3, fusion=fusion, **SMALL, **options)


def names(*layers):
    return [None if layer is None else layer.name for layer in layers]


@pytest.mark.parametrize(
    ("build", "vlad", "temporal", "descriptor"),
    [
        (lambda b: average_pooling(b, 3), None, None, keras.layers.GlobalAveragePooling3D),
        (lambda b: action_vlad(b, 3, attention=True, **SMALL), ActionVLAD, None, None),
        (lambda b: ta_vlad(b, 3, **SMALL), NetVLAD, SharedGRU, keras.layers.Layer),
        (
            lambda b: ta_vlad(b, 3, temporal="separate_grus", **SMALL),
            *(NetVLAD, SeparateGRUs, keras.layers.Layer),
        ),
        (
            lambda b: ta_vlad(b, 3, temporal="flattened_gru", **SMALL),
            *(NetVLAD, keras.layers.GRU, keras.layers.Layer),
        ),
        (
            lambda b: ta_vlad(b, 3, temporal="flattened_gru", bidirectional=True, **SMALL),
            *(NetVLAD, keras.layers.Bidirectional, keras.layers.Layer),
        ),
    ],
)
def test_one_stream(build, vlad, temporal, descriptor):
    model = build(tiny_backbone())
    parts = parts_of(model)
    (stream,) = parts.streams
    assert parts.joint is stream
    assert parts.backbone_layers == (stream.backbone_layer,)
    assert isinstance(stream.backbone_layer, FramewiseBackbone)
    found = (stream.vlad, stream.temporal, stream.descriptor)
    for layer, kind in zip(found, (vlad, temporal, descriptor), strict=True):
        assert layer is None if kind is None else isinstance(layer, kind)
    assert (stream.attention is None) == (vlad is None)
    assert parts.vlad_layers == (() if vlad is None else (stream.vlad,))
    assert names(stream.features, *parts.classifiers) == ["features", "logits"]
    assert {stream.backbone_layer, *parts.head_layers} == set(model.layers)
    assert (parts.shares, parts.members, parts.extractors) == ((), (), ())


@pytest.mark.parametrize("fusion", ["concat", "early", "late"])
@pytest.mark.parametrize("is_head", [False, True])
def test_two_streams(fusion, is_head):
    # A frozen copy puts the flow's backbone deeper into the graph than the frames'.
    flow = with_frozen_copy(flow_backbone(tiny_backbone(seed=1), 2), "block2")
    model = two_stream(tiny_backbone(), flow, 3, fusion=fusion, weights=None, **SMALL)
    parts = parts_of(head_of(model) if is_head else model)
    rgb, flow = parts.streams
    expected = [] if is_head else ["rgb_backbone", "flow_backbone"]
    assert names(*parts.backbone_layers) == expected
    assert names(rgb.trained_maps, flow.trained_maps) == [None, "flow_trained_maps"]
    vlads = ["vlad"] if fusion == "early" else ["rgb_vlad", "flow_vlad"]
    assert sorted(names(*parts.vlad_layers)) == sorted(vlads)
    assert (parts.joined_maps is None) == (fusion != "early")
    late = fusion == "late"
    assert names(*parts.classifiers) == (["rgb_logits", "flow_logits"] if late else ["logits"])
    assert parts.shares == ((0.5, 0.5) if late else ())
    assert not parts.fuses_probabilities


def test_fusions():
    first, second = average_pooling(tiny_backbone(), 3, num_frames=3), make_two_stream("late")
    model = late_fusion([first, second], weights=[1, 3])
    parts = parts_of(model)
    assert names(*parts.members) == ["average_pooling_1", "two_stream_2"]
    assert parts.shares == (0.25, 0.75)
    assert (parts.backbones, parts.classifiers, parts.mean_score) == ((), (), None)
    assert len(parts.streams) == 1
    model = late_fusion([first, second], on="probabilities", multi_label=True)
    parts = parts_of(model)
    assert parts.fuses_probabilities
    assert parts.mean_score.multi_label
    assert len(parts.members) == 2


def test_models_of_features():
    parts = parts_of(attention_lstm(3, 5, 4, num_steps=2, num_attended=3, units=6))
    assert isinstance(parts.joint.temporal, AttentionLSTM)
    assert names(*parts.classifiers, parts.mean_score) == ["logits", "scores"]
    parts = parts_of(plain_lstm(3, 5, num_steps=2, units=6))
    assert isinstance(parts.joint.temporal, keras.layers.LSTM)


def test_end_to_end():
    frames = keras.Input((8, 8, 3))
    extractor = FeatureExtractor("flat", keras.Model(frames, keras.layers.Flatten()(frames)))
    features = plain_lstm(3, 192, num_steps=2, units=6)
    parts = parts_of(end_to_end(features, extractor, num_frames=2))
    assert names(*parts.extractors) == ["input_extractor"]
    assert parts.feature_model is features
    assert (parts.backbones, parts.joint.backbone_layer) == ((), None)


def test_a_model_of_your_own():
    """Layers are found by their types where their names are others."""
    backbone, clips = tiny_backbone(), keras.Input((3, 32, 32, 3))
    maps = FramewiseBackbone(backbone.model, blocks=backbone.blocks, name="eyes")(clips)
    vlad = ActionVLAD(4, name="words")(maps)
    model = keras.Model(clips, keras.layers.Dense(3, name="answer")(vlad))
    parts = parts_of(model)
    assert names(*parts.backbone_layers, *parts.vlad_layers) == ["eyes", "words"]
    assert parts.backbones[0].blocks == BLOCKS
    assert head_of(model).input_shape == (None, 3, 4, 4, 6)


def test_no_model():
    with pytest.raises(TypeError, match=r"`model` must be a keras.Model. Received: Backbone\."):
        parts_of(tiny_backbone())


class TestBackbones:
    @pytest.mark.parametrize("has_copy", [False, True])
    @pytest.mark.parametrize("is_loaded", [False, True])
    def test_of_one_stream(self, has_copy, is_loaded, tmp_path):
        backbone = tiny_backbone()
        if has_copy:
            backbone = with_frozen_copy(backbone, "block2")
        model = with_num_frames(ta_vlad(backbone, 3, units=5, **SMALL), None)
        if is_loaded:
            model.save(tmp_path / "model.keras")
            model = keras.models.load_model(tmp_path / "model.keras")
        (found,) = parts_of(model).backbones
        assert (found.model is backbone.model) == (not is_loaded)
        assert (found.name, found.activation) == (backbone.name, "relu")
        assert (found.blocks, list(found.blocks)) == (BLOCKS, ["block1", "block2"])
        assert found.has_frozen_copy == has_copy
        assert found.num_channels == 6
        assert found.fingerprint() == backbone.fingerprint()
        frames = MemoryClips.random(1).frames[0].astype("float32")
        before, after = found.split_at("block2")
        np.testing.assert_allclose(after(before(frames)), backbone.model(frames), atol=1e-5)
        found.set_trainable("block2")
        assert len(model.get_layer("backbone").trainable_weights) == 1

    def test_of_two_streams(self):
        rgb, flow = parts_of(make_two_stream("early")).backbones
        assert rgb.name, flow.name == ("tiny", "tiny_flow")
        assert flow.model.input_shape[-1] == 4


@pytest.fixture(scope="module")
def clips():
    return MemoryClips.random(4), MemoryClips.random(3, seed=1)


def fit(model, clips, folder, **options):
    stage = Stage(epochs=1, learning_rate=0.01, **options)
    return fit_in_stages(model, *clips, folder, stages=[stage], batch_size=2)


def test_a_loaded_model_is_trained_further(clips, tmp_path):
    model = ta_vlad(tiny_backbone(), 3, units=5, dropout=0.0, **SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    histories = [
        fit(one, clips, tmp_path / name, freed_block="block2")
        for name, one in (("built", model), ("loaded", loaded))
    ]
    losses = [history[0]["loss"] for history in histories]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    first = tiny_backbone().model.get_layer("conv2").get_weights()[0]
    kernels = [
        parts_of(one).backbones[0].model.get_layer("conv2").get_weights()[0]
        for one in (model, loaded)
    ]
    assert np.any(kernels[0] != first)
    np.testing.assert_allclose(kernels[1], kernels[0], atol=1e-5)


def as_written_before(path, target):
    """The model's file as it was when the layer kept no blocks."""
    shutil.copy(path, target)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                (layer,) = (x for x in config["config"]["layers"] if x["name"] == "backbone")
                for key in ("activation", "blocks"):
                    del layer["config"][key]
                content = json.dumps(config).encode()
            new.writestr(name, content)


def test_files_of_earlier_versions(clips, tmp_path):
    backbone = with_frozen_copy(tiny_backbone(), "block2")
    model = ta_vlad(backbone, 3, units=5, **SMALL)
    model.save(tmp_path / "new.keras")
    as_written_before(tmp_path / "new.keras", tmp_path / "old.keras")
    loaded = keras.models.load_model(tmp_path / "old.keras")
    frames = clips[0].frames.astype("float32")
    np.testing.assert_allclose(loaded(frames), model(frames), atol=1e-6)
    assert parts_of(loaded).backbones[0].has_frozen_copy
    message = (
        r"'tiny_frozen_copy' names no blocks and can only be frozen as a whole\. Received: "
        r"block='block2'\. .* is built anew and reads the file by `model.load_weights`\."
    )
    with pytest.raises(ValueError, match=message):
        fit(loaded, clips, tmp_path / "run", freed_block="block2")
    # The way out.
    anew = ta_vlad(with_frozen_copy(tiny_backbone(seed=1), "block2"), 3, units=5, **SMALL)
    anew.load_weights(tmp_path / "old.keras")
    np.testing.assert_allclose(anew(frames), model(frames), atol=1e-6)
    attention = loaded.get_layer("attention").get_weights()[0]
    fit(loaded, clips, tmp_path / "frozen")
    np.testing.assert_array_equal(loaded.get_layer("attention").get_weights()[0], attention)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda model: average_pooling(model, 3), "backbone"),
        (lambda model: ta_vlad(model, 3), "backbone"),
        (lambda model: two_stream(model, tiny_backbone(), 3), "rgb_backbone"),
        (lambda model: two_stream(tiny_backbone(), model, 3), "flow_backbone"),
    ],
)
def test_a_model_in_the_place_of_a_backbone(build, argument):
    message = (
        f"`{argument}` must be a Backbone, which `tfvlad.backbones.from_model` makes of a "
        r"keras.Model that takes raw frames, values 0..255. Received: the model 'tiny'."
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        build(tiny_backbone().model)


def test_a_fusion_is_not_trained_in_stages(clips, tmp_path):
    members = [average_pooling(tiny_backbone(), 3, num_frames=3) for _ in range(2)]
    message = r"`model` must be built on a backbone. Received: 'late_fusion', which has none"
    with pytest.raises(ValueError, match=message):
        fit(late_fusion(members), clips, tmp_path)
