"""How much of the decoder's speed reaches the network's input?

Short clips: video files -> sampled frames -> corner crops of 224 px -> batches of 16 clips, against
decoding alone (every frame decoded, none converted), both with two threads. The videos are checked
once beforehand, as training does. Long videos: 25 frames each of minute-long files, by key frames
against one sequential pass. The runs alternate, because the speed of a shared machine drifts; the
ratios are medians over the rounds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

from pipelines import VideoClipSource, index_videos, read_folder, read_frames, uniform_indices

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NUM_FRAMES = 25
NUM_THREADS = 2


def decode_alone(path: str) -> None:
    with av.open(path, metadata_errors="replace") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def write_long_video(path: str, seed: int, num_frames: int = 1800) -> None:
    """Encodes a minute of a drifting picture: H.264, 340 x 256, a key frame every 250 frames."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(16, 236, (60, 80), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    with av.open(path, "w") as container:
        options = {"g": "250", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        planes = np.full((384, 340), 128, np.uint8)  # luma above the two chroma planes
        for t in range(num_frames):
            left, top = (3 * t) % 900, int(300 + 250 * np.sin(t / 40))
            planes[:256] = picture[top : top + 256, left : left + 340]
            planes[100:160, 100:160] = t % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


def per_second(run: Callable[[], int]) -> float:
    """Returns how many items a second `run`, which returns their number, deals with."""
    begin = time.perf_counter()
    return run() / (time.perf_counter() - begin)


def in_threads(function: Callable[[str], object], paths: list[str]) -> int:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return len(list(pool.map(function, paths)))


def compare(
    title: str, runs: dict[str, Callable[[], int]], num_rounds: int, budget_seconds: float
) -> float:
    """Alternates two runs and returns the median of the second's speed over the first's."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    deadline = time.perf_counter() + budget_seconds
    for round_number in range(num_rounds):
        if round_number > 1 and time.perf_counter() > deadline:
            break
        for name, run in runs.items():
            speeds[name].append(per_second(run))
    print(f"\n{title}")
    for name, values in speeds.items():
        print(f"  {name:<34}{statistics.median(values):8.1f} clips/s  (n={len(values)})")
    first, second = speeds.values()
    return statistics.median(b / a for a, b in zip(first, second, strict=True))


def short_clips(data: Path, num_videos: int, num_rounds: int, budget_seconds: float) -> float:
    annotations = read_folder(str(data / "jhmdb8" / "videos"))
    step = max(len(annotations.records) // num_videos, 1)
    records = annotations.records[::step][:num_videos]
    paths = [record.path for record in records]
    source = VideoClipSource(
        records,
        annotations.class_names,
        index=index_videos(paths, NUM_THREADS, progress=False),
        num_frames=NUM_FRAMES,
        num_workers=NUM_THREADS,
    )
    dataset = source.dataset(batch_size=16, shuffle=True, augment=True)
    runs = {
        "decoding alone": lambda: in_threads(decode_alone, paths),
        "files to batches": lambda: sum(len(labels) for _, labels in dataset),
    }
    for run in runs.values():  # file cache, TensorFlow's first iteration
        run()
    return compare(f"{len(paths)} clips of jhmdb8", runs, num_rounds, budget_seconds)


def long_videos(num_videos: int, num_rounds: int, budget_seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, f"{seed}.mp4") for seed in range(num_videos)]
        for seed, path in enumerate(paths):
            write_long_video(path, seed)
        index = index_videos(paths, NUM_THREADS, progress=False)

        def sequential(path: str) -> np.ndarray:
            return read_frames(path, uniform_indices(index[path].num_frames, NUM_FRAMES))

        def by_key_frames(path: str) -> np.ndarray:
            indices = uniform_indices(index[path].num_frames, NUM_FRAMES)
            return read_frames(path, indices, info=index[path])

        for path in paths[:1]:
            if not np.array_equal(sequential(path), by_key_frames(path)):
                raise RuntimeError("Key-frame reading returned other frames than one pass.")
        runs = {
            "one sequential pass": lambda: in_threads(sequential, paths),
            "by key frames": lambda: in_threads(by_key_frames, paths),
        }
        return compare(f"{num_videos} minute-long videos", runs, num_rounds, budget_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer clips and rounds (40 s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    data = Path(os.environ.get("TFVLAD_DATA", DEFAULT_DATA))
    if not (data / "jhmdb8").is_dir():
        parser.exit(1, f"No jhmdb8 in {data}. Set TFVLAD_DATA to the folder that holds it.\n")
    num_clips, num_rounds, budget_seconds = (96, 5, 6.0) if arguments.quick else (344, 9, 120.0)
    share = short_clips(data, num_clips, num_rounds, budget_seconds)
    ratio = long_videos(2 if arguments.quick else 4, num_rounds, budget_seconds / 2)
    print(f"\nshare_of_decoding {share:.2f}, long_ratio {ratio:.2f}")
    if arguments.json:
        print(json.dumps({"share_of_decoding": round(share, 3), "long_ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
