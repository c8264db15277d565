"""Whether TA-VLAD looks at the object that decides, by the share of its attention in the box.

python benchmarks/attention.py --quick --json
python benchmarks/attention.py --seeds 0 1 2

In drawn clips a flower or a glass changes, in either direction; which, is the class. Beside it an
umbrella or a lamp, which decides nothing, is as large, as far from the middle, moves and changes
as well: only what the two look like tells where to look. A small network is trained on still images
of such scenes, labelled by the flower or the glass (or by neither, in a fifth of them). On top of
it TA-VLAD, K=32 and U=32 on 16 frames of 64x64, is trained on the clips alone: in stage 1 the GRU
and the classifier, in stage 2 also the last convolution, the attention's kernel and the VLAD layer.

The ratio of a clip is the share of the attention's mass inside the object's boxes over the boxes'
share of the area: 1 for attention that tells nothing, `most` where all of it is inside. Its mean
over the test clips comes with a 95 % bootstrap interval. Two controls: `rival` is the ratio of the
other object's boxes where they do not overlap the first's; `other_clip` that of the object's boxes
under the attention of another clip, which leaves what objects' places have in common.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from pipelines.synthetic.videos import SyntheticClips, make_still_images, make_synthetic_clips
from tfvlad.backbones import Backbone, fit_small_cnn, small_cnn, small_cnn_backbone
from tfvlad.evaluation import Estimate, bootstrap_mean
from tfvlad.models import intermediate_outputs, ta_vlad
from tfvlad.training import FeatureCache, Stage, fit_in_stages

NUM_FRAMES, IMAGE_SIZE = 16, 64


@dataclass(frozen=True)
class Sizes:
    """What is drawn, and how long is trained."""

    num_stills: int = 3200
    still_epochs: int = 8
    num_training: int = 320
    num_validation: int = 80
    num_test: int = 160
    epochs: tuple[int, int] = (10, 10)


QUICK = Sizes(1600, 6, 96, 32, 48, (4, 3))


@dataclass(frozen=True, eq=False)
class MemoryClips:
    """A `tfvlad.training.ClipSource` of drawn clips; every second variant is mirrored."""

    frames: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str]

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return self.frames.shape[1:]

    def __len__(self) -> int:
        return len(self.frames)

    def fingerprints(self, augment: bool) -> list[str]:
        return [hashlib.sha256(clip).hexdigest() for clip in self.frames]

    def subset(self, indices: Sequence[int]) -> MemoryClips:
        chosen = list(indices)
        return MemoryClips(self.frames[chosen], self.labels[chosen], self.class_names)

    def clips(self, augment: bool, variant: int) -> Iterator[np.ndarray]:
        for clip in self.frames:
            yield clip[:, :, ::-1] if augment and variant % 2 else clip


def part_of(clips: SyntheticClips, chosen: slice) -> SyntheticClips:
    """Some of the clips."""
    arrays = {name: getattr(clips, name)[chosen] for name in clips._fields if name != "class_names"}
    return clips._replace(**arrays)


def object_backbone(num_stills: int, epochs: int, seed: int) -> Backbone:
    """The small network, trained on still images of the objects."""
    stills = make_still_images(num_stills, image_size=IMAGE_SIZE, seed=seed, has_rivals=True)
    network = small_cnn(len(stills.class_names), image_size=IMAGE_SIZE)
    fit_small_cnn(network, stills.images, stills.labels, epochs=epochs, verbose=0)
    return small_cnn_backbone(network)


def train(clips: SyntheticClips, sizes: Sizes, seed: int, folder: Path) -> list[keras.Model]:
    """TA-VLAD after stage 1 and after stage 2."""
    keras.utils.set_random_seed(seed)
    backbone = object_backbone(sizes.num_stills, sizes.still_epochs, seed)
    model = ta_vlad(
        backbone, len(clips.class_names), num_frames=NUM_FRAMES, num_clusters=32, units=32
    )
    limits = np.cumsum([0, sizes.num_training, sizes.num_validation])
    parts = [part_of(clips, slice(*ends)) for ends in itertools.pairwise(limits)]
    training, validation = (MemoryClips(p.frames, p.labels, p.class_names) for p in parts)
    stages = [
        Stage(sizes.epochs[0], 1e-2, trainable_layers=("shared_gru", "logits"), clip_norm=5.0),
        Stage(sizes.epochs[1], 1e-4, freed_block="block4", clip_norm=5.0),
    ]
    cache = FeatureCache(folder / "features")
    options = {"seed": seed, "cache": cache, "num_cached_crops": 2}
    fit_in_stages(model, training, validation, folder, stages=stages, **options)
    return [keras.models.load_model(folder / "stage1.keras"), model]


def covered(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The share of each cell of a map that a box covers, `(..., height, width)`."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)

    def overlap(low: np.ndarray, high: np.ndarray, num_cells: int) -> np.ndarray:
        edges = np.linspace(0, IMAGE_SIZE, num_cells + 1)
        ends = np.minimum(high[..., np.newaxis], edges[1:])
        return np.maximum(ends - np.maximum(low[..., np.newaxis], edges[:-1]), 0)

    rows, columns = overlap(top, bottom, height), overlap(left, right, width)
    pixels = rows[..., :, np.newaxis] * columns[..., np.newaxis, :]
    return pixels * height * width / IMAGE_SIZE**2


def ratios(attention: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Of each clip, the share of the mass inside over the share of the area, `(n,)`.

    A cell's mass is spread evenly over the cell, and a clip's frames count as one volume.
    """
    axes = (1, 2, 3)
    return (attention * inside).sum(axes) / attention.sum(axes) / inside.mean(axes)


