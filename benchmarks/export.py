"""What an export costs: size, speed and accuracy of each precision against the Keras model.

python benchmarks/export.py --quick --json
python benchmarks/export.py --runs runs/

RUNS holds what `tfvlad train` has written for the same splits: `action-vlad`, and as many as there
are of `flow` (an ActionVLAD on optical flow, fused late with the former), `attention-lstm`,
`ta-vlad` and others whose name begins with `ta-vlad-`. Each model is converted in every precision;
int8 is calibrated on clips of the training list. The whole test lists go through the Keras model
and through the files: accuracy of both, the share of the clips with the same top class
(`agreement`; `clear`: of the half of the clips whose top class is the furthest ahead), the largest
difference of a class probability (`largest`) and the mean over the clips of each clip's largest
(`mean`).

Latency is that of a clip, batch 1, two threads on both sides, in turns: `of_keras` is the ratio to
Keras' `predict`, `of_float32` that to the float32 file.

With --quick there are no runs: the three systems have ImageNet's MobileNetV2 where TFVLAD_DATA
holds it, else random weights, and an untrained head. Their operations, sizes and latencies are
those of trained ones; accuracies are left out, and `agreement` is that on made clips.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from measure import alternating_medians
from rich.console import Console
from rich.table import Table

from export.artifact import load
from export.clips import clips_of, sources_of_run
from export.device.conversion import convert_litert, operations
from export.exportable import load_exportable
from export.parity import Clip, compare_probabilities, made_clips
from tfvlad import backbones, models
from tfvlad.models import ClipModel
from tfvlad.runs.config import load_config
from tfvlad.training import ClipSource

PRECISIONS = ("float32", "float16", "dynamic", "int8")
NUM_THREADS = 2
NUM_CALIBRATION_CLIPS = 64


def keras_probabilities(clip_model: ClipModel, clip: Clip) -> np.ndarray:
    """Of one clip, by `predict` with a batch of one."""
    inputs = [clip[stream][np.newaxis].astype("float32") for stream in clip_model.streams]
    scores = clip_model.model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    return clip_model.normalized(scores).numpy()[0]


def measure(
    clip_model: ClipModel,
    calibration: Iterable[Clip],
    clips: Iterable[Clip],
    labels: np.ndarray | None,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """The figures of each precision, and its answers for every clip."""
    calibration = list(calibration)
    with tempfile.TemporaryDirectory() as place:
        files = {name: Path(place) / f"{name}.tflite" for name in PRECISIONS}
        answers, found = {}, {}
        for name, path in files.items():
            needed = calibration if name == "int8" else None
            content = convert_litert(clip_model, precision=name, calibration_clips=needed)
            path.write_bytes(content)
            answers[name] = load(path, NUM_THREADS)["classify"]
            found[name] = {"bytes": len(content), "ops": operations(content)}
        expected: list[np.ndarray] = []
        answered: dict[str, list[np.ndarray]] = {name: [] for name in PRECISIONS}
        for clip in clips:
            expected.append(keras_probabilities(clip_model, clip))
            batch = {stream: frames[np.newaxis] for stream, frames in clip.items()}
            for name, answer in answers.items():
                answered[name].append(answer(batch))
        seconds = alternating_medians(
            {
                "keras": lambda: keras_probabilities(clip_model, clip),
                **{name: lambda run=run: run(batch) for name, run in answers.items()},
            },
            repeats,
        )
    for name, figures in found.items():
        figures |= {
            "latency_ms": 1000 * seconds[name],
            "of_keras": seconds[name] / seconds["keras"],
            "of_float32": seconds[name] / seconds["float32"],
            "expected": np.stack(expected),
            "answered": np.stack(answered[name]),
            "labels": labels,
        }
    return found


def summary(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One system in one precision, over the splits."""
    expected, answered = (
        np.concatenate([part[key] for part in parts]) for key in ("expected", "answered")
    )
    compared = compare_probabilities(expected, answered)
    row: dict[str, Any] = {
        "mb": parts[0]["bytes"] / 1e6,
        **{
            key: float(np.median([part[key] for part in parts]))
            for key in ("latency_ms", "of_keras", "of_float32")
        },
        "clips": len(expected),
        "agreement": compared.top1_agreement,
        "clear": compared.clear_top1_agreement,
        "largest": compared.largest_difference,
        "mean": compared.mean_difference,
        "ops": parts[0]["ops"],
    }
    if parts[0]["labels"] is not None:
        # The mean over the splits, as the papers have it.
        for key, column in (("keras_top1", "expected"), ("top1", "answered")):
            hits = [np.mean(part[column].argmax(-1) == part["labels"]) for part in parts]
            row[key] = float(np.mean(hits))
    return row


