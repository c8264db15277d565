"""`tfvlad highlight` on a video of one hour: memory, and time beside that of decoding alone.

python benchmarks/long_video.py --quick --json

The video is a minute of moving scenes, 320x240 at 25 frames a second, shown 60 times (10 times with
--quick). The attention LSTM reads MobileNetV2's features, 12 frames of each chunk of 192; it is
trained for an epoch on a few made videos, and the network's weights are random. Both measurements
run in a process of their own: `peak_gib` is the largest resident memory of the one that highlights,
and its time has everything in it from the start of Python to the pictures; the other one decodes
every frame and converts none, in one thread like the first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from pipelines.synthetic.places import PLACES
from pipelines.synthetic.scenes import Scene
from pipelines.synthetic.things import THINGS
from pipelines.synthetic.videos import make_synthetic_videos
from pipelines.video.codec.editing import repeat_video
from pipelines.video.codec.encoding import write_video

HEIGHT, WIDTH, FRAMES_PER_SECOND = 240, 320, 25
NUM_SCENES, SCENE_FRAMES = 10, 150
TFVLAD = "from tfvlad_cli.main import main; main()"
DECODE = (
    "import sys; from pipelines.video.codec.decoding import check_video; check_video(sys.argv[1])"
)


def minute() -> Iterator[np.ndarray]:
    """Frames of ten scenes of six seconds."""
    for number in range(NUM_SCENES):
        generator = np.random.default_rng(number)
        thing, place = THINGS[number % len(THINGS)], PLACES[number % len(PLACES)]
        scene = Scene(thing, place, WIDTH, generator)
        for time_in_scene in np.linspace(0, 1, SCENE_FRAMES):
            top = (WIDTH - HEIGHT) // 2
            yield scene.draw(time_in_scene, time_in_scene)[top : top + HEIGHT]


def measured(code: str, *arguments: object) -> tuple[float, float]:
    """Seconds and largest resident GiB of a Python process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed.")
    # KiB; bytes on macOS.
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def train(folder: Path) -> Path:
    """A run on made videos."""
    make_synthetic_videos(
        folder / "videos", num_classes=2, num_train_clips=8, num_test_clips=2, image_size=80
    )
    extract = ("features", folder / "videos", folder / "features", "--weights", "none")
    measured(TFVLAD, *extract, "--no-flipped")
    model = ("--model", "attention-lstm", "--max-epochs", 1, "--test-chunks", 1)
    measured(TFVLAD, "train", folder / "features", folder / "run", *model)
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="ten minutes instead of an hour")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    num_minutes = 10 if arguments.quick else 60
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_video(folder / "minute.mp4", minute(), FRAMES_PER_SECOND)
        video = folder / "long.mp4"
        repeat_video(folder / "minute.mp4", num_minutes, video)
        run = train(folder)
        decoding_seconds, _ = measured(DECODE, video)
        seconds, peak_gib = measured(
            TFVLAD, "highlight", run, video, "--output", folder / "highlights"
        )
    result = {
        "peak_gib": peak_gib,
        "seconds_per_minute": seconds / num_minutes,
        "decoding_seconds_per_minute": decoding_seconds / num_minutes,
        "ratio": seconds / decoding_seconds,
    }
    print(f"{num_minutes} minutes of video: {peak_gib:.2f} GiB at most")
    print(f"highlighting {seconds / num_minutes:6.2f} s a minute")
    print(f"decoding     {decoding_seconds / num_minutes:6.2f} s a minute")
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
