"""Each row of the papers' studies on small data: both stages, exact shapes, scores by numpy."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import MemoryClips, tiny_backbone
from tests.tfvlad.layers import equations
from tfvlad import backbones, models, studies
from tfvlad.training import (
    FeatureCache,
    PairedStreams,
    fit_in_stages,
    predict_logits,
    ta_vlad_stages,
)

pytestmark = pytest.mark.usefixtures("eagerly")

T, N, D, K, U, C = 3, 16, 6, 4, 5, 3
FLOW_FRAMES = 2
TRAINING, VALIDATION = MemoryClips.random(6), MemoryClips.random(3, seed=1)
# The options of a model's builder.
OPTIONS = {
    "action-vlad": ("num_clusters", "num_segments", "alpha", "attention"),
    "ta-vlad": (
        *("num_clusters", "alpha", "attention", "units"),
        *("bidirectional", "temporal", "intra_normalize"),
    ),
}
DEFAULTS = {"num_clusters": K, "units": U, "alpha": 5.0}


def flow_of(clips):
    """The same clips with the channels of a stack of flow."""
    stacks = np.concatenate([clips.frames, clips.frames[..., :1]], axis=-1)
    return MemoryClips(stacks, clips.labels, names=clips.names)


def build(model_name, streams, **options):
    builder = getattr(models, model_name.replace("-", "_"))
    chosen = {**DEFAULTS, **options}
    known = {name: chosen[name] for name in OPTIONS.get(model_name, ()) if name in chosen}
    return builder(*streams, C, num_frames=T, **known)


def trained(model, training, validation, folder, *, fixed_centers=False):
    """The changed weights of the layers, and the cached predictions after both stages."""
    blocks = list(models.parts_of(model).backbones[0].blocks)
    block = blocks[-1] if blocks else None
    stages = [replace(stage, epochs=1) for stage in ta_vlad_stages(block)]
    if fixed_centers:
        stages[1] = replace(stages[1], trainable_layers=stages[0].trainable_layers)
    if block is None:
        stages = stages[:1]
    cache = FeatureCache(folder / "features")
    options = {"stages": stages, "batch_size": 3, "cache": cache, "num_cached_crops": 1}
    history = fit_in_stages(model, training, validation, folder, **options)
    assert [row["stage"] for row in history] == [number + 1 for number in range(len(stages))]
    assert all(np.isfinite(row["loss"]) for row in history)
    return predict_logits(model, validation, freed_block=stages[-1].freed_block, cache=cache)


def weights_of(model, layer):
    return [weight.astype("float64") for weight in model.get_layer(layer).get_weights()]


def maps_of(backbone, clips):
    """Maps `(B, T, N, D)` before the last activation, and the attention's after it."""
    maps = backbone.model.predict(clips.reshape(-1, *clips.shape[2:]), verbose=0)
    maps = maps.reshape(*clips.shape[:2], -1, maps.shape[-1]).astype("float64")
    channels = backbone.num_channels
    return maps[..., :channels], np.maximum(maps[..., -channels:], 0)


def attention_of(model, features):
    if "attention" not in {layer.name for layer in model.layers}:
        return np.ones(features.shape[:-1])
    kernel, bias = weights_of(model, "attention")
    maps = [equations.class_activation_map(frame, kernel, bias) for frame in features]
    return np.array([equations.softmax(frame / 4.0) for frame in maps])


def action_vlad_descriptor(model, layer, pre_activation, features, num_segments=1):
    weights, rows = attention_of(model, features), equations.unit_rows(pre_activation)
    segment_of = np.arange(len(rows)) * num_segments // len(rows)
    vectors = []
    for segment in range(num_segments):
        inside = segment_of == segment
        bag = rows[inside].reshape(-1, rows.shape[-1])
        encoded = equations.vlad(bag, *weights_of(model, layer), weights=weights[inside].ravel())
        vectors.append(equations.unit_rows(encoded))
    return equations.unit(np.concatenate(vectors).ravel())


