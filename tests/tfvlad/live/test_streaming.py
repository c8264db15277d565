import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.serving.serving_cases import MIXED, mixed_model, mixed_precision
from tests.helpers import normal
from tfvlad import backbones, compat, models
from tfvlad.backbones import FeatureExtractor, feature_extractor
from tfvlad.layers import AttentionLSTM
from tfvlad.live import initial_state, streaming_model
from tfvlad.models.assembly import clip_model

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

B, T, C, D, SIZE, UNITS = 2, 4, 3, 8, 32, 6


def small_backbone():
    """Of one convolution: images of 32 pixels to maps `(4, 4, D)`."""
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = keras.layers.Conv2D(D, 8, strides=8, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU()(x)
    return backbones.from_model(
        keras.Model(images, x, name="small"),
        classifier_kernel=normal(D, 5),
        classifier_bias=normal(5),
        blocks={"block1": ("conv", "bn")},
    )


def flow_backbone():
    return backbones.flow_backbone(small_backbone(), 2)


def sharpen(model, factor=12):
    """Random scores differ little: larger weights make an error visible."""
    logits = model.get_layer("logits")
    logits.set_weights([factor * logits.get_weights()[0], logits.get_weights()[1]])
    return model


SUMS = {
    "average": lambda: models.average_pooling(small_backbone(), C, num_frames=T),
    "maximum": lambda: models.max_pooling(small_backbone(), C, num_frames=T),
    "action_vlad": lambda: models.action_vlad(
        small_backbone(), C, num_frames=T, num_clusters=4, alpha=20.0
    ),
    "action_vlad_with_attention": lambda: models.action_vlad(
        small_backbone(), C, num_frames=T, num_clusters=4, alpha=20.0, attention=True
    ),
}
RECURRENT = {
    temporal: lambda temporal=temporal: models.ta_vlad(
        small_backbone(), C, num_frames=T, num_clusters=4, units=8, alpha=20.0, temporal=temporal
    )
    for temporal in ("shared_gru", "separate_grus", "flattened_gru")
} | {
    "frozen_attention": lambda: models.ta_vlad(
        backbones.with_frozen_copy(small_backbone(), "block1"),
        C,
        num_frames=T,
        num_clusters=4,
        units=8,
        alpha=20.0,
    )
}
RUNNING = {**SUMS, **RECURRENT}


def clips(num_frames, *, channels=3, size=SIZE, seed=0):
    generator = np.random.default_rng(seed)
    # Each frame has a brightness of its own: the order, and every frame, matter.
    light = generator.uniform(0.1, 1, (B, num_frames, 1, 1, channels))
    noise = generator.integers(0, 256, (B, num_frames, size, size, channels))
    return (light * noise).astype("float32")


def play(stream, state=None, **streams):
    """The outputs after each frame."""
    step = tf.function(lambda inputs: stream(inputs, training=False), autograph=False)
    state = initial_state(stream, B) if state is None else state
    outputs = []
    for t in range(next(iter(streams.values())).shape[1]):
        inputs = {**state, **{name: clip[:, t] for name, clip in streams.items()}}
        outputs.append(step({name: tf.convert_to_tensor(one) for name, one in inputs.items()}))
        state = {name: outputs[-1][name] for name in state}
    return outputs


def probabilities(scores):
    return tf.nn.softmax(scores).numpy()


def assert_same(scores, expected, atol=1e-4):
    np.testing.assert_allclose(probabilities(scores), probabilities(expected), atol=atol)
    # Neither uniform nor certain: equality means something.
    assert 0.4 < probabilities(expected).max() < 1 - 1e-6


@pytest.mark.parametrize("build", RUNNING.values(), ids=RUNNING)
def test_equals_the_clip_model_on_all_frames_so_far(build):
    model, frames = sharpen(build()), clips(6)
    outputs = play(streaming_model(model), frame=frames)
    for num_frames in (2, 6):
        whole = models.with_num_frames(model, num_frames)
        expected = whole(frames[:, :num_frames])
        assert_same(outputs[num_frames - 1]["scores"], expected, atol=1e-5)


@pytest.mark.parametrize("fusion", ["concat", "early", "late"])
def test_two_streams(fusion):
    model = models.two_stream(
        small_backbone(),
        flow_backbone(),
        C,
        fusion=fusion,
        num_frames=T,
        num_clusters=4,
        alpha=20.0,
    )
    frames, flow = clips(5), clips(5, channels=4, seed=1)
    outputs = play(streaming_model(model), frame=frames, flow=flow)
    expected = models.with_num_frames(model, 5)([frames, flow])
    np.testing.assert_allclose(outputs[-1]["scores"], expected, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 1e-5


def check_500_frames(model, frames):
    whole = models.with_num_frames(model, 500)
    expected = whole(frames)
    stream = streaming_model(model)
    outputs = play(stream, frame=frames)
    assert_same(outputs[-1]["scores"], expected)
    # Any split of the frames: the states are all there is.
    state = {name: outputs[122][name].numpy() for name in initial_state(stream)}
    assert_same(play(stream, state, frame=frames[:, 123:])[-1]["scores"], expected)


@pytest.mark.parametrize("name", ["action_vlad", "shared_gru"])
def test_500_frames(name, traced):
    check_500_frames(sharpen(RUNNING[name]()), clips(500))


def test_a_global_policy_of_half_precision_changes_nothing(traced):
    model, frames = sharpen(RUNNING["action_vlad"]()), clips(300)
    expected = models.with_num_frames(model, 300)(frames)
    with mixed_precision():
        stream = streaming_model(model)
        assert keras.mixed_precision.global_policy().name == "mixed_float16"
    assert {layer.compute_dtype for layer in compat.walk_layers(stream)} == {"float32"}
    assert_same(play(stream, frame=frames)[-1]["scores"], expected)


@pytest.mark.parametrize("name", MIXED)
def test_half_precision_streams_in_single(name):
    model = mixed_model(name)
    frames = clips(model.inputs[0].shape[1])
    stream = streaming_model(model)
    assert {layer.compute_dtype for layer in compat.walk_layers(stream)} == {"float32"}
    outputs = play(stream, frame=frames)[-1]
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    expected = tf.cast(model(frames), tf.float32)
    np.testing.assert_allclose(probabilities(outputs["scores"]), probabilities(expected), atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("build", "factor"), [(models.action_vlad, 100), (models.ta_vlad, 20)])
def test_500_frames_of_mobilenet(build, factor, traced):
    backbone = backbones.mobilenet_v2(weights=None, image_size=64)
    model = build(backbone, C, num_frames=T, num_clusters=16)
    check_500_frames(sharpen(model, factor), clips(500, size=64))


@pytest.mark.parametrize("name", ["action_vlad", "shared_gru", "maximum"])
def test_saves_and_loads(name, tmp_path):
    stream, frames = streaming_model(RUNNING[name]()), clips(2)
    stream.save(tmp_path / "stream.keras")
    loaded = keras.models.load_model(tmp_path / "stream.keras")
    outputs, same = play(stream, frame=frames)[-1], play(loaded, frame=frames)[-1]
    assert set(same) == set(outputs)
    for key in outputs:
        np.testing.assert_allclose(same[key], outputs[key], atol=1e-6)


def test_shares_the_backbone_and_the_head():
    model = sharpen(RUNNING["action_vlad"]())
    stream, frames = streaming_model(model), clips(1)
    before = play(stream, frame=frames)[-1]["scores"]
    model.get_layer("logits").bias.assign([5.0, 0.0, 0.0])
    after = play(stream, frame=frames)[-1]["scores"]
    np.testing.assert_allclose(after - before, [[5, 0, 0]] * B, atol=1e-5)


@pytest.mark.parametrize("name", ["action_vlad_with_attention", "shared_gru"])
def test_attention_of_the_frame(name):
    model, frames = RUNNING[name](), clips(2)
    outputs = play(streaming_model(model), frame=frames)
    part = models.intermediate_outputs(models.with_num_frames(model, 2), ["attention"])
    expected = part([frames])["attention"]
    for t in range(2):
        np.testing.assert_allclose(outputs[t]["attention"], expected[:, t], atol=1e-5)


def test_decay_weighs_frames_down():
    model, frames, decay = sharpen(RUNNING["action_vlad"]()), clips(T), 0.5
    outputs = play(streaming_model(model, decay=decay), frame=frames)
    maps = model.get_layer("backbone")(frames)
    weights = decay ** np.arange(T - 1, -1, -1).reshape(1, T, 1, 1) * np.ones(maps.shape[:-1])
    descriptor, _ = model.get_layer("vlad")(maps, tf.constant(weights, tf.float32))
    expected = model.get_layer("logits")(descriptor)
    assert_same(outputs[-1]["scores"], expected, atol=1e-5)
    assert np.abs(expected - model(frames)).max() > 1e-2


def test_decay_of_a_mean_and_a_maximum():
    frames, decay = clips(3), 0.5
    for name, reduce in (
        ("average", lambda x: np.average(x, axis=1, weights=[0.25, 0.5, 1])),
        ("maximum", lambda x: (x * np.array([0.25, 0.5, 1]).reshape(1, 3, 1)).max(axis=1)),
    ):
        model = RUNNING[name]()
        pool = np.mean if name == "average" else np.max
        features = keras.ops.relu(model.get_layer("backbone")(frames)).numpy()
        expected = model.get_layer("logits")(reduce(pool(features, axis=(2, 3))))
        outputs = play(streaming_model(model, decay=decay), frame=frames)
        np.testing.assert_allclose(outputs[-1]["scores"], expected, atol=1e-5)


def test_maximum_of_negative_features():
    model = RUNNING["maximum"]()
    model.get_layer("features").activation = keras.activations.linear
    maps = model.get_layer("backbone")
    negative = -1e3 * np.ones_like(maps.model.layers[-1].beta)
    maps.model.layers[-1].beta.assign(negative)
    frames = clips(2)
    expected = maps(frames).numpy().max(axis=(1, 2, 3))
    assert expected.max() < 0
    stream = streaming_model(model)
    np.testing.assert_allclose(play(stream, frame=frames)[-1]["feature_maximum"], expected, 1e-5)


def test_initial_state():
    state = initial_state(streaming_model(RUNNING["average"]()), 3)
    assert {name: value.shape for name, value in state.items()} == {
        "feature_sum": (3, D),
        "num_frames": (3, 1),
    }
    assert all(value.dtype == np.float32 and not value.any() for value in state.values())


def window_model(kind="every_step", *, num_steps=T, same_extractor=False):
    extractor = feature_extractor(small_backbone())
    channels = extractor.num_channels
    if kind == "plain_lstm":
        inner = models.plain_lstm(C, channels, num_steps=num_steps, units=UNITS)
    elif kind == "feature_softmax":
        inner = models.feature_softmax(C, channels, num_steps=num_steps)
    else:
        inner = models.attention_lstm(
            C,
            channels,
            channels,
            num_steps=num_steps,
            num_attended=num_steps,
            units=UNITS,
            matching_units=5,
            attend=kind,
        )
        # Random projections hardly tell frames apart.
        inner.set_weights([2 * weight for weight in inner.get_weights()])
    attended = extractor if same_extractor else feature_extractor(small_backbone())
    extractors = (extractor, attended) if len(inner.inputs) == 2 else (extractor,)
    return sharpen_inner(models.end_to_end(inner, *extractors, num_frames=num_steps))


def sharpen_inner(model):
    sharpen(next(layer for layer in model.layers if isinstance(layer, keras.Model)), 5)
    return model


WINDOWS = ["every_step", "last_step", "plain_lstm", "feature_softmax"]


@pytest.mark.parametrize("kind", WINDOWS)
def test_equals_the_clip_model_on_the_last_frames(kind):
    model, frames = window_model(kind), clips(7)
    outputs = play(streaming_model(model), frame=frames)
    for end in (T, 7):
        expected = model(frames[:, end - T : end])
        assert_same(outputs[end - 1]["scores"], expected, atol=1e-5)


@pytest.mark.parametrize("kind", WINDOWS)
def test_an_unfilled_window_is_a_shorter_one(kind):
    model, frames = window_model(kind), clips(T)
    outputs = play(streaming_model(model), frame=frames)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    names = [f"{name}_extractor" for name in ("input", "attended")][: len(inner.inputs)]
    features = [model.get_layer(name)(frames[:, :, np.newaxis]) for name in names]
    for length in (1, 3):
        shorter = models.with_num_frames(inner, length)
        data = [one[:, :length] for one in features]
        expected = shorter(data if len(data) > 1 else data[0])
        assert_same(outputs[length - 1]["scores"], expected, atol=1e-5)


SEGMENTS = {
    "average": lambda: models.average_pooling(small_backbone(), C, num_frames=T, num_segments=2),
    "action_vlad": lambda: models.action_vlad(
        small_backbone(), C, num_frames=T, num_clusters=4, alpha=20.0, num_segments=2
    ),
    "with_attention": lambda: models.action_vlad(
        small_backbone(),
        C,
        num_frames=T,
        num_clusters=4,
        alpha=20.0,
        attention=True,
        num_segments=2,
    ),
}


@pytest.mark.parametrize("build", SEGMENTS.values(), ids=SEGMENTS)
def test_segments_of_the_last_frames(build):
    model, frames = sharpen(build()), clips(6)
    stream = streaming_model(model)
    outputs = play(stream, frame=frames)
    assert_same(outputs[5]["scores"], model(frames[:, 2:]), atol=1e-5)
    shorter = models.with_num_frames(model, 3)
    assert_same(outputs[2]["scores"], shorter(frames[:, :3]), atol=1e-5)


def test_segments_of_any_number_of_frames_are_refused():
    model = models.average_pooling(small_backbone(), C, num_frames=None, num_segments=2)
    message = r"cannot stream without a number of frames: build it with `num_frames`\. Received:"
    with pytest.raises(ValueError, match=message):
        streaming_model(model)


def test_one_extractor_for_both():
    model, frames = window_model(same_extractor=True), clips(T)
    expected = model(frames)
    assert_same(play(streaming_model(model), frame=frames)[-1]["scores"], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["every_step", "last_step"])
def test_frame_weights(kind):
    model, frames = window_model(kind), clips(5)
    outputs = play(streaming_model(model), frame=frames)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    features = [
        model.get_layer(f"{name}_extractor")(frames[:, 1:, np.newaxis])
        for name in ("input", "attended")
    ]
    maps = models.intermediate_outputs(inner, ["attention"])(features)["attention"]
    np.testing.assert_allclose(
        outputs[-1]["frame_weights"], np.mean(maps, axis=1), rtol=1e-4, atol=1e-6
    )
    # Missing frames, the oldest, weigh nothing.
    first = outputs[0]["frame_weights"].numpy()
    np.testing.assert_allclose(first, [[0, 0, 0, 1]] * B, atol=1e-6)


@pytest.mark.parametrize("kind", ["every_step", "last_step"])
def test_carried_state(kind):
    model, frames = window_model(kind), clips(7)
    outputs = play(streaming_model(model, carry_state=True), frame=frames)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    data, attended = (
        model.get_layer(f"{name}_extractor")(frames[:, :, np.newaxis])
        for name in ("input", "attended")
    )
    data = inner.get_layer("input_dense")(data)
    lstm = inner.get_layer("attention_lstm")
    plain = AttentionLSTM(UNITS, matching_units=5, attend=kind, return_state=True)
    plain(data, attended)
    plain.set_weights(lstm.get_weights())
    state = [tf.zeros((B, UNITS))] * 2
    for start in range(7 - T):
        # The state after the frame that leaves: one step of the window that starts with it.
        if kind == "every_step":
            window = attended[:, start : start + T]
            _, _, *state = plain(data[:, start : start + 1], window, state)
        else:
            gates = lstm.cell.input_projection(data[:, start])
            state = list(lstm.cell.update(gates, state))
    states, *_ = plain(data[:, 7 - T :], attended[:, 7 - T :], state)
    steps = states if kind == "every_step" else states[:, -1:]
    expected = inner.get_layer("scores")(inner.get_layer("logits")(steps))
    assert_same(outputs[-1]["scores"], expected, atol=1e-5)
    assert np.abs(expected - model(frames[:, 7 - T :])).max() > 1e-3


@pytest.mark.parametrize("kind", WINDOWS)
def test_windows_save_and_load(kind, tmp_path):
    stream, frames = streaming_model(window_model(kind)), clips(T)
    stream.save(tmp_path / "stream.keras")
    loaded = keras.models.load_model(tmp_path / "stream.keras")
    expected = play(stream, frame=frames)[-1]["scores"]
    np.testing.assert_allclose(play(loaded, frame=frames)[-1]["scores"], expected, atol=1e-5)


def bidirectional(temporal):
    return models.ta_vlad(
        small_backbone(), C, num_frames=T, num_clusters=4, units=4, bidirectional=True,
        temporal=temporal,
    )  # fmt: skip


@pytest.mark.parametrize("temporal", ["shared_gru", "separate_grus", "flattened_gru"])
def test_bidirectional_is_refused(temporal):
    sentence = "cannot stream: it is bidirectional and reads the frames from the last one too."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        streaming_model(bidirectional(temporal))


def test_an_unknown_pooling_is_refused():
    def pooled(maps):
        return keras.layers.Flatten()(maps.features)

    model = clip_model(small_backbone(), C, T, 0.5, pooled, "flattened")
    sentence = "'flattened' cannot stream: no layer of it is known to take one frame at a time."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        streaming_model(model)


def test_windows_of_several_frames_are_refused():
    window = keras.Input((3, 8, 8, 3))
    x = keras.layers.Conv3D(4, 3)(window)
    x = keras.layers.GlobalAveragePooling3D()(x)
    extractor = FeatureExtractor("tiny_c3d/pooled", keras.Model(window, x), 3)
    model = models.end_to_end(models.plain_lstm(C, 4, num_steps=2), extractor, num_frames=6)
    with pytest.raises(ValueError, match="cuts 6 frames into windows for 2 steps"):
        streaming_model(model)


def test_several_models_are_refused():
    parts = [RUNNING["average"](), RUNNING["maximum"]()]
    for model in (models.late_fusion(parts), models.ensemble(parts, multi_label=False)):
        with pytest.raises(ValueError, match="is not one model from frames to scores"):
            streaming_model(model)
    with pytest.raises(ValueError, match="is not one model from frames to scores"):
        streaming_model(models.plain_lstm(C, 4))


@pytest.mark.parametrize("decay", [0, -0.5, 1.5, float("nan")])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\]. Received: decay="):
        streaming_model(RUNNING["average"](), decay=decay)


@pytest.mark.parametrize("build", [RECURRENT["shared_gru"], window_model, SEGMENTS["average"]])
def test_decay_of_a_model_that_forgets_by_itself(build):
    sentence = "`decay` is of models that sum over time"
    with pytest.raises(ValueError, match=sentence):
        streaming_model(build(), decay=0.9)


def test_carry_state_without_an_attention_lstm():
    for model in (RUNNING["average"](), window_model("plain_lstm")):
        with pytest.raises(ValueError, match="`carry_state` is of attention LSTMs"):
            streaming_model(model, carry_state=True)
