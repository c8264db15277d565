"""Runs an exported file as its users will: in a process that holds nothing of tfvlad.

`python -m export.artifact ARTIFACT CLIPS.npz ANSWERS.npz NUM_THREADS` feeds each clip to the
artifact, a folder with a SavedModel or a LiteRT file, and writes its class probabilities.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]

# What a per-frame signature calls the frame of each stream; its other inputs are states.
FRAME_INPUTS = {"frames": "frame", "flow": "flow"}


def load(path: Path, num_threads: int | None = None) -> Callable[[Arrays], np.ndarray]:
    """From clips `(1, T, H, W, channels)`, by stream, to class probabilities `(C,)`."""
    return _load_saved_model(path) if path.is_dir() else _load_litert(path, num_threads)


def _load_saved_model(path: Path) -> Callable[[Arrays], np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def answer(clip: Arrays) -> np.ndarray:
        signature = loaded.signatures["serving_default"]
        outputs = signature(**{name: tf.constant(value) for name, value in clip.items()})
        return outputs["probabilities"].numpy()[0]

    return answer


def _load_litert(path: Path, num_threads: int | None) -> Callable[[Arrays], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    (name,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(name)
    if name == "classify":
        return lambda clip: runner(**clip)["probabilities"][0]
    zeros = {
        key: np.zeros(detail["shape"], detail["dtype"])
        for key, detail in runner.get_input_details().items()
        if key not in FRAME_INPUTS.values()
    }

    def answer_by_frames(clip: Arrays) -> np.ndarray:
        states = zeros
        for step in range(next(iter(clip.values())).shape[1]):
            frame = {FRAME_INPUTS[stream]: frames[:, step] for stream, frames in clip.items()}
            outputs = runner(**frame, **states)
            states = {key: outputs[key] for key in zeros}
        return outputs["probabilities"][0]

    return answer_by_frames


def _main(artifact: str, clips_path: str, answers_path: str, num_threads: str) -> None:
    clips = dict(np.load(clips_path))
    answer = load(Path(artifact), int(num_threads))
    probabilities, seconds = [], []
    for number in range(len(next(iter(clips.values())))):
        clip = {stream: frames[number : number + 1] for stream, frames in clips.items()}
        if number == 0:
            answer(clip)  # the first call prepares what the others find ready
        started = time.perf_counter()
        probabilities.append(answer(clip))
        seconds.append(time.perf_counter() - started)
    if "tfvlad" in sys.modules:
        raise ImportError("The artifact was not run by itself: tfvlad was imported.")
    np.savez(answers_path, probabilities=np.stack(probabilities), seconds=np.array(seconds))


if __name__ == "__main__":
    _main(*sys.argv[1:])
