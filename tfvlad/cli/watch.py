"""`tfvlad watch`: the action in a camera's picture or another live video, as it happens."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import keras
    import numpy as np

    from export.clip_model import ClipModel
    from pipelines.live import LiveFrames
    from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig
    from tfvlad.cli.watch_view import Moment

# Models that sum over time and never forget by themselves.
_SUMMING = ("action-vlad", "average-pooling", "max-pooling")
_MEMORY_SECONDS = 2.0
# A run does not keep its videos' frame rate: that of HMDB51, UCF101 and most of the others.
_TRAINING_RATE = 25.0

# From a frame's time in seconds and the frame, uint8 `(H, W, 3)`, to the probabilities `(C,)` so
# far and the attention `(h, w)`.
Look = Callable[[float, "np.ndarray"], tuple["np.ndarray", "np.ndarray | None"]]


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("source")
@click.option(
    "--frames-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames that the model looks at in a second; by default as close together as in the "
    "training clips (videos of 25 frames a second), which it knows movements from.",
)
@click.option(
    "--memory-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Half-life of a frame in a model that sums over time.  [default: 2]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    help="MP4 file of what the model saw, with the most probable action and, where the model has "
    "top-down attention, where it looked.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after that time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a frame, a line each.")
def watch(
    run: str,
    source: str,
    frames_per_second: float | None,
    memory_seconds: float | None,
    output: str | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Name the action in SOURCE as it happens, with the model of RUN.

    SOURCE is a camera (its number or device), a URL (rtsp, http, hls) or a video file, which plays
    in real time. The newest frame is what counts: a machine that is too slow drops frames instead
    of lagging behind. Ctrl-C, or the source's end, ends it; the MP4 file is finished in any case.

    \b
    Example:
      tfvlad watch run/ 0
      tfvlad watch run/ rtsp://camera.local/stream --output seen.mp4
    """
    from pipelines.live import LiveFrames

    _check_output(output)
    # Opened before TensorFlow is imported: a wrong name is told at once.
    with LiveFrames(source) as frames:
        from pipelines.video_info import BrokenVideoError
        from tfvlad.cli.watch_view import open_view

        model, look, rate = _load(Path(run), frames_per_second, memory_seconds)
        _, height, width, _ = model.inputs["frames"]
        frames.image_size, frames.short_side = (height, width), model.short_side
        frames.frames_per_second = rate
        with _ended_by_ctrl_c(frames), open_view(model.class_names, as_json=as_json) as show:
            moments = _shown(_moments(frames, look, seconds), frames, show)
            if output:
                _write(output, moments, rate, model.class_names)
            for _ in moments:
                pass
        if frames.error:
            raise BrokenVideoError(frames.error)


def _check_output(output: str | None) -> None:
    if output is not None and os.path.exists(output):
        raise ValueError(f"'{output}' exists and is left as it is. Choose another --output.")
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise ValueError(f"--output must lie in an existing folder. Received: {output}.")


def _load(
    run: Path, frames_per_second: float | None, memory_seconds: float | None
) -> tuple[ClipModel, Look, float]:
    """The model of a run, frame by frame, and the rate at which it looks at frames."""
    from export.streaming import streaming_model
    from tfvlad.cli.exportable import load_exportable
    from tfvlad.cli.run_folder import RunConfig, load_config

    config = load_config(run)
    if isinstance(config, RunConfig) and config.streams != ["rgb"]:
        raise ValueError(
            f"'{run}' is a run on optical flow, which is not computed live. Watch with a run on "
            "RGB frames alone."
        )
    sums = config.model in _SUMMING
    if memory_seconds is not None and not sums:
        raise ValueError(
            f"--memory-seconds is of {', '.join(_SUMMING)}; {config.model} forgets by itself. "
            f"Received: --memory-seconds {memory_seconds:g}."
        )
    rate = frames_per_second or _training_rate(run, config)
    half_life = memory_seconds or _MEMORY_SECONDS if sums else math.inf
    model = load_exportable([str(run)]).clip_model
    return model, _looking(model, streaming_model(model.model), half_life), rate