def trained_systems(
    runs: Path,
) -> Iterator[tuple[str, str, ClipModel, list[Clip], Iterator[Clip], np.ndarray]]:
    """Name, split, model, calibration clips, test clips and their labels of every run."""
    systems = {"attention LSTM": ["attention-lstm"]}
    systems |= {"ActionVLAD, two streams": ["action-vlad", "flow"]}
    systems |= {path.name: [path.name] for path in sorted(runs.glob("ta-vlad*"))}
    systems = {
        name: folders
        for name, folders in systems.items()
        if all((runs / folder).is_dir() for folder in folders)
    }
    splits = sorted(path.name for path in (runs / "action-vlad").glob("split*"))
    for split in splits:
        with tempfile.TemporaryDirectory() as place:
            streams = {
                part: sources(runs, split, part, count, Path(place))
                for part, count in (("train", NUM_CALIBRATION_CLIPS), ("test", None))
            }
            for name, folders in systems.items():
                paths = [runs / folder / split for folder in folders]
                clip_model = load_exportable(paths).clip_model
                own = [
                    {stream: found[stream] for stream in clip_model.inputs}
                    for found in (streams["train"], streams["test"])
                ]
                every = [range(len(next(iter(found.values())))) for found in own]
                for stream, shape in clip_model.inputs.items():
                    if own[1][stream].clip_shape != shape:
                        raise ValueError(f"{name} takes other clips than the action-vlad runs.")
                training, test = (clips_of(*pair) for pair in zip(own, every, strict=True))
                labels = next(iter(own[1].values())).labels
                yield name, split, clip_model, list(training), test, labels


def sources(
    runs: Path, split: str, part: str, count: int | None, place: Path
) -> dict[str, ClipSource]:
    """Frames and flow of a part of the split's list."""
    found: dict[str, ClipSource] = {}
    for name in ("action-vlad", "flow"):
        folder = runs / name / split
        if name == "flow" and not folder.is_dir():
            continue
        own = sources_of_run(folder, load_config(folder), part, place, count)
        if own is None:
            raise ValueError(f"The videos that {folder / 'lists.csv'} lists are missing.")
        found |= own.sources
    return found


def made_systems() -> Iterator[tuple[str, ClipModel]]:
    """The three systems on MobileNetV2 with untrained heads."""
    data = Path(os.environ.get("TFVLAD_DATA", "../shared/data"))
    file = data / "weights" / "mobilenet_v2_1.0_224_imagenet.h5"
    weights = str(file) if file.exists() else None
    keras.utils.set_random_seed(0)
    rgb = backbones.mobilenet_v2(weights=weights)
    sizes = {"num_frames": 12, "num_clusters": 32}
    names = tuple(map(str, range(8)))
    yield "ta-vlad", ClipModel(models.ta_vlad(rgb, 8, units=64, **sizes), names)
    flow = backbones.flow_backbone(backbones.mobilenet_v2(weights=weights))
    fused = models.two_stream(rgb, flow, 8, fusion="late", **sizes)
    yield "ActionVLAD, two streams", ClipModel(fused, names, ("frames", "flow"))
    extractor = backbones.feature_extractor(backbones.mobilenet_v2(weights=weights))
    lstm = models.attention_lstm(8, 1280, 1280)
    attending = models.end_to_end(lstm, extractor, extractor, num_frames=12)
    yield "attention LSTM", ClipModel(attending, names)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="folder of trained runs, see above")
    parser.add_argument("--quick", action="store_true", help="untrained models, made clips")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if bool(arguments.runs) == arguments.quick:
        parser.error("give either --runs RUNS or --quick")
    for set_threads in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        getattr(tf.config.threading, set_threads)(NUM_THREADS)
    console = Console(stderr=True)
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    if arguments.quick:
        for name, clip_model in made_systems():
            clips = made_clips(clip_model, num_clips=6)
            found = measure(clip_model, clips[:3], clips[3:], None, repeats=3)
            parts[name] = {precision: [figures] for precision, figures in found.items()}
    else:
        for name, split, clip_model, training, test, labels in trained_systems(arguments.runs):
            console.print(f"{name}, {split}")
            found = measure(clip_model, training, test, labels, repeats=15)
            for precision, figures in found.items():
                parts.setdefault(name, {}).setdefault(precision, []).append(figures)
    rows = {
        name: {precision: summary(figures) for precision, figures in found.items()}
        for name, found in parts.items()
    }
    if arguments.json:
        print(json.dumps({"num_threads": NUM_THREADS, "systems": rows}))
        return
    columns = [key for key in next(iter(rows.values()))["float32"] if key != "ops"]
    table = Table("system", "precision", *columns, box=None)
    for name, found in rows.items():
        for precision, row in found.items():
            table.add_row(name, precision, *(f"{row[key]:.3g}" for key in columns))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
