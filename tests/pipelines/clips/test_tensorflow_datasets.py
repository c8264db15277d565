"""`TfdsClipSource` on a small data set made here, of the same features as TFDS' `ucf101`."""

import os
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.clips.augmentation import crop_clip
from pipelines.clips.sampling import uniform_indices
from pipelines.clips.tensorflow_datasets import TfdsClipSource, prepare_tfds
from pipelines.clips.video_clips import VideoClipSource
from pipelines.lists.records import VideoRecord
from pipelines.video.crops import Crop
from tests.helpers import tiny_backbone
from tfvlad.models import action_vlad
from tfvlad.training import FeatureCache, Stage, fit_in_stages, predict_logits

tfds = pytest.importorskip("tensorflow_datasets")

NAMES = ("jump", "run", "wave")
NUM_TRAIN = 12
OPTIONS = {"num_frames": 4, "image_size": 32, "short_side": 40}


def video(number):
    """Smooth frames, so that JPEG keeps them, whose brightness tells the video and the frame."""
    frames = np.zeros((3 + number, 40, 56, 3), np.uint8)
    ramp = np.linspace(0, 90, 56).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[..., 0] = ramp + 6 * t
        frame[..., 1] = 10 * number
        frame[..., 2] = 60
    return frames


class SmallVideos(tfds.core.GeneratorBasedBuilder):
    """Three classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "video": tfds.features.Video((None, None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=NAMES),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

    def _generate_examples(self, part):
        for number in range(NUM_TRAIN) if part == 0 else range(2):
            yield number, {"video": video(number + 20 * part), "label": number % 3}


class Images(SmallVideos):
    """Without videos."""

    def _info(self):
        features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(names=NAMES)})
        return tfds.core.DatasetInfo(builder=self, features=features)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    builder = SmallVideos(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def source(builder):
    return TfdsClipSource(builder, **OPTIONS)


@pytest.fixture(scope="module")
def numbers(builder):
    """Which video each example of the training split is."""
    return [len(e["video"]) - 3 for e in builder.as_data_source("train")]


def batches(source, **options):
    return [(x.numpy(), y.numpy()) for x, y in source.dataset(5, **options)]


def test_clips_and_labels(source, numbers):
    assert len(source) == NUM_TRAIN
    assert source.class_names == NAMES
    assert source.clip_shape == (4, 32, 32, 3)
    assert sorted(numbers) == list(range(NUM_TRAIN))
    assert numbers != sorted(numbers)  # TensorFlow Datasets shuffles the examples
    np.testing.assert_array_equal(source.labels, np.array(numbers) % 3)
    for clip, number in zip(source.clips(), numbers, strict=True):
        frames = video(number)
        expected = frames[uniform_indices(len(frames), 4)][:, 4:36, 12:44]
        np.testing.assert_allclose(clip.astype(int), expected, atol=6)  # JPEG


def test_frames_are_those_of_tensorflow_datasets(source, builder):
    example = next(iter(builder.as_data_source("train")))
    frames = np.stack([example["video"][i] for i in uniform_indices(len(example["video"]), 4)])
    expected = crop_clip(frames, Crop(12, 4, 32, 32, 56, 40), 32)
    np.testing.assert_allclose(next(source.clips()).astype(int), expected, atol=2)


def test_datasets(source):
    found = batches(source)
    assert [len(y) for _, y in found] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), list(source.clips()))
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), source.labels)
    first, again = (batches(source, shuffle=True, augment=True, epoch=3) for _ in range(2))
    other = batches(source, shuffle=True, augment=True, epoch=4)
    for (x, y), (x_again, y_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(first[0][0], other[0][0])


def test_a_clip_is_the_same_in_every_list(source, builder):
    part = source.subset([7, 2])
    sliced = TfdsClipSource(builder, "train[50%:]", **OPTIONS)
    np.testing.assert_array_equal(part.labels, source.labels[[7, 2]])
    for augment in (False, True):
        clips = list(source.clips(augment, variant=2))
        np.testing.assert_array_equal(list(part.clips(augment, variant=2)), [clips[7], clips[2]])
        np.testing.assert_array_equal(list(sliced.clips(augment, variant=2)), clips[6:])
        keys = source.fingerprints(augment)
        assert len(set(keys)) == NUM_TRAIN
        assert part.fingerprints(augment) == [keys[7], keys[2]]
        assert sliced.fingerprints(augment) == keys[6:]
    larger = TfdsClipSource(builder, **{**OPTIONS, "num_frames": 5})
    assert not set(larger.fingerprints()) & set(source.fingerprints())
    assert source.fingerprints(True) != source.fingerprints(False)


def test_one_draw_a_clip(source):
    steady = np.array([clip[..., 2].max(axis=(1, 2)) for clip in source.clips(True)])
    assert np.ptp(steady.astype(int)) <= 6
    flipped = set()
    for clip in source.clips(augment=True, variant=1):
        slope = np.sign(clip[:, :, -1, 0].astype(int) - clip[:, :, 0, 0]).reshape(-1)
        assert len(set(slope.tolist())) == 1
        flipped.add(int(slope[0]))
    assert flipped == {-1, 1}


def test_clips_are_those_of_frame_folders(source, tmp_path):
    """The same frames in a folder of the same name have the same draws."""
    first = source.subset([0])
    folder = tmp_path / os.path.basename(first.records[0].path)
    folder.mkdir()
    example = tf.train.Example.FromString(source.reader.examples[0])
    for number, frame in enumerate(example.features.feature["video"].bytes_list.value, 1):
        (folder / f"img_{number:05d}.jpg").write_bytes(frame)
    videos = VideoClipSource([VideoRecord(str(folder), (0,))], NAMES, **OPTIONS)
    for augment in (False, True):
        np.testing.assert_array_equal(next(first.clips(augment)), next(videos.clips(augment)))


def test_test_crops(builder):
    source = TfdsClipSource(builder, "test", test_crops=5, color_jitter=0.5, **OPTIONS)
    (clips, labels), *_ = batches(source)
    assert clips.shape == (2, 5, 4, 32, 32, 3)
    assert sorted(labels.tolist()) == [0, 1]
    corner, centre = clips[0, 0], clips[0, 4]
    np.testing.assert_array_equal(corner[:, 8:, 16:], centre[:, 4:-4, 4:-12])


def test_keras_fits(source):
    model = keras.Sequential(
        [
            keras.Input(source.clip_shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(len(NAMES)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    history = model.fit(source.dataset(4, augment=True), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_trains_in_stages(builder, tmp_path):
    backbone = tiny_backbone()
    training, validation = (
        TfdsClipSource(builder, part, **OPTIONS) for part in ("train[:75%]", "train[75%:]")
    )
    model = action_vlad(backbone, len(NAMES), num_frames=4, num_clusters=2)
    before = model.get_layer("logits").get_weights()[0]
    history = fit_in_stages(
        model,
        training,
        validation,
        tmp_path / "run",
        stages=[Stage(epochs=1, learning_rate=0.01, trainable_layers=("logits",))],
        batch_size=3,
        cache=FeatureCache(tmp_path / "features"),
    )
    assert len(history) == 1
    assert np.any(model.get_layer("logits").get_weights()[0] != before)
    test = TfdsClipSource(builder, "test", **OPTIONS)
    assert predict_logits(model, test).shape == (2, len(NAMES))


class TestErrors:
    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(ImportError, match=r"Install it with `pip install tfvlad\[tfds\]`\."):
            prepare_tfds("ucf101/ucf101_1")

    def test_other_features(self, tmp_path):
        message = "images/1.0.0 must have the features `video` and `label`.* Received: label"
        with pytest.raises(ValueError, match=message):
            TfdsClipSource(Images(data_dir=str(tmp_path)))

    def test_not_prepared(self, tmp_path):
        with pytest.raises(ValueError, match=r"small_videos/1\.0\.0 is not prepared"):
            TfdsClipSource(SmallVideos(data_dir=str(tmp_path), file_format="array_record"))

    def test_other_files(self, tmp_path):
        builder = SmallVideos(data_dir=str(tmp_path), file_format="tfrecord")
        builder.download_and_prepare()
        message = "must be prepared with file_format='array_record'.* Received: tfrecord in "
        with pytest.raises(ValueError, match=message):
            TfdsClipSource(builder)

    def test_broken_frame(self, source, monkeypatch):
        monkeypatch.setattr(cv2, "imdecode", lambda data, flags: None)
        with pytest.raises(ValueError, match=r"small_videos/1\.0\.0/\w+: a frame cannot"):
            next(source.clips())


def test_prepare(builder, monkeypatch):
    calls = {}

    class Builder:
        def download_and_prepare(self):
            calls["prepared"] = True

    def find(name, **options):
        calls.update(options, name=name)
        return Builder()

    monkeypatch.setattr(tfds, "builder", find)
    assert isinstance(prepare_tfds("ucf101/ucf101_1", "folder"), Builder)
    expected = {"data_dir": "folder", "file_format": "array_record", "prepared": True}
    assert calls == {"name": "ucf101/ucf101_1", **expected}
