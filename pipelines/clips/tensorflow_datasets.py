"""Videos of TensorFlow Datasets -> clips, read one by one from its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from pipelines.clips.reader import ClipReader
from pipelines.clips.video_clips import VideoClipSource
from pipelines.lists.records import VideoRecord
from pipelines.progress import track
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import Crop
from pipelines.video.frame_folders import DEFAULT_FRAMES_PER_SECOND
from pipelines.video.info import BrokenVideoError, VideoInfo

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def prepare_tfds(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> tfds.core.DatasetBuilder:
    """Downloads and prepares a data set of TensorFlow Datasets for `TfdsClipSource`.

    TensorFlow Datasets does both, once, and calls the program ffmpeg to decode videos. The files
    are ArrayRecords, which give any example without those before it; the package that reads them
    is made for Linux only.

    Args:
        name: for example "ucf101/ucf101_1": UCF101, its first split, videos in their own size.
        data_dir: folder of the data; by default that of TensorFlow Datasets.

    Raises:
        ImportError: when TensorFlow Datasets is not installed.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "TensorFlow Datasets is not installed. Install it with `pip install tfvlad[tfds]`."
        ) from error
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return builder


class TfdsClipSource(VideoClipSource):
    """Labelled clips of a prepared data set with the features `video` and `label`.

    A clip is made as `VideoClipSource` makes it: its frames, crop and flip are one draw from the
    seed, the variant and the video's content. An example is read when its clip is, and of its
    frames only those of the clip are decoded. The first thing is one pass over the split's files,
    which holds a video a worker in memory: TensorFlow Datasets keeps no list of the labels.

    It keeps no file names either. What they tell is lost: the source videos that
    `split_validation` would keep together. A validation set is a slice, `split="train[:90%]"` for
    training and "train[90%:]"; in UCF101, whose 25 groups of a class are cut from one video each,
    clips of one group are then in both, and the figures on that set come out too high. Read the
    videos and lists themselves (`read_ucf101`) where this matters.

    Args:
        builder: what `prepare_tfds` returned, or another prepared builder with ArrayRecord files.
        split: any split of TensorFlow Datasets, such as "train", "test" or "train[:90%]".
        **options: `num_frames`, `sampling`, `image_size`, `short_side`, `test_crops`, `test_clips`,
            `scales`, `color_jitter`, `seed` and `num_workers` of `VideoClipSource`.

    Raises:
        ValueError: when the data set is not prepared, its files are no ArrayRecords, or it has not
            these features.

    Example:
        builder = prepare_tfds("ucf101/ucf101_1")
        training = TfdsClipSource(builder, "train[:90%]", num_frames=25)
        model.fit(training.dataset(16, shuffle=True, augment=True), epochs=30)
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str = "train", **options: Any
    ) -> None:
        examples = _raw_examples(builder, split)
        found = _read_all(examples, options.get("num_workers"))
        name = builder.info.full_name
        # The path stands for the content, so that draws and fingerprints depend on nothing else.
        paths = [f"{name}/{example.digest}" for example in found]
        super().__init__(
            [VideoRecord(path, (one.label,)) for path, one in zip(paths, found, strict=True)],
            builder.info.features["label"].names,
            index={path: example.info for path, example in zip(paths, found, strict=True)},
            **options,
        )
        numbers = {path: number for number, path in enumerate(paths)}
        self.reader = _ExampleReader(**vars(self.reader), examples=examples, numbers=numbers)

    def fingerprints(self, augment: bool = False) -> list[str]:
        """Returns, for each clip, a hash of everything that its pixels depend on (not its labels).

        A video keeps it in every split and slice.
        """
        settings = [*self.reader.settings(augment), self.seed if augment else None]
        return [
            hashlib.sha256(
                json.dumps([settings, os.path.basename(record.path)]).encode()
            ).hexdigest()
            for record in self.records
        ]


@dataclass(frozen=True)
class _ExampleReader(ClipReader):
    """Reads a record's frames from the example of its path."""

    examples: Sequence[bytes] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)

    def _frame_reader(
        self, path: str, info: VideoInfo, segment: range, color_matrix: np.ndarray | None
    ) -> Callable[..., np.ndarray]:
        encoded = _features(self.examples[self.numbers[path]])["video"].bytes_list.value

        def read(
            frames: np.ndarray,
            *,
            crops: Sequence[Crop],
            image_size: int,
            out: np.ndarray | None = None,
        ) -> np.ndarray:
            size = image_size, image_size
            converter = FrameConverter(crops, size, color_matrix=color_matrix)
            if out is None:
                out = np.empty((len(crops), len(frames), *size, 3), np.uint8)
            for t, frame in enumerate(frames):
                if t and frame == frames[t - 1]:
                    out[:, t] = out[:, t - 1]
                else:
                    converter.convert_rgb(_decode(encoded[frame], path), out[:, t])
            return out

        return read


class _Example(NamedTuple):
    digest: str
    label: int
    info: VideoInfo


def _raw_examples(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[bytes]:
    """The serialized examples of a split, read when they are asked for."""
    import tensorflow_datasets as tfds

    known = dict(builder.info.features or {})
    wanted = {"video": tfds.features.Video, "label": tfds.features.ClassLabel}
    if not all(isinstance(known.get(name), kind) for name, kind in wanted.items()):
        raise ValueError(
            f"{builder.info.full_name} must have the features `video` and `label`, a Video and a "
            f"ClassLabel. Received: {', '.join(known)}."
        )
    if not builder.is_prepared():
        raise ValueError(
            f"{builder.info.full_name} is not prepared. Call `prepare_tfds`, or the builder's "
            "`download_and_prepare`."
        )
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{builder.info.full_name} must be prepared with file_format='array_record', in "
            f"another folder. Received: {builder.info.file_format.value} in {builder.data_dir}."
        )
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    return builder.as_data_source(split, deserialize_method=raw)


def _read_all(examples: Sequence[bytes], num_workers: int | None) -> list[_Example]:
    with ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        described = pool.map(lambda i: _describe(examples[i]), range(len(examples)))
        return list(track(described, "Reading labels", len(examples)))


def _describe(example: bytes) -> _Example:
    features = _features(example)
    encoded = features["video"].bytes_list.value
    digest = hashlib.blake2b(example, digest_size=16).hexdigest()
    height, width = _decode(encoded[0], digest).shape[:2]
    info = VideoInfo(len(encoded), DEFAULT_FRAMES_PER_SECOND, width, height)
    return _Example(digest, features["label"].int64_list.value[0], info)


def _features(example: bytes) -> Mapping[str, tf.train.Feature]:
    return tf.train.Example.FromString(example).features.feature


def _decode(encoded: bytes, video: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise BrokenVideoError(f"{video}: a frame cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