def ta_vlad_descriptor(model, pre_activation, features, *, intra_normalize):
    frames = []
    for frame, weights in zip(
        equations.unit_rows(pre_activation), attention_of(model, features), strict=True
    ):
        encoded = equations.vlad(frame, *weights_of(model, "vlad"), weights=weights)
        frames.append(equations.unit_rows(encoded) if intra_normalize else encoded)
    frames = np.array(frames)  # (T, K, D)
    layers = {layer.name: layer for layer in model.layers}
    if "flattened_gru" in layers:
        kernel, recurrent, bias = weights_of(model, "flattened_gru")
        flat = frames.reshape(len(frames), -1)
        return equations.unit(equations.gru(flat, kernel, recurrent, bias, np.zeros(U))[-1])
    shared = "shared_gru" in layers
    weights = weights_of(model, "shared_gru" if shared else "separate_grus")
    states = []
    for k in range(K):
        sequence, found = frames[:, k], []
        for direction in range(len(weights) // 3):
            gru = weights[3 * direction : 3 * direction + 3]
            gru = gru if shared else [weight[k] for weight in gru]
            ordered = sequence[::-1] if direction else sequence
            found.append(equations.gru(ordered, *gru, np.zeros(gru[1].shape[0]))[-1])
        states.append(np.concatenate(found))
    return equations.unit(equations.unit_rows(np.array(states)).ravel())


def logits_of(model, descriptors):
    kernel, bias = weights_of(model, "logits")
    return np.array(descriptors) @ kernel + bias


VARIANTS = {
    "average-pooling": D,
    "max-pooling": D,
    "action-vlad": K * D,
    "action-vlad:segments=2": 2 * K * D,
    "fixed-centers": K * D,
    "ta-action-vlad": K * D,
    "vlad-gru": K * U,
    "ta-vlad": K * U,
    "ta-vlad:alpha=auto": K * U,
    "ta-vlad:intra-normalize=false": K * U,
    "bidirectional": 2 * K * U,
    "bidirectional:units=3": 2 * K * 3,
    "flattened-gru": U,
    "separate-grus": K * U,
    "frozen-attention": K * U,
}


# Other sizes and settings of variants that the quick tests train too.
_SLOW = {
    "action-vlad:segments=2": {"num_segments": 2},
    "bidirectional:units=3": {"units": 3},
    "ta-vlad:alpha=auto": {"alpha": "auto"},
    "ta-vlad:intra-normalize=false": {"intra_normalize": False},
}


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in VARIANTS],
)
def test_variant(variant, tmp_path):
    changes = studies.VARIANTS[variant.partition(":")[0]].changes
    options = {**changes, **_SLOW.get(variant, {})}
    backbone = tiny_backbone()
    if options.get("freeze_attention"):
        backbone = backbones.with_frozen_copy(backbone, "block2")
    name = options.pop("model")
    model = build(name, [backbone], **options)
    fixed = options.get("fixed_centers", False)
    # Layer by layer: Keras 2.15 sorts a model's weights by what is trained.
    layers = [
        layer for layer in (*model.layers, *backbone.model.layers) if layer.name != "backbone"
    ]
    before = {layer.name: layer.get_weights() for layer in layers}
    logits = trained(model, TRAINING, VALIDATION, tmp_path, fixed_centers=fixed)

    assert model.get_layer("logits").kernel.shape == (VARIANTS[variant], C)
    assert logits.shape == (3, C)
    after = {layer.name: layer.get_weights() for layer in layers}
    moved = {n for n in before if any(map(np.any, map(np.not_equal, before[n], after[n])))}
    # k-means moves the centres in front of stage 1 too.
    expected = {layer.name for layer in model.layers if layer.weights} - {"backbone"} | {"conv2"}
    if options.get("freeze_attention"):
        expected.remove("attention")
    assert moved == expected
    pre_activation, features = maps_of(backbone, VALIDATION.frames.astype("float32"))
    if name.endswith("pooling"):
        pool = np.mean if name == "average-pooling" else np.max
        descriptors = pool(features, axis=(1, 2))
    elif name == "action-vlad":
        descriptors = [
            action_vlad_descriptor(model, "vlad", *clip, options.get("num_segments", 1))
            for clip in zip(pre_activation, features, strict=True)
        ]
    else:
        intra = options.get("intra_normalize", True)
        descriptors = [
            ta_vlad_descriptor(model, *clip, intra_normalize=intra)
            for clip in zip(pre_activation, features, strict=True)
        ]
    np.testing.assert_allclose(logits, logits_of(model, descriptors), rtol=1e-3, atol=1e-4)


