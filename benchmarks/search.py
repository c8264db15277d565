"""A search: memory over its trials, and two workers against one.

python benchmarks/search.py --quick --json

TA-VLAD on MobileNetV2 with random weights, 96x96, and made videos. `memory`: resident memory after
the third and the last of 30 trials (12 with --quick) of one process, which builds the backbone anew
in each trial. `workers`: trials a minute of one `tfvlad tune` with two threads, and of two workers
with one thread each and a chief, on the same cached features, one search after the other; counted
from the first trial's begin to the last one's end, without the start of the processes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measure  # noqa: F401 (puts the project's root on the path)
import psutil

import tuning
from pipelines.clips.video_clips import VideoClipSource
from pipelines.lists.annotations import read_folder
from pipelines.lists.records import split_validation
from pipelines.synthetic.videos import make_synthetic_videos
from tfvlad.backbones import mobilenet_v2
from tfvlad.training import FeatureCache, Stage

NUM_FRAMES, SIZE, EARLY = 6, 96, 3


class MeasuredHyperModel(tuning.TAVLADHyperModel):
    """Notes the resident memory after every trial, MiB."""

    resident: list[float]

    def fit(self, *arguments: Any, **options: Any) -> dict[str, float]:
        metrics = super().fit(*arguments, **options)
        self.resident.append(psutil.Process().memory_info().rss / 2**20)
        return metrics


def sizes(hp: Any) -> dict[str, Any]:
    return {
        "num_clusters": hp.Choice("num_clusters", [4, 6, 8, 12, 16, 24]),
        "units": hp.Choice("units", [8, 12, 16, 24, 32, 48]),
    }


def memory(videos: Path, folder: Path, num_trials: int) -> dict[str, Any]:
    found = read_folder(str(videos / "train"))
    training, validation = (
        VideoClipSource(
            records, found.class_names, num_frames=NUM_FRAMES, image_size=SIZE, short_side=110
        )
        for records in split_validation(found.records, 0.3, 0)
    )
    hyper_model = MeasuredHyperModel(
        lambda: mobilenet_v2(weights=None, image_size=SIZE),
        len(found.class_names),
        space=sizes,
        fixed={"num_frames": NUM_FRAMES},
        stages=[Stage(epochs=2, learning_rate=0.01)],
        cache=FeatureCache(folder / "features"),
        num_cached_crops=1,
    )
    hyper_model.resident = []
    options = {"algorithm": "random", "max_trials": num_trials}
    trials = tuning.search(hyper_model, training, validation, folder / "search", **options)
    resident = hyper_model.resident
    return {
        "trials": len(resident),
        "early_mib": round(resident[EARLY - 1]),
        "late_mib": round(resident[-1]),
        "ratio": round(resident[-1] / resident[EARLY - 1], 3),
        "extraction_seconds": [trial.metrics["extraction_seconds"] for trial in trials],
    }


def workers(videos: Path, folder: Path, num_trials: int) -> dict[str, float]:
    shared = [
        *("--backbone", "mobilenet_v2", "--weights", "none", "--image-size", str(SIZE)),
        *("--frames", str(NUM_FRAMES), "--cached-crops", "1", "--epochs", "10", "0"),
        *("--patience", "10", "--algorithm", "random", "--cache", str(folder / "features")),
        # Trials that cost alike: the training alone is searched.
        *("--clusters", "32", "--units", "64", "--bidirectional", "--attention"),
    ]

    def tune(name: str, threads: int, *options: str) -> subprocess.Popen:
        command = "from tfvlad_cli.main import main; main()"
        place = [str(videos), str(folder / name)]
        environment = {"TF_NUM_INTRAOP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        return subprocess.Popen(
            [sys.executable, "-c", command, "tune", *place, *shared, *options],
            env={**os.environ, **environment},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def finish(*processes: subprocess.Popen) -> None:
        if any(process.wait() for process in processes):
            raise SystemExit("A search has failed.")

    finish(tune("first", 2, "--max-trials", "1"))  # computes the features
    trials = "--max-trials", str(num_trials)
    finish(tune("alone", 2, *trials))
    address = f"127.0.0.1:{free_port()}"
    chief = tune("shared", 1, *trials, "--chief", address)
    finish(*(tune("shared", 1, *trials, "--worker", address, name) for name in "ab"), chief)
    rates = {name: trials_per_minute(folder / name) for name in ("alone", "shared")}
    return {**rates, "ratio": round(rates["shared"] / rates["alone"], 2)}


def trials_per_minute(folder: Path) -> float:
    trials = tuning.read_trials(folder)
    ends = [(trial.folder / "trial.json").stat().st_mtime for trial in trials]
    begins = [end - t.metrics["seconds"] for end, t in zip(ends, trials, strict=True)]
    return round(60 * len(trials) / (max(ends) - min(begins)), 2)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        videos = Path(place) / "videos"
        make_synthetic_videos(videos, num_classes=4, num_train_clips=16, num_test_clips=2)
        result = {
            "memory": memory(videos, Path(place) / "memory", 12 if options.quick else 30),
            "workers": workers(videos, Path(place) / "workers", 6 if options.quick else 16),
        }
    if options.json:
        print(json.dumps(result))
        return
    for question, measured in result.items():
        print(question, measured)


if __name__ == "__main__":
    main()
