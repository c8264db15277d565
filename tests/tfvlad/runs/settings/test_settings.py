"""Settings: ranges, what has no effect, and the table of models."""

import inspect
import re
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.kinds import changed, settings_for
from tfvlad.runs.settings.model_table import MODELS, models_on
from tfvlad.runs.settings.rules import OPTIMIZERS

# Arguments of the builders that no setting names in this way.
OF_THE_BUILDER = {
    *("backbone", "rgb_backbone", "flow_backbone", "num_classes", "input_channels"),
    *("attended_channels", "multi_label", "name", "num_frames", "num_steps", "dropout"),
    # A run fuses streams that are trained alone by `tfvlad.studies.fuse`.
    *("weights", "on"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_table_tells_what_a_builder_takes(name):
    known = set(inspect.signature(MODELS[name].build).parameters)
    assert MODELS[name].takes == known - OF_THE_BUILDER


@pytest.mark.parametrize("name", MODELS)
def test_the_builder_takes_what_the_settings_give(name):
    kind = VideoSettings if MODELS[name].learns_from == "videos" else FeatureSettings
    signature = inspect.signature(MODELS[name].build)
    assert set(kind(model=name).model_arguments()) <= set(signature.parameters)
    for argument, value in kind(model=name).model_arguments().items():
        assert signature.parameters[argument].default == value, argument


def test_models_by_what_they_learn_from():
    assert models_on("videos")[0] == VideoSettings().model
    assert models_on("features")[0] == FeatureSettings().model
    assert set(models_on("videos")) | set(models_on("features")) == set(MODELS)


@pytest.mark.parametrize("kind", [VideoSettings, FeatureSettings])
def test_settings_are_frozen_and_comparable(kind):
    settings = kind()
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1
    assert replace(settings, seed=1) == kind(seed=1) != settings


@pytest.mark.parametrize("kind", [VideoSettings, FeatureSettings])
def test_every_number_and_word_has_a_rule(kind):
    for one in fields(kind):
        if any(word in str(one.type) for word in ("int", "float")):
            assert one.metadata, one.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_frames": 0},
            r"`num_frames` must be a whole number, at least 1\. .*frames=0\.",
        ),
        ({"num_frames": 2.5}, r"`num_frames` must be a whole number, at least 1"),
        ({"num_frames": True}, r"`num_frames` must be a whole number"),
        ({"num_frames": "12"}, r"Received: num_frames='12'\."),
        ({"dropout": 1.0}, r"`dropout` must be a number, at least 0 and less than 1\."),
        ({"color_jitter": 1.5}, r"`color_jitter` must be a number, at least 0 and at most 1\."),
        ({"alpha": "sharp"}, r"`alpha` must be a number, more than 0, or \"auto\"\."),
        ({"alpha": float("inf")}, r"`alpha` must be a number"),
        ({"model": "mlp"}, r"`model` must be one of ta-vlad, .*Received: model='mlp'\."),
        ({"test_crops": 3}, r"`test_crops` must be one of 1, 5, 10\."),
        ({"test_crops": True}, r"`test_crops` must be one of 1, 5, 10\."),
        ({"bidirectional": 1.5}, r"`bidirectional` must be True or False\."),
        ({"aggregate_at": 3}, r"`aggregate_at` must be a text\."),
        ({"epochs": 3}, r"`epochs` must be 2 numbers, of stage 1 and of stage 2\."),
        ({"epochs": (0, 1)}, r"`epochs` must begin with at least 1\. Received: epochs=\(0, 1\)\."),
        ({"learning_rates": (1e-2, 0)}, r"`learning_rates` must be a number, more than 0\."),
        ({"optimizer": "lion"}, rf"`optimizer` must be one of {', '.join(OPTIMIZERS)}\."),
        (
            {"model": "action-vlad", "bidirectional": True},
            r"`bidirectional` has no effect on model='action-vlad'\. "
            r"Received: bidirectional=True\. Leave it out\.",
        ),
        ({"model": "max-pooling", "fixed_centers": True}, r"`fixed_centers` has no effect on"),
        ({"attention": False, "freeze_attention": True}, r"on a model without attention\."),
        ({"model": "two-stream", "stream": "flow"}, r"`stream` has no effect on model='two-str"),
        ({"stack_frames": 5}, r"`stack_frames` has no effect on stream='rgb'\."),
        ({"stream": "flow", "color_jitter": 0.1}, r"`color_jitter` has no effect on stream='flow'"),
        ({"one_bag": True}, r"`one_bag` is for models that sum over time, and ta-vlad reads the"),
        (
            {"model": "action-vlad", "num_segments": 4, "one_bag": True},
            r"sum over time, and action-vlad with segments reads the frames in their order\.",
        ),
        ({"num_segments": 4}, r"`num_segments` has no effect on model='ta-vlad'\."),
        (
            {"model": "average-pooling", "num_frames": 3, "num_segments": 4},
            r"`num_segments` must be at most the number of frames, 3\. Received: num_segments=4\.",
        ),
        ({"attention": False, "attention_temperature": 2.0}, r"on a model without attention\."),
        ({"input_scale": "sqrt"}, r'`input_scale` must be a number, more than 0, or "sqrt_chan'),
        ({"model": "action-vlad", "update_bias": 0.0}, r"`update_bias` has no effect on model="),
    ],
)
def test_what_is_refused_of_videos(settings, message):
    with pytest.raises(ValueError, match=message):
        VideoSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_frames": 0}, r"`chunk_frames` must be a whole number, at least 1\."),
        ({"sampling": "segments"}, r"`sampling` must be one of chunk, uniform\."),
        (
            {"model": "plain-lstm", "attend": "last_step"},
            r"`attend` has no effect on model='pl",
        ),
        ({"model": "feature-softmax", "num_attended": 3}, r"`num_attended` has no effect on"),
    ],
)
def test_what_is_refused_of_features(settings, message):
    with pytest.raises(ValueError, match=message):
        FeatureSettings(**settings)


