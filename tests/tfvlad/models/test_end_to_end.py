import re

import keras
import numpy as np
import pytest

from tests.helpers import normal
from tfvlad.backbones import FeatureExtractor
from tfvlad.models import attention_lstm, end_to_end, is_multi_label, plain_lstm

pytestmark = pytest.mark.usefixtures("eagerly")

B, F, C = 2, 12, 3
FRAMES = np.random.default_rng(0).integers(0, 256, (B, F, 8, 8, 3)).astype("float32")


def clip_extractor(channels=4, size=6):
    """Windows of 3 frames."""
    window = keras.Input((3, size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(window)
    x = keras.layers.Conv3D(channels, 3, name="conv")(x)
    x = keras.layers.GlobalAveragePooling3D()(x)
    return FeatureExtractor("tiny_c3d/pooled", keras.Model(window, x, name="clip"), 3)


def frame_extractor(channels=5, size=8):
    frame = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(frame)
    x = keras.layers.Conv2D(channels, 3, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return FeatureExtractor("tiny_cnn/pooled", keras.Model(frame, x, name="frame"))


def build_model(**arguments):
    sizes = {"num_steps": 4, "num_attended": 6, "units": 3, "matching_units": 3}
    return attention_lstm(C, 4, 5, **{**sizes, **arguments})


def test_equals_the_model_on_features():
    inputs, attended, model = clip_extractor(size=8), frame_extractor(), build_model()
    # N = 4 windows of 3 frames; the first of each of T = 6 pairs of frames.
    windows = FRAMES.reshape(B * 4, 3, 8, 8, 3)
    features = inputs.model.predict(windows, verbose=0).reshape(B, 4, 4)
    frames = FRAMES[:, ::2].reshape(B * 6, 8, 8, 3)
    attended_features = attended.model.predict(frames, verbose=0).reshape(B, 6, 5)
    expected = model.predict([features, attended_features], verbose=0)
    whole = end_to_end(model, inputs, attended, num_frames=F)
    np.testing.assert_allclose(whole.predict(FRAMES, verbose=0), expected, atol=1e-5)
    # The layers are shared.
    model.get_layer("logits").set_weights([np.zeros((3, C)), np.arange(C)])
    scores = whole.predict(FRAMES, verbose=0)
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], 1, atol=1e-5)


def test_windows_start_with_each_step():
    inputs, model = clip_extractor(size=8), plain_lstm(C, 4, num_steps=2, units=3)
    whole = end_to_end(model, inputs, num_frames=F)
    windows = FRAMES.reshape(B, 2, 6, 8, 8, 3)[:, :, :3].reshape(B * 2, 3, 8, 8, 3)
    features = inputs.model.predict(windows, verbose=0).reshape(B, 2, 4)
    expected = model.predict(features, verbose=0)
    np.testing.assert_allclose(whole.predict(FRAMES, verbose=0), expected, atol=1e-5)


def test_resizes_for_the_smaller_extractor():
    inputs, attended, model = clip_extractor(size=6), frame_extractor(size=8), build_model()
    whole = end_to_end(model, inputs, attended, num_frames=F)
    assert whole.input_shape == (None, F, 8, 8, 3)
    small = keras.layers.Resizing(6, 6)(FRAMES.reshape(B * F, 8, 8, 3))
    windows = np.reshape(small, (B * 4, 3, 6, 6, 3))
    features = inputs.model.predict(windows, verbose=0).reshape(B, 4, 4)
    frames = FRAMES[:, ::2].reshape(B * 6, 8, 8, 3)
    attended_features = attended.model.predict(frames, verbose=0).reshape(B, 6, 5)
    expected = model.predict([features, attended_features], verbose=0)
    np.testing.assert_allclose(whole.predict(FRAMES, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("num_attended", [4, 6])
def test_one_extractor_runs_once_for_as_many_steps(num_attended):
    extractor = frame_extractor()
    model = attention_lstm(
        C, 5, 5, num_steps=4, num_attended=num_attended, units=3, matching_units=3
    )
    whole = end_to_end(model, extractor, extractor, num_frames=F)
    names = {layer.name for layer in whole.layers}
    assert ("attended_extractor" in names) == (num_attended == 6)
    apart = end_to_end(model, extractor, frame_extractor(), num_frames=F)
    apart.get_layer("attended_extractor").set_weights(extractor.model.get_weights())
    expected = apart.predict(FRAMES, verbose=0)
    np.testing.assert_allclose(whole.predict(FRAMES, verbose=0), expected, atol=1e-6)


def test_fits_saves_and_loads(tmp_path):
    inputs, attended = clip_extractor(), frame_extractor()
    whole = end_to_end(build_model(multi_label=True), inputs, attended, num_frames=F)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    whole.compile(keras.optimizers.Adam(0.03), loss)
    frozen = inputs.model.get_weights()
    labels = np.array([[1, 0, 1], [0, 1, 1]])
    history = whole.fit(FRAMES, labels, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for one, other in zip(inputs.model.get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(one, other)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = whole.predict(FRAMES, verbose=0)
    np.testing.assert_allclose(loaded.predict(FRAMES, verbose=0), expected, atol=1e-6)
    assert len(loaded.trainable_weights) == len(whole.trainable_weights)
    assert is_multi_label(loaded) is True


def test_trains_the_extractors_when_they_are_thawed():
    inputs, attended = clip_extractor(), frame_extractor()
    whole = end_to_end(build_model(), inputs, attended, num_frames=F)
    num_weights = len(whole.trainable_weights)
    attended.model.trainable = True
    assert len(whole.trainable_weights) == num_weights + 2


class TestErrors:
    def expect(self, message, *arguments, num_frames=F):
        with pytest.raises(ValueError, match=re.escape(message)):
            end_to_end(*arguments, num_frames=num_frames)

    def test_number_of_extractors(self):
        message = (
            "'attention_lstm' needs 2 extractors, one for each of its inputs. "
            "Received: input_extractor."
        )
        self.expect(message, build_model(), clip_extractor())

    def test_channels(self):
        message = (
            "`attended_extractor` must give features of 5 channels, as the model takes. "
            "Received: 7 channels of 'tiny_cnn/pooled'."
        )
        self.expect(message, build_model(), clip_extractor(), frame_extractor(channels=7))

    @pytest.mark.parametrize(("num_steps", "num_frames"), [(4, 13), (None, F)])
    def test_steps(self, num_steps, num_frames):
        message = (
            "`num_frames` must be a multiple of the model's known number of steps. "
            f"Received: num_frames={num_frames}, {num_steps} steps for `input_extractor`."
        )
        model = build_model(num_steps=num_steps)
        self.expect(message, model, clip_extractor(), frame_extractor(), num_frames=num_frames)

    def test_window(self):
        message = (
            "`num_frames` must give each step the 3 frames that 'tiny_c3d/pooled' takes. "
            "Received: num_frames=12 for 6 steps."
        )
        self.expect(message, build_model(num_steps=6), clip_extractor(), frame_extractor())

    def test_image_size(self):
        message = (
            "`end_to_end` needs an extractor with a known image size. Received: tiny_cnn/pooled."
        )
        self.expect(message, plain_lstm(C, 5, num_steps=4), frame_extractor(size=None))


def test_real_frames_are_not_rounded_under_mixed_precision():
    frames = 255 - 0.01 * np.abs(normal(B, F, 8, 8, 3))
    extractor, model = frame_extractor(), plain_lstm(C, 5, num_steps=4, units=3)
    expected = end_to_end(model, extractor, num_frames=F).predict(frames, verbose=0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        whole = end_to_end(model, extractor, num_frames=F)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(whole.predict(frames, verbose=0), expected, atol=1e-6)
