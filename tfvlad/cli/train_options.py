"""The options of `tfvlad train` and of what trains and tests as it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

# On every stack; a stage refuses those that its own has not.
OPTIMIZERS = ("adam", "sgd", "rectified_adam", "lookahead")
Function = TypeVar("Function", bound=Callable)


def _alpha(context: click.Context, parameter: click.Parameter, value: str) -> float | str:
    try:
        if value == "auto" or 0 < float(value) < float("inf"):
            return value if value == "auto" else float(value)
    except ValueError:
        pass
    raise click.BadParameter(f'{value!r} is neither a positive number nor "auto".')


_SHARED_OPTIONS = (
    click.option(
        "--split",
        "splits",
        multiple=True,
        type=click.IntRange(min=1),
        default=(1,),
        show_default=True,
        help="Number of the official split; may be repeated.",
    ),
    click.option(
        "--sampling",
        type=click.Choice(["uniform", "segments", "chunk"]),
        help="Frames spread evenly (the default for videos), one drawn from each of as many "
        "segments, or a chunk of consecutive frames from a random start (the default for "
        "features).",
    ),
    click.option(
        "--units",
        type=click.IntRange(min=1),
        help="State of the GRU for a cluster, U (256 by default), or of the LSTM (512).",
    ),
    click.option(
        "--dropout",
        default=0.5,
        show_default=True,
        type=click.FloatRange(0, 1, max_open=True),
        help="In front of the classifier.",
    ),
    click.option(
        "--recipe",
        type=click.Choice(["ta-vlad", "action-vlad", "attention-lstm", "hollywood2"]),
        help="The paper that the optimizer follows: the learning rate is halved (ta-vlad), or "
        "divided by 10, gradients clipped and weights decayed (action-vlad); for features SGD with "
        "early stopping (attention-lstm), or its fine-tuning for several labels (hollywood2).",
    ),
    click.option(
        "--optimizer",
        type=click.Choice([name.replace("_", "-") for name in OPTIMIZERS]),
        callback=lambda context, parameter, value: value and value.replace("-", "_"),
        help="The recipe's by default; the last two are of tensorflow-addons.",
    ),
    click.option(
        "--patience",
        type=click.IntRange(min=1),
        help="Epochs without a better one after which a stage ends; by default the recipe's, of "
        "videos none.",
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(min=0),
        help="Decoupled weight decay; the recipe's by default.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        help="16 by default, of features 200, or 100 with the recipe hollywood2.",
    ),
    click.option(
        "--validation-fraction",
        default=0.15,
        show_default=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the training videos that chooses the best epoch.",
    ),
    click.option(
        "--seed",
        "seeds",
        multiple=True,
        type=click.IntRange(min=0),
        default=(0,),
        show_default=True,
        help="May be repeated.",
    ),
    click.option(
        "--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out."
    ),
)

_VIEW_OPTIONS = (
    click.option(
        "--test-crops",
        default="1",
        show_default=True,
        type=click.Choice(["1", "5", "10"]),
        help="The centre; with the corners; and their mirror images. Logits are averaged.",
    ),
    click.option(
        "--test-clips",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        help="Clips of a test video, whose logits are averaged.",
    ),
    click.option(
        "--one-bag",
        is_flag=True,
        help="Pool the frames of all test crops and clips into one descriptor instead, as in "
        "ActionVLAD's release.",
    ),
)

_VIDEO_OPTIONS = (
    click.option(
        "--test-data",
        type=click.Path(exists=True),
        help="Test videos: a folder or a CSV, like DATA.",
    ),
    click.option(
        "--stream",
        default="rgb",
        show_default=True,
        type=click.Choice(["rgb", "flow"]),
        help="DATA is read as frames, or as the optical flow that `tfvlad flow` has written.",
    ),
    click.option(
        "--flow",
        type=click.Path(exists=True, file_okay=False),
        help="Optical flow of the videos in DATA, for --model two-stream.",
    ),
    click.option(
        "--stack-frames",
        default=10,
        show_default=True,
        type=click.IntRange(min=1),
        help="Flow frames of a stack.",
    ),
    click.option(
        "--fusion",
        default="concat",
        show_default=True,
        type=click.Choice(["concat", "early"]),
        help="Of the two streams: their descriptors, or their feature maps. Streams that are "
        "trained alone are fused by `tfvlad fuse`.",
    ),
    click.option(
        "--backbone",
        default="mobilenet_v2",
        show_default=True,
        type=click.Choice(["mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19"]),
    ),
    click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        help='The backbone\'s first weights: a file, "imagenet" (downloaded, MobileNetV2 and VGG) '
        'or "none".',
    ),
    click.option(
        "--frames",
        "num_frames",
        default=25,
        show_default=True,
        type=click.IntRange(min=1),
        help="Frames of a clip.",
    ),
    click.option(
        "--color-jitter",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Strength, 0 to 1.",
    ),
    click.option(
        "--image-size",
        default=224,
        show_default=True,
        type=click.IntRange(min=32),
        help="Side of a frame in pixels.",
    ),
    click.option(
        "--clusters",
        "num_clusters",
        default=64,
        show_default=True,
        type=click.IntRange(min=1),
        help="Action words K.",
    ),
    click.option(
        "--alpha",
        default="1000",
        show_default=True,
        callback=_alpha,
        help='Sharpness, a positive number or "auto".',
    ),
    click.option(
        "--aggregate-at",
        help="Layer of the backbone whose features are aggregated, by its name; pooled, or of VGG "
        "fc6 or fc7, as one location; the last feature map by default.",
    ),
    click.option(
        "--fixed-centers",
        is_flag=True,
        help="Leave the VLAD layer as k-means has set it, in stage 2 too.",
    ),
    click.option(
        "--temporal",
        default="shared-gru",
        show_default=True,
        type=click.Choice(["shared-gru", "flattened-gru", "separate-grus"]),
        callback=lambda context, parameter, value: value.replace("-", "_"),
        help="What TA-VLAD follows over time: a state of each cluster with shared or separate "
        "weights, or one state of them all.",
    ),
    click.option(
        "--intra-normalize/--no-intra-normalize",
        default=True,
        show_default=True,
        help="Of each frame's VLAD, before TA-VLAD's GRU.",
    ),
    click.option("--bidirectional", is_flag=True, help="A second GRU reads the frames backwards."),
    click.option(
        "--attention/--no-attention",
        default=None,
        help="Top-down attention: by default on for TA-VLAD and off for ActionVLAD.",
    ),
    click.option(
        "--freeze-attention",
        is_flag=True,
        help="Take the attention from a copy of the backbone that is never trained.",
    ),
    click.option(
        "--epochs",
        type=(click.IntRange(min=1), click.IntRange(min=0)),
        default=(30, 30),
        show_default=True,
        help="Of stage 1 and stage 2; 0 leaves stage 2 out.",
    ),
    click.option(
        "--learning-rates",
        type=(click.FloatRange(min=0, min_open=True), click.FloatRange(min=0, min_open=True)),
        default=(1e-2, 1e-4),
        show_default=True,
        help="Of stage 1 and stage 2.",
    ),
    click.option(
        "--decay-epochs",
        type=(click.IntRange(min=1), click.IntRange(min=1)),
        default=(5, 8),
        show_default=True,
        help="Epochs after which the learning rate falls, in stage 1 and stage 2.",
    ),
    click.option("--freed-block", help="First block trained in stage 2; the last one by default."),
    click.option(
        "--cache",
        type=click.Path(file_okay=False),
        help="Folder of cached features, shared by runs; RUN/features by default.",
    ),
    click.option("--no-cache", is_flag=True, help="Run the whole backbone in every epoch."),
    click.option(
        "--cache-dtype",
        default="float16",
        show_default=True,
        type=click.Choice(["float16", "float32"]),
    ),
    click.option(
        "--cached-crops",
        default=4,
        show_default=True,
        type=click.IntRange(min=1),
        help="Random crops cached of a training clip.",
    ),
    *_VIEW_OPTIONS,
)

_FEATURE_OPTIONS = (
    click.option(
        "--attended",
        type=click.Path(exists=True, file_okay=False),
        help="Features that the attention LSTM attends to; DATA's own by default.",
    ),
    click.option(
        "--steps",
        "num_steps",
        default=12,
        show_default=True,
        type=click.IntRange(min=1),
        help="Steps of the LSTM, N.",
    ),
    click.option(
        "--attended-steps",
        "num_attended",
        default=12,
        show_default=True,
        type=click.IntRange(min=1),
        help="Attended frames, T.",
    ),
    click.option(
        "--chunk-frames",
        default=192,
        show_default=True,
        type=click.IntRange(min=1),
        help="Frames of a chunk; a shorter video starts again from its first frame.",
    ),
    click.option(
        "--matching-units",
        default=512,
        show_default=True,
        type=click.IntRange(min=1),
        help="Size of the attention's matching vector.",
    ),
    click.option(
        "--attend",
        default="every-step",
        show_default=True,
        type=click.Choice(["every-step", "last-step"]),
        help="The attention LSTM's variant (a) or (b).",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="Of a model of features; the recipe's by default.",
    ),
    click.option(
        "--learning-rate",
        type=click.FloatRange(min=0, min_open=True),
        help="Of a model of features; the recipe's by default.",
    ),
    click.option(
        "--initialize-from",
        type=click.Path(exists=True, file_okay=False),
        help="Run whose weights a model of features begins with; other classes get a new head.",
    ),
    click.option(
        "--test-chunks",
        default=40,
        show_default=True,
        type=click.IntRange(min=1),
        help="Random chunks of a test clip's features, and as many mirrored ones.",
    ),
)


def shared_options(function: Function) -> Function:
    """Adds the options of every training."""
    for option in reversed(_SHARED_OPTIONS):
        function = option(function)
    return function


def view_options(function: Function) -> Function:
    """Adds the options that say how a test video is viewed."""
    for option in reversed(_VIEW_OPTIONS):
        function = option(function)
    return function


def video_options(function: Function) -> Function:
    """Adds the options of the models that learn from videos."""
    for option in reversed(_VIDEO_OPTIONS):
        function = option(function)
    return function


def feature_options(function: Function) -> Function:
    """Adds the options of the models that learn from extracted features."""
    for option in reversed(_FEATURE_OPTIONS):
        function = option(function)
    return function


def parameters_of(options: Callable[[Callable], Callable]) -> list[click.Parameter]:
    """The parameters that one of the functions above adds."""
    return click.command()(options(lambda: None)).params


def names_of(options: Callable[[Callable], Callable]) -> set[str | None]:
    """The names of the parameters that one of the functions above adds."""
    return {parameter.name for parameter in parameters_of(options)}