def test_sizes_are_passed_over_by_models_without_them():
    assert VideoSettings(model="max-pooling", num_clusters=3).model_arguments() == {"dropout": 0.5}
    assert FeatureSettings(model="feature-softmax", units=3).model_arguments() == {
        "num_steps": 12,
        "dropout": 0.5,
    }


def test_names_that_are_no_settings():
    message = r"`num_frame` is no setting of VideoSettings\. Did you mean `num_frames`\?"
    with pytest.raises(ValueError, match=message):
        changed(VideoSettings(), {"num_frame": 3})
    with pytest.raises(ValueError, match=r"`zzz` is no setting of FeatureSettings\."):
        settings_for("features", {"zzz": 1}, on_features=True)


def test_the_kind_follows_the_data():
    assert settings_for("v", {"seed": 3}, on_features=False) == VideoSettings(seed=3)
    assert settings_for("f", {"model": "plain-lstm"}, on_features=True).model == "plain-lstm"
    message = r"plain-lstm learns from features, and 'v' holds none\. Extract them with"
    with pytest.raises(ValueError, match=message):
        settings_for("v", {"model": "plain-lstm"}, on_features=False)
    message = r"'f' holds extracted features, and ta-vlad learns from videos\. .* attention-lstm,"
    with pytest.raises(ValueError, match=message):
        settings_for("f", {"model": "ta-vlad"}, on_features=True)
    with pytest.raises(ValueError, match=r"`model` must be one of ta-vlad, .* feature-softmax\."):
        settings_for("f", {"model": "mlp"}, on_features=True)


def test_what_follows_from_settings():
    assert VideoSettings(model="two-stream").streams == ("rgb", "flow")
    assert VideoSettings(stream="flow").streams == ("flow",)
    assert VideoSettings().has_attention
    assert not VideoSettings(model="action-vlad").has_attention
    assert VideoSettings(epochs=(3, 0)).num_stages == 1
    assert VideoSettings(image_size=112).short_side == 128
    assert VideoSettings(epochs=[3, 4]).epochs == (3, 4)
    assert FeatureSettings().clips_per_batch == 200
    assert FeatureSettings(recipe="hollywood2").clips_per_batch == 100
    assert FeatureSettings(num_steps=3, num_attended=4).step_counts == (3, 4)
    assert FeatureSettings(model="plain-lstm", num_steps=3).step_counts == (3,)


@given(st.integers(), st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_are_taken_or_refused_with_their_name(number, share):
    for name, value in (("num_clusters", number), ("dropout", share), ("alpha", share)):
        is_within = 0 <= value < 1 if name == "dropout" else 0 < value < float("inf")
        if is_within:
            assert getattr(VideoSettings(**{name: value}), name) == value
            continue
        message = f"`{name}` must be .* Received: {name}={re.escape(repr(value))}."
        with pytest.raises(ValueError, match=message):
            VideoSettings(**{name: value})
