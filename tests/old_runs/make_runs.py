"""Makes the run folders beside it, with the code of version 0.1.0.

Later versions must read them: `tests/tfvlad/runs/test_old_runs.py`. They are made once, with the
last commit before a run became an object of the library, and kept; never make them with newer code.
To make them again, from the root of this repository:

    git worktree add --detach ../old 8f42f4d
    PYTHONPATH=../old python tests/old_runs/make_runs.py

Beside the run folders are the videos, the optical flow and the features of their test lists, and
`expected.json`: what the old code answered. Of a run folder's files, those that only a training
that goes on needs are left out. Paths begin with `/old/`: `copy_to` sets them right.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PLACE = Path(__file__).resolve().parent
RUNS = ("ta_vlad", "two_stream", "attention_lstm")
# The paths in the files of a run folder begin with it.
OLD_PLACE = "/old"
WEIGHTS = "mobilenet_v2.weights.h5"
LABELS = ("green", "red")


def write_weights(path: Path) -> None:
    """MobileNetV2's weights, nearly all of them zero and the others of few values.

    So a run folder takes little room in Git, and the file itself, the same on each machine, none.
    """
    import keras

    model = keras.applications.MobileNetV2(weights=None)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, offset, mean, variance = layer.get_weights()
            layer.set_weights([scale, offset, mean, np.ones_like(variance)])
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            values = np.zeros_like(kernel)
            # (h, w, inputs, outputs), or (inputs, outputs) of the dense layer
            some = values[..., :8, :] if values.shape[-1] == 1 else values[..., :8, :24]
            # So large that what the layers before have found still shows: most of a depthwise
            # kernel lies outside a map as small as the last ones.
            num_inputs = 3 if values.shape[-1] == 1 else np.prod(some.shape[:-1])
            some[:] = generator.integers(-8, 9, some.shape) / 8 * np.sqrt(6 / num_inputs).round(2)
            layer.set_weights([values, *(np.zeros_like(b) for b in bias)])
    model.save_weights(path)


def tfvlad(*arguments: object) -> str:
    """What the command prints."""
    code = "from tfvlad.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # Not from the root of this repository, whose code would be found first.
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=PLACE).stdout


def write_video(path: Path, color: int, seed: int) -> None:
    """A soft texture on one bright channel, which moves to the left or to the right."""
    import av
    import cv2

    generator = np.random.default_rng([seed, color])
    texture = cv2.resize(generator.integers(0, 256, (6, 20, 3)).astype("uint8"), (160, 48))
    texture = texture // 3
    texture[..., color] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            start = 3 * number if color else 80 - 3 * number
            image = np.ascontiguousarray(texture[:, start : start + 64])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_videos(folder: Path) -> None:
    """Folders `train` and `test` of the classes, and `labels.csv`, where some videos have both."""
    rows = ["path,label"]
    for part, count in (("train", 4), ("test", 2)):
        for color, label in enumerate(reversed(LABELS)):
            for number in range(count):
                path = folder / part / label / f"{number}.mp4"
                write_video(path, color, number + 10 * (part == "test"))
                labels = "|".join(LABELS) if number % 4 == 1 else label
                rows.append(f"{path.relative_to(folder)},{labels}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def make_runs(place: Path) -> None:
    """The videos, the flow, the features, and a run of each kind."""
    weights = place / WEIGHTS
    write_weights(weights)
    videos, flow = place / "videos", place / "flow"
    write_videos(videos)
    backbone = ("--backbone", "mobilenet_v2", "--weights", weights, "--image-size", 64)
    sizes = ("--frames", 3, "--clusters", 3, "--alpha", 10, "--epochs", 1, 1)
    small = (*backbone, *sizes, "--cached-crops", 1, "--batch-size", 4)
    tfvlad("train", videos, place / "ta_vlad", *small, "--units", 4, "--freeze-attention")
    tfvlad("flow", videos, flow, "--method", "dis", "--short-side", 48)
    tfvlad(
        *("train", videos, place / "two_stream", "--model", "two-stream", "--flow", flow, *small),
        *("--fusion", "early", "--stack-frames", 3, "--aggregate-at", "block_2_add"),
        *("--lists", videos / "labels.csv", "--recipe", "action-vlad"),
        *("--learning-rates", 0.1, 0.001),
    )
    features = place / "features"
    for name, layer in (("steps", "block_2_add"), ("attended", "block_3_project")):
        tfvlad(
            *("features", videos, features / name, "--weights", weights, "--layer", layer),
            *("--frame-step", 2, "--image-size", 32),
        )
    tfvlad(
        *("train", features / "steps", place / "attention_lstm", "--model", "attention-lstm"),
        *("--attended", features / "attended", "--steps", 3, "--attended-steps", 4),
        *("--chunk-frames", 12, "--units", 4, "--matching-units", 4, "--batch-size", 4),
        *("--dropout", 0, "--max-epochs", 8, "--learning-rate", 0.3),
    )


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """A made clip of the shape, uint8."""
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def answers(place: Path) -> dict[str, dict]:
    """What the old code answers: of each run what is predicted of videos, and of a made clip."""
    from tfvlad.cli.exportable import load_exportable

    videos = sorted((place / "videos" / "test").rglob("*.mp4"))
    found = {}
    for name in RUNS:
        told = json.loads(tfvlad("predict", place / name, *videos, "--json"))
        predictions = {
            Path(path).relative_to(place).as_posix(): {
                row["class"]: row["probability"] for row in rows
            }
            for path, rows in told["predictions"].items()
        }
        values = np.array([[row[label] for label in LABELS] for row in predictions.values()])
        assert np.ptp(values, axis=0).min() > 0.02, f"{name} says the same of all: {values}"
        clip_model = load_exportable([str(place / name)]).clip_model
        clip = {stream: noise((1, *shape)) for stream, shape in clip_model.inputs.items()}
        probabilities = clip_model.probabilities(clip).numpy()[0].astype(float)
        found[name] = {"predictions": predictions, "clip": probabilities.round(6).tolist()}
    return found


def keep(place: Path) -> None:
    """Move what is kept beside this file."""
    for name in RUNS:
        run = place / name
        for folder in ("tensorboard", "features", "stage1"):
            shutil.rmtree(run / folder, ignore_errors=True)
        for pattern in ("*videos.json", "state.npz", "stage*.keras", "confusion.png"):
            for path in run.glob(pattern):
                path.unlink()
    for folder in (place / "features").iterdir():
        shutil.rmtree(folder / "train")
    with open(place / "two_stream" / "lists.csv", newline="") as file:
        others = [row["path"] for row in csv.DictReader(file) if row["part"] != "test"]
    for path in others:
        shutil.rmtree(place / "flow" / Path(path).relative_to(place / "videos").with_suffix(""))
    _replace_paths(place, f"{place}/", f"{OLD_PLACE}/")
    for name in (*RUNS, "features", "flow", "videos"):
        shutil.rmtree(PLACE / name, ignore_errors=True)
        shutil.move(place / name, PLACE / name)


def copy_to(place: Path) -> None:
    """Copy all that is kept to a folder, and make the weights there, as the runs' files say it."""
    for name in (*RUNS, "features", "flow", "videos"):
        shutil.copytree(PLACE / name, place / name)
    _replace_paths(place, f"{OLD_PLACE}/", f"{place}/")
    write_weights(place / WEIGHTS)


def _replace_paths(place: Path, before: str, after: str) -> None:
    for path in place.rglob("*"):
        if path.suffix in (".json", ".csv"):
            path.write_text(path.read_text().replace(before, after))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_runs(place)
        expected = answers(place)
        keep(place)
    (PLACE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