def measure(model: keras.Model, test: SyntheticClips) -> dict[str, Estimate]:
    """The means over test clips whose classes take turns."""
    outputs = intermediate_outputs(model, ["attention", "logits"])
    found = outputs.predict(test.frames, batch_size=8, verbose=0)
    attention, boxes, rivals = found["attention"], test.boxes, test.rival_boxes
    inside, beside = (covered(each, *attention.shape[2:]) for each in (boxes, rivals))
    corners = np.maximum(boxes, rivals)[..., :2], np.minimum(boxes, rivals)[..., 2:]
    beside -= covered(np.concatenate(corners, axis=-1), *attention.shape[2:])
    values = {
        "top1": found["logits"].argmax(axis=-1) == test.labels,
        "object": ratios(attention, inside),
        "rival": ratios(attention, beside),
        "other_clip": ratios(np.roll(attention, 1, axis=0), inside),
        "uniform": ratios(np.ones_like(attention), inside),
        "most": 1 / inside.mean((1, 2, 3)),
    }
    return {name: bootstrap_mean(each) for name, each in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few clips and epochs, the first seed")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    tf.config.experimental.enable_op_determinism()

    result: dict[str, float | list[float]] = {}
    ratios_of: dict[int, list[float]] = {1: [], 2: []}
    num_seen = sizes.num_training + sizes.num_validation
    for seed in seeds:
        clips = make_synthetic_clips(
            num_seen + sizes.num_test, num_frames=NUM_FRAMES, image_size=IMAGE_SIZE, seed=seed
        )
        test = part_of(clips, slice(num_seen, None))
        with tempfile.TemporaryDirectory() as folder:
            for stage, model in enumerate(train(clips, sizes, seed, Path(folder)), 1):
                found = measure(model, test)
                ratios_of[stage].append(found["object"].mean)
                print(f"seed {seed}, stage {stage}")
                for name, (mean, low, high) in found.items():
                    print(f"  {name:12}{mean:6.2f} [{low:.2f}, {high:.2f}]", flush=True)
                    cell = [round(value, 3) for value in (mean, low, high)]
                    result[f"seed{seed}_stage{stage}_{name}"] = cell
    for stage, means in ratios_of.items():
        result[f"stage{stage}_ratio"] = round(min(means), 3)
        print(f"lowest ratio of a seed after stage {stage}: {min(means):.2f}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
