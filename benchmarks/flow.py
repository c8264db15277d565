"""How many flow frames a second does `tfvlad flow` compute, and what do two workers gain?

Made videos of a drifting, turning, noisy picture (320 x 240, computed at 341 x 256), from files to
JPEG pairs. Two workers against one, for each method that the installed OpenCV has; the runs
alternate, and the figures are medians. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from measure import alternating_medians

from pipelines.flow.extraction import extract_flow
from pipelines.flow.optical_flow import flow_methods
from pipelines.video.codec.encoding import write_video

# A method's share of the videos, so that each run takes about as long.
NUM_VIDEOS = {"tvl1": 4, "dis": 40, "farneback": 20}


def write_moving_picture(path: str, seed: int, num_frames: int) -> None:
    """Encodes a picture that drifts and turns, under the noise of a camera."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (480, 560, 3)).astype(np.float32), (0, 0), 3)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    velocity = rng.uniform(-4, 4, 2)

    def frame(time: int) -> np.ndarray:
        turn = cv2.getRotationMatrix2D((280, 240), time, 1.0)
        turn[:, 2] += velocity * time - (120, 120)
        image = cv2.warpAffine(picture, turn, (320, 240), borderMode=cv2.BORDER_REFLECT)
        return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)

    write_video(path, map(frame, range(num_frames)), 25.0)


def compute(videos: list[str], root: str, method: str, num_workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = {"method": method, "num_workers": num_workers, "progress": False}
        extract_flow(videos, folder, root=root, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames and rounds (1 minute)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    num_frames, repeats = (9, 3) if arguments.quick else (31, 5)
    print(f"{os.cpu_count()} processors, OpenCV {cv2.__version__}")
    results = {}
    with tempfile.TemporaryDirectory() as root:
        videos = [str(Path(root) / f"{i}.mp4") for i in range(max(NUM_VIDEOS.values()))]
        for seed, video in enumerate(videos):
            write_moving_picture(video, seed, num_frames)
        for method in flow_methods():
            chosen = videos[: NUM_VIDEOS[method]]
            runs: dict[str, Callable[[], None]] = {
                str(n): partial(compute, chosen, root, method, n) for n in (1, 2)
            }
            seconds = alternating_medians(runs, repeats, warmups=0)
            speeds = [len(chosen) * (num_frames - 1) / seconds[n] for n in ("1", "2")]
            results[method] = {
                "frames_per_second": round(speeds[0], 2),
                "frames_per_second_2_workers": round(speeds[1], 2),
                "ratio": round(speeds[1] / speeds[0], 3),
            }
            print(
                f"{method:<10}{speeds[0]:8.1f} flow frames/s, two workers{speeds[1]:8.1f}: "
                f"{speeds[1] / speeds[0]:.2f} times as many"
            )
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
