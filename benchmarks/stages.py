"""An epoch on cached features against one through the whole backbone, decoding not counted.

python benchmarks/stages.py --quick --json

MobileNetV2 with random weights, 25 frames of 224x224, batches of 16 clips (3 with --quick).
`stage1_ratio` is the smaller one of average pooling's and TA-VLAD's with K=32, U=64;
`stage1_ratio_paper` is TA-VLAD's with K=64, U=256; `stage2_ratio` frees the last block.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from measure import alternating_medians

from tfvlad import models
from tfvlad.backbones import mobilenet_v2
from tfvlad.models import parts_of
from tfvlad.training import CachedClips, frozen_part, trained_part

NUM_FRAMES, NUM_CLASSES = 25, 10
STAGE_1 = ("shared_gru", "logits")


def maps_on_disk(network: keras.Model, frames: np.ndarray, folder: str) -> np.ndarray:
    """float16 maps of the clips `(n, T, H, W, 3)`, as a memory map."""
    path = os.path.join(folder, f"{network.name}.npy")
    if not os.path.exists(path):
        maps = [network(clip.astype("float32"), training=False).numpy() for clip in frames]
        np.save(path, np.stack(maps).astype("float16"))
    return np.load(path, mmap_mode="r")


def epochs(
    model: keras.Model,
    freed_block: str | None,
    frames: np.ndarray,
    folder: str,
) -> dict[str, Callable[[], object]]:
    """One epoch through the whole model, and one from cached maps, with the same layers trained."""
    parts = parts_of(model)
    (backbone,) = parts.backbones
    frozen = frozen_part(backbone, freed_block)
    trained = trained_part(model, freed_block)
    backbone.set_trainable(freed_block)
    for layer in parts.head_layers:
        layer.trainable = freed_block is not None or layer.name in STAGE_1
    labels = np.arange(len(frames), dtype="int32") % NUM_CLASSES
    whole_data = tf.data.Dataset.from_tensors((frames, labels))
    cached_data = CachedClips([maps_on_disk(frozen, frames, folder)], labels).dataset(
        len(frames), shuffle=True
    )
    found = {}
    for name, network, data in (("whole", model, whole_data), ("cached", trained, cached_data)):
        network.compile(
            keras.optimizers.Adam(1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        found[name] = lambda network=network, data=data: network.fit(
            data, epochs=1, verbose=0, shuffle=False
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="batch 3, few repeats (under 40 s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    num_clips, repeats = (3, 1) if arguments.quick else (16, 3)

    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (num_clips, NUM_FRAMES, 224, 224, 3), dtype=np.uint8)
    cases = {
        "average_pooling": (models.average_pooling, {}, False),
        "ta_vlad": (models.ta_vlad, {"num_clusters": 32, "units": 64}, False),
        "ta_vlad_paper": (models.ta_vlad, {}, False),
        "ta_vlad_stage2": (models.ta_vlad, {"num_clusters": 32, "units": 64}, True),
    }
    ratios = {}
    backbone = mobilenet_v2(weights=None)
    print(f"{'':18}{'whole s':>9}{'cached s':>9}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (builder, options, frees) in cases.items():
            model = builder(backbone, NUM_CLASSES, num_frames=NUM_FRAMES, **options)
            block = list(backbone.blocks)[-1] if frees else None
            seconds = alternating_medians(epochs(model, block, frames, folder), repeats)
            ratios[name] = seconds["whole"] / seconds["cached"]
            print(
                f"{name:18}{seconds['whole']:9.2f}{seconds['cached']:9.3f}{ratios[name]:8.1f}",
                flush=True,
            )
    result = {
        "stage1_ratio": min(ratios["average_pooling"], ratios["ta_vlad"]),
        "stage1_ratio_average_pooling": ratios["average_pooling"],
        "stage1_ratio_ta_vlad": ratios["ta_vlad"],
        "stage1_ratio_paper": ratios["ta_vlad_paper"],
        "stage2_ratio": ratios["ta_vlad_stage2"],
    }
    if arguments.json:
        print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