def _training_rate(run: Path, config: RunConfig | FeatureRunConfig) -> float:
    """The frames a second of the training clips."""
    from tfvlad.cli.run_folder import RunConfig

    if isinstance(config, RunConfig):
        num_frames = config.num_frames
        clip_frames = num_frames if config.sampling == "chunk" else None
    else:
        num_frames, clip_frames = config.num_steps[0], config.chunk_frames
    if clip_frames is None:
        path = run / "result.json"
        clip_frames = json.loads(path.read_text()).get("clip_frames") if path.exists() else None
    if clip_frames is None:
        raise ValueError(
            f"'{run}' does not say how long its training clips are. Give --frames-per-second."
        )
    return min(_TRAINING_RATE * num_frames / clip_frames, _TRAINING_RATE)


def _looking(model: ClipModel, stream: keras.Model, half_life: float) -> Look:
    """The model with its state, which halves every `half_life` seconds."""
    import numpy as np
    import tensorflow as tf

    from export.streaming import initial_state

    @tf.function(autograph=False)
    def step(
        frame: tf.Tensor, state: dict[str, tf.Tensor], fade: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        faded = {name: fade * value for name, value in state.items()}
        outputs = stream({"frame": frame, **faded}, training=False)
        return {**outputs, "probabilities": model.normalized(outputs.pop("scores"))}

    state: dict[str, Any] = {
        name: tf.constant(value) for name, value in initial_state(stream).items()
    }

    last = 0.0

    def look(seconds: float, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        nonlocal last
        # By the clock: a slow machine sees fewer frames, and forgets no more slowly.
        fade, last = 0.5 ** ((seconds - last) / half_life), seconds
        outputs = step(tf.constant(frame[np.newaxis], tf.float32), state, tf.constant(fade))
        state.update((name, outputs[name]) for name in state)
        attention = outputs["attention"][0].numpy() if "attention" in outputs else None
        return outputs["probabilities"][0].numpy(), attention

    # Traced before the first frame comes.
    _, *size = model.inputs["frames"]
    step(tf.zeros((1, *size)), state, tf.constant(1.0))
    return look


@contextmanager
def _ended_by_ctrl_c(frames: LiveFrames) -> Iterator[None]:
    """The first Ctrl-C ends the frames, and what is written is finished; the second is as ever."""
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        frames.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _moments(frames: LiveFrames, look: Look, seconds: float | None) -> Iterator[Moment]:
    """What the model makes of the frames, up to a time."""
    from tfvlad.cli.watch_view import Moment

    ends: deque[float] = deque(maxlen=20)
    for now, frame in frames:
        if seconds is not None and now >= seconds:
            return
        probabilities, attention = look(now, frame)
        ends.append(time.monotonic())
        rate = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
        yield Moment(now, frame, probabilities, attention, rate, frames.num_dropped)


def _shown(
    moments: Iterator[Moment], frames: LiveFrames, show: Callable[[Moment], None]
) -> Iterator[Moment]:
    for moment in moments:
        try:
            show(moment)
        except BrokenPipeError:
            # Who read the lines has gone, as `head` does. Python would complain at its own end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            frames.stop()
        yield moment


def _write(output: str, moments: Iterator[Moment], rate: float, class_names: Sequence[str]) -> None:
    """Writes what was seen at a constant rate: a dropped frame repeats the one before it."""
    from pipelines.encoding import write_video
    from tfvlad.cli.watch_view import annotated

    first = next(moments, None)
    if first is None:
        return

    def pictures() -> Iterator[np.ndarray]:
        picture, count = annotated(first, class_names), 0
        for moment in moments:
            while count < round(moment.seconds * rate):
                yield picture
                count += 1
            picture = annotated(moment, class_names)
        yield picture

    write_video(output, pictures(), rate)
