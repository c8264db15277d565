"""Runs an exported file as its users will: in a process that holds nothing of tfvlad.

`python -I artifact.py ARTIFACT CLIPS.npz ANSWERS.npz NUM_THREADS` feeds each clip to the artifact,
a folder with a SavedModel or a LiteRT file, and writes its class probabilities.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
# From clips `(1, T, H, W, channels)`, by stream, to class probabilities `(C,)`.
Answer = Callable[[Arrays], np.ndarray]

# What a per-frame signature calls the frame of each stream; its other inputs are states.
FRAME_INPUTS = {"frames": "frame", "flow": "flow"}


def load(path: Path, num_threads: int | None = None) -> dict[str, Answer]:
    """How each signature of an artifact answers; the first one takes whole clips if there is one.

    Args:
        path: a SavedModel's folder, or a LiteRT file.
        num_threads: of a LiteRT interpreter.
    """
    return _load_saved_model(path) if path.is_dir() else _load_litert(path, num_threads)


def _load_saved_model(path: Path) -> dict[str, Answer]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def calling(name: str) -> Callable[..., dict[str, np.ndarray]]:
        def call(**inputs: Any) -> dict[str, np.ndarray]:
            # The variables live as long as what was loaded.
            outputs = loaded.signatures[name](**{k: tf.constant(x) for k, x in inputs.items()})
            return {key: value.numpy() for key, value in outputs.items()}

        return call

    def encoded(clip: Arrays) -> dict[str, np.ndarray]:
        def files(images: np.ndarray) -> np.ndarray:
            flat = images.reshape(-1, *images.shape[-3:])
            return np.array([tf.io.encode_png(x).numpy() for x in flat]).reshape(images.shape[:-3])

        # A channel of flow is a grey image: (1, T, H, W, 2L) -> (1, T, 2L, H, W, 1)
        return {
            stream: files(np.moveaxis(x, -1, 2)[..., np.newaxis] if stream == "flow" else x)
            for stream, x in clip.items()
        }

    def answering(name: str, prepare: Callable[[Arrays], Arrays]) -> Answer:
        call = calling(name)
        return lambda clip: call(**prepare(clip))["probabilities"][0]

    answers = {
        name: answering(name, encoded if name == "encoded_frames" else dict)
        for name in ("serving_default", "highlight", "encoded_frames")
        if name in loaded.signatures
    }
    if "stream" in loaded.signatures:
        _, specs = loaded.signatures["stream"].structured_input_signature
        states = {
            key: np.zeros([1, *spec.shape[1:]], spec.dtype.as_numpy_dtype)
            for key, spec in specs.items()
            if key not in FRAME_INPUTS.values()
        }
        answers["stream"] = _frame_by_frame(calling("stream"), states)
    return answers


def _load_litert(path: Path, num_threads: int | None) -> dict[str, Answer]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    (name,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(name)
    if name == "classify":
        return {name: lambda clip: runner(**clip)["probabilities"][0]}
    states = {
        key: np.zeros(detail["shape"], detail["dtype"])
        for key, detail in runner.get_input_details().items()
        if key not in FRAME_INPUTS.values()
    }
    return {name: _frame_by_frame(runner, states)}


def _frame_by_frame(step: Callable[..., Arrays], zeros: Arrays) -> Answer:
    """The answer after a clip's last frame."""

    def answer(clip: Arrays) -> np.ndarray:
        states = zeros
        for number in range(next(iter(clip.values())).shape[1]):
            frame = {FRAME_INPUTS[stream]: frames[:, number] for stream, frames in clip.items()}
            outputs = step(**frame, **states)
            states = {key: outputs[key] for key in zeros}
        return outputs["probabilities"][0]

    return answer


def _main(artifact: str, clips_path: str, answers_path: str, num_threads: str) -> None:
    path = Path(artifact)
    if path.is_dir():
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(int(num_threads))
        tf.config.threading.set_inter_op_parallelism_threads(int(num_threads))
    stacked = dict(np.load(clips_path))
    num_clips = len(next(iter(stacked.values())))
    clips = [{key: x[i : i + 1] for key, x in stacked.items()} for i in range(num_clips)]
    answers = load(path, int(num_threads))
    first, *others = answers
    # The first call prepares what the others find ready.
    answers[first](clips[0])
    seconds = []
    probabilities = []
    for clip in clips:
        started = time.perf_counter()
        probabilities.append(answers[first](clip))
        seconds.append(time.perf_counter() - started)
    if "tfvlad" in sys.modules:
        raise ImportError("The artifact was not run by itself: tfvlad was imported.")
    found: dict[str, Any] = {first: np.stack(probabilities)}
    found |= {name: answers[name](clips[0]) for name in others}
    np.savez(answers_path, seconds=np.array(seconds), **found)


if __name__ == "__main__":
    _main(*sys.argv[1:])
