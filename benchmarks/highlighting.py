"""Where `tfvlad highlight` looks in untrimmed videos, against uniform weights and two controls.

python benchmarks/highlighting.py --quick --json --features FOLDER

Four classes of jhmdb8, the first by name, are learnt from the training list of split 1. Each video
is a test clip of one of them between two test clips of the four classes that the model never saw,
whose names it cannot say. The ratio is the share of the scores that falls into the true interval
over the share of the time that it has: 1 for weights that tell nothing. The mean over the videos
comes with its 95 % bootstrap interval.

`highlight`: the scores of `tfvlad highlight` with its default options; the class is the model's own
choice, and `recognised` is the share of the videos where it is the right one. `named`: the same
with `--class`, the right one. `whole`: the attention over the whole video as one chunk. `shuffled`:
the model is shown the video's frames in a random order and the scores are put back to the frames:
what a frame looks like is left, what belongs together in time is not. A row has the mean over three
trainings, or three draws of random weights. The models attend to MobileNetV2's pooled features, or
to its class scores, of other frames than the input data. TA-VLAD's attributions stand beside them.

The features are extracted once into --features, 15 minutes on two cores; --quick takes 12 videos,
one training and the pooled features alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from pipelines.lists.official_lists import read_hmdb51
from pipelines.lists.records import VideoRecord
from pipelines.video.codec.decoding import check_video
from pipelines.video.codec.editing import join_videos
from pipelines.video.info import VideoInfo
from tfvlad.evaluation import Estimate, attention_share, bootstrap_mean
from tfvlad.highlights import (
    ChunkInput,
    ChunkModel,
    ChunkPredictions,
    VideoHighlights,
    find_highlights,
)
from tfvlad.highlights.chunk_models import attending
from tfvlad.runs import Run
from tfvlad.runs.networks import build_feature_model

DEFAULT_DATA = Path(__file__).parents[1] / "../shared/data"
WEIGHTS = "weights/mobilenet_v2_1.0_224_imagenet.h5"
LAYERS = ("pooled", "scores")
NUM_CLASSES = 4
SPLIT = 1
# A chunk is the whole clip: none of jhmdb8 is longer than 40 frames.
ATTENTION_LSTM = (
    *("--model", "attention-lstm", "--sampling", "uniform"),
    *("--batch-size", "32", "--max-epochs", "60", "--patience", "15", "--test-chunks", "1"),
)
TA_VLAD = (
    *("--model", "ta-vlad", "--frames", "12", "--clusters", "32", "--units", "64"),
    *("--epochs", "30", "0", "--learning-rates", "3e-3", "1e-4"),
)


class JoinedVideo(NamedTuple):
    """A video, what is known of it, and the (start, end) of its action in seconds."""

    path: str
    info: VideoInfo
    interval: tuple[float, float]
    label: int


@dataclass(frozen=True, eq=False)
class StoredInput(ChunkInput):
    """A `ChunkInput` whose features are known: one a row, in the order that the model sees."""

    features: np.ndarray

    def read(self, path: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        yield from self.features[rows]


def tfvlad(*arguments: object) -> None:
    """Run the command."""
    code = "from tfvlad_cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def extract(data: Path, folder: Path, layers: Sequence[str]) -> dict[str, Path]:
    """Feature sets of all frames, unless they are there."""
    for layer in layers:
        options = ("--layer", layer, "--weights", data / WEIGHTS, "--frame-step", 1)
        tfvlad("features", data / "jhmdb8" / "videos", folder / layer, *options)
    return {layer: folder / layer for layer in layers}


def write_lists(data: Path, folder: Path) -> tuple[Path, Path]:
    """The official lists of the classes that are learnt, and of the others."""
    names = sorted(path.name for path in (data / "jhmdb8" / "videos").iterdir())
    places = folder / "learnt", folder / "others"
    for place, classes in zip(places, (names[:NUM_CLASSES], names[NUM_CLASSES:]), strict=True):
        place.mkdir()
        for name in classes:
            for path in (data / "jhmdb8" / "splits").glob(f"{name}_test_split*.txt"):
                shutil.copy(path, place)
    return places


def join(data: Path, lists: tuple[Path, Path], folder: Path, count: int) -> list[JoinedVideo]:
    """Test clips of the learnt classes, each between two of the others."""
    generator = np.random.default_rng(0)
    videos = str(data / "jhmdb8" / "videos")
    actions, others = (read_hmdb51(videos, str(place), SPLIT).test for place in lists)
    chosen = generator.permutation(len(actions))[:count]
    joined = []
    for number, i in enumerate(chosen):
        before, after = (others[j].path for j in generator.choice(len(others), 2, replace=False))
        path = str(folder / f"{number}.mp4")
        action: VideoRecord = actions[i]
        intervals = join_videos([before, action.path, after], path)
        joined.append(JoinedVideo(path, check_video(path), intervals[1], action.labels[0]))
    return joined


def with_known_features(model: ChunkModel, video: JoinedVideo) -> ChunkModel:
    """The model, to be used on this video alone, with the features of all frames at hand."""
    every = np.arange(video.info.num_frames)[np.newaxis]
    stored = [
        StoredInput(**vars(one), features=next(one.read(video.path, every))) for one in model.inputs
    ]
    return replace(model, inputs=stored)


def predict(
    model: ChunkModel, video: JoinedVideo, order: np.ndarray | None = None
) -> ChunkPredictions:
    """Predictions of a model with known features, that sees the frames in the given order."""
    if order is not None:
        shuffled = [replace(one, features=one.features[order]) for one in model.inputs]
        model = replace(model, inputs=shuffled)
    found = model.predictions(video.path, video.info.num_frames)
    return found if order is None else found._replace(frames=order[found.frames])


def measure(model: ChunkModel, video: JoinedVideo, order: np.ndarray) -> dict[str, float]:
    """The ratios of a model with known features."""
    seconds = video.info.frame_seconds()
    start, end = video.interval
    inside = (seconds >= start - 1e-6) & (seconds < end - 1e-6)

    def ratio(result: VideoHighlights) -> float:
        # A row's score counts as long as the row lasts.
        scores = result.scores[np.searchsorted(result.starts, seconds, side="right") - 1]
        return attention_share(scores, inside).ratio

    found = {}
    for name, frames in (("highlight", model.chunk_frames), ("whole", video.info.num_frames)):
        sized = replace(model, chunk_frames=frames)
        for suffix, shown in (("", None), (" shuffled", order)):
            shown_chunks = predict(sized, video, shown)
            result = find_highlights(shown_chunks, sized, video.path, video.info)
            found[name + suffix] = ratio(result)
            if name + suffix == "highlight":
                label = sized.class_names[video.label]
                found["recognised"] = float(result.class_name == label)
                found["named"] = ratio(
                    find_highlights(shown_chunks, sized, video.path, video.info, label)
                )
    return found


def measure_all(
    models: Mapping[str, Sequence[ChunkModel]], videos: Sequence[JoinedVideo]
) -> dict[str, dict[str, Estimate]]:
    """The means of every measure over the videos and the models of a name.

    The models read the same features.
    """
    values: dict[str, dict[str, list[float]]] = {name: {} for name in models}
    for number, video in enumerate(videos):
        order = np.random.default_rng(number).permutation(video.info.num_frames)
        known = with_known_features(next(iter(models.values()))[0], video)
        for name, group in models.items():
            for model in group:
                one = replace(known, predict=model.predict)
                for measure_name, value in measure(one, video, order).items():
                    values[name].setdefault(measure_name, []).append(value)
    return {
        name: {
            key: bootstrap_mean(found, clips=np.repeat(np.arange(len(videos)), len(models[name])))
            for key, found in measures.items()
        }
        for name, measures in values.items()
    }


def attention_lstms(attended: str, folders: Sequence[Path]) -> dict[str, list[ChunkModel]]:
    """The trained models, and as many with random weights."""
    runs = [Run(folder) for folder in folders]
    trained = [run.chunk_model for run in runs]
    random = []
    for seed, model in enumerate(trained):
        keras.utils.set_random_seed(1000 + seed)
        random.append(replace(model, predict=attending(build_feature_model(runs[0].config))))
    return {f"attention LSTM, {attended}": trained, f"random weights, {attended}": random}


def show(results: Mapping[str, Mapping[str, Estimate]]) -> None:
    measures = list(next(iter(results.values())))
    print(f"{'':24}" + "".join(f"{name:>20}" for name in measures))
    for name, found in results.items():
        cells = (found[measure] for measure in measures)
        shown = (f"{cell.mean:.2f} [{cell.low:.2f}, {cell.high:.2f}]" for cell in cells)
        print(f"{name:24}" + "".join(f"{cell:>20}" for cell in shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="12 videos, one seed, no TA-VLAD")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--features", type=Path, help="folder that keeps the extracted features")
    arguments = parser.parse_args()
    data = Path(os.environ.get("TFVLAD_DATA", DEFAULT_DATA))
    if not (data / "jhmdb8").is_dir():
        parser.exit(1, f"No jhmdb8 in {data}. Set TFVLAD_DATA to the folder that holds it.\n")
    num_videos, num_seeds, layers = (12, 1, LAYERS[:1]) if arguments.quick else (50, 3, LAYERS)
    results: dict[str, dict[str, Estimate]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        features = extract(data, arguments.features or place, layers)
        lists = write_lists(data, place)
        videos = join(data, lists, place, num_videos)
        for layer, attended in features.items():
            folders = [place / f"{layer}{seed}" for seed in range(num_seeds)]
            for seed, folder in enumerate(folders):
                options = ("--attended", attended, "--lists", lists[0], "--seed", seed)
                tfvlad("train", features["pooled"], folder, *ATTENTION_LSTM, *options)
            results |= measure_all(attention_lstms(layer, folders), videos)
        if not arguments.quick:
            options = ("--weights", data / WEIGHTS, "--lists", lists[0])
            tfvlad("train", data / "jhmdb8" / "videos", place / "ta-vlad", *TA_VLAD, *options)
            results |= measure_all({"TA-VLAD": [Run(place / "ta-vlad").chunk_model]}, videos)
    show(results)
    if arguments.json:
        flat = {
            f"{name} {measure}".lower().replace(",", "").replace(" ", "_").replace("-", "_"): found
            for name, measures in results.items()
            for measure, found in measures.items()
        }
        print(
            json.dumps({name: [round(value, 3) for value in cell] for name, cell in flat.items()})
        )


if __name__ == "__main__":
    main()