def test_fixed_centers_stay_where_k_means_set_them(tmp_path):
    for fixed in (True, False):
        backbone = tiny_backbone()
        model = build("action-vlad", [backbone])
        folder = tmp_path / str(fixed)
        trained(model, TRAINING, VALIDATION, folder, fixed_centers=fixed)
        last = weights_of(model, "vlad")
        model.load_weights(folder / "stage1.keras")
        same = all(map(np.array_equal, weights_of(model, "vlad"), last))
        assert same == fixed


@pytest.mark.parametrize("name", ["average-pooling", "action-vlad", "ta-vlad"])
def test_flow_stream(name, tmp_path):
    stream = backbones.flow_backbone(tiny_backbone(), FLOW_FRAMES)
    model = build(name, [stream])
    assert model.input_shape == (None, T, 32, 32, 2 * FLOW_FRAMES)
    validation = flow_of(VALIDATION)
    logits = trained(model, flow_of(TRAINING), validation, tmp_path)
    clips = zip(*maps_of(stream, validation.frames.astype("float32")), strict=True)
    if name == "average-pooling":
        descriptors = [features.mean(axis=(0, 1)) for _, features in clips]
    elif name == "action-vlad":
        descriptors = [action_vlad_descriptor(model, "vlad", *clip) for clip in clips]
    else:
        descriptors = [ta_vlad_descriptor(model, *clip, intra_normalize=True) for clip in clips]
    np.testing.assert_allclose(logits, logits_of(model, descriptors), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("layer", "shape"), [("conv1", (8, 8, 4)), ("pooled", (1, 1, 6))])
def test_aggregated_layer(layer, shape, tmp_path):
    backbone = backbones.aggregate_at(tiny_backbone(), layer)
    assert backbone.model.output_shape[1:] == shape
    model = build("action-vlad", [backbone])
    logits = trained(model, TRAINING, VALIDATION, tmp_path)
    assert model.get_layer("logits").kernel.shape == (K * shape[-1], C)
    clips = zip(*maps_of(backbone, VALIDATION.frames.astype("float32")), strict=True)
    descriptors = [action_vlad_descriptor(model, "vlad", *clip) for clip in clips]
    np.testing.assert_allclose(logits, logits_of(model, descriptors), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fusion", ["concat", "early"])
def test_two_streams(fusion, tmp_path):
    streams = [tiny_backbone(), backbones.flow_backbone(tiny_backbone(seed=1), FLOW_FRAMES)]
    model = models.two_stream(*streams, C, fusion=fusion, num_frames=T, num_clusters=K, alpha=5.0)
    validation = PairedStreams([VALIDATION, flow_of(VALIDATION)])
    training = PairedStreams([TRAINING, flow_of(TRAINING)])
    logits = trained(model, training, validation, tmp_path)
    assert model.get_layer("logits").kernel.shape == (2 * K * D, C)

    rgb, flow = (
        maps_of(stream, source.frames.astype("float32"))[0]
        for stream, source in zip(streams, validation.streams, strict=True)
    )
    none = np.zeros((3, T, N, 1))
    if fusion == "concat":
        each = [
            [
                action_vlad_descriptor(model, layer, clip, nothing)
                for clip, nothing in zip(maps, none, strict=True)
            ]
            for layer, maps in (("rgb_vlad", rgb), ("flow_vlad", flow))
        ]
        descriptors = np.concatenate(each, axis=-1)
    else:
        joined = np.concatenate([rgb, flow], axis=-1)
        descriptors = [
            action_vlad_descriptor(model, "vlad", clip, nothing)
            for clip, nothing in zip(joined, none, strict=True)
        ]
    np.testing.assert_allclose(logits, logits_of(model, descriptors), rtol=1e-3, atol=1e-4)
