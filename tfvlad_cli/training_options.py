"""The options of `tfvlad train` and of what trains as it does: the library's settings as flags.

Each is named as its setting; what is not given is left to the library. A test keeps the choices,
the ranges and the defaults that are shown here equal to the library's.
"""

from __future__ import annotations

from typing import Any

import click

from tfvlad_cli.data_options import OF_THE_DATA
from tfvlad_cli.options import FileOr, NumberOr, Numbers, Words, decorated, given, shown

VIDEO_MODELS = ("ta-vlad", "action-vlad", "average-pooling", "max-pooling", "two-stream")
FEATURE_MODELS = ("attention-lstm", "plain-lstm", "feature-softmax")
BACKBONES = ("mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19")
_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_FOLDER = click.Path(exists=True, file_okay=False)

view_options = decorated(
    (
        click.option(
            "--test-crops",
            type=Numbers(1, 5, 10),
            help=shown(
                "The centre; with the corners; and their mirror images. Logits are averaged.", 1
            ),
        ),
        click.option(
            "--test-clips",
            type=_COUNT,
            help=shown("Clips of a test video, whose logits are averaged.", 1),
        ),
        click.option(
            "--one-bag",
            is_flag=True,
            help="Pool the frames of all test crops and clips into one descriptor instead, as in "
            "ActionVLAD's release.",
        ),
    )
)
test_chunks_option = click.option(
    "--test-chunks",
    type=_COUNT,
    help=shown("Random chunks of a test clip's features, and as many mirrored ones.", 40),
)

_SHARED = (
    click.option(
        "--model",
        type=click.Choice([*VIDEO_MODELS, *FEATURE_MODELS]),
        help="ta-vlad for videos, attention-lstm for features by default. The last three learn "
        "from features alone: DATA is then a folder of `tfvlad features`.",
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
        type=_COUNT,
        help="State of the GRU for a cluster, U (256 by default), or of the LSTM (512).",
    ),
    click.option(
        "--dropout",
        type=click.FloatRange(0, 1, max_open=True),
        help=shown("In front of the classifier.", 0.5),
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
        type=Words("adam", "sgd", "rectified_adam", "lookahead"),
        help="The recipe's by default; the last two are of tensorflow-addons.",
    ),
    click.option(
        "--patience",
        type=_COUNT,
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
        type=_COUNT,
        help="16 by default, of features 200, or 100 with the recipe hollywood2.",
    ),
    click.option(
        "--validation-fraction",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help=shown("Share of the training videos that chooses the best epoch.", 0.15),
    ),
)

_VIDEO = (
    click.option(
        "--stream",
        type=click.Choice(["rgb", "flow"]),
        help=shown(
            "DATA is read as frames, or as the optical flow that `tfvlad flow` has written.", "rgb"
        ),
    ),
    click.option("--stack-frames", type=_COUNT, help=shown("Flow frames of a stack.", 10)),
    click.option(
        "--fusion",
        type=click.Choice(["concat", "early"]),
        help=shown(
            "Of the two streams: their descriptors, or their feature maps. Streams that are "
            "trained alone are fused by `tfvlad fuse`.",
            "concat",
        ),
    ),
    click.option("--backbone", type=click.Choice(BACKBONES), help=shown("", "mobilenet_v2")),
    click.option(
        "--weights",
        type=FileOr("imagenet", "none"),
        help=shown(
            'The backbone\'s first weights: a file, "imagenet" (downloaded, MobileNetV2 and VGG) '
            'or "none".',
            "imagenet",
        ),
    ),
    click.option("--frames", "num_frames", type=_COUNT, help=shown("Frames of a clip.", 25)),
    click.option(
        "--color-jitter", type=click.FloatRange(0, 1), help=shown("Strength, 0 to 1.", 0.0)
    ),
    click.option(
        "--image-size",
        type=click.IntRange(min=32),
        help=shown("Side of a frame in pixels.", 224),
    ),
    click.option("--clusters", "num_clusters", type=_COUNT, help=shown("Action words K.", 64)),
    click.option(
        "--segments",
        "num_segments",
        type=_COUNT,
        help=shown(
            "Of a clip, whose descriptors are joined in their order; of ActionVLAD and average "
            "pooling.",
            1,
        ),
    ),
    click.option(
        "--alpha",
        type=NumberOr("auto"),
        help=shown('Sharpness, a positive number or "auto".', 1000.0),
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
        type=Words("shared_gru", "flattened_gru", "separate_grus"),
        help=shown(
            "What TA-VLAD follows over time: a state of each cluster with shared or separate "
            "weights, or one state of them all.",
            "shared-gru",
        ),
    ),
    click.option(
        "--intra-normalize/--no-intra-normalize",
        default=None,
        help=shown("Of each frame's VLAD, before TA-VLAD's GRU.", "intra-normalize"),
    ),
    click.option(
        "--input-scale",
        type=NumberOr("sqrt_channels"),
        help=shown(
            "TA-VLAD's VLAD vectors are multiplied by it before the GRU, a positive number or "
            '"sqrt-channels".',
            1.0,
        ),
    ),
    click.option(
        "--update-bias",
        type=click.FloatRange(-20, 20),
        help=shown("First value of the GRU's update gate; more is a longer memory.", 2.0),
    ),
    click.option("--bidirectional", is_flag=True, help="A second GRU reads the frames backwards."),
    click.option(
        "--attention/--no-attention",
        default=None,
        help="Top-down attention: by default on for TA-VLAD and off for ActionVLAD.",
    ),
    click.option(
        "--attention-temperature",
        type=_POSITIVE,
        help=shown("More spreads the attention over more locations; 1 is the paper's.", 4.0),
    ),
    click.option(
        "--freeze-attention",
        is_flag=True,
        help="Take the attention from a copy of the backbone that is never trained.",
    ),
    click.option(
        "--epochs",
        type=(click.IntRange(min=1), click.IntRange(min=0)),
        help=shown("Of stage 1 and stage 2; 0 leaves stage 2 out.", "30 30"),
    ),
    click.option(
        "--learning-rates",
        type=(_POSITIVE, _POSITIVE),
        help=shown("Of stage 1 and stage 2.", "0.01 0.0001"),
    ),
    click.option(
        "--decay-epochs",
        type=(_COUNT, _COUNT),
        help=shown("Epochs after which the learning rate falls, in stage 1 and stage 2.", "5 8"),
    ),
    click.option("--freed-block", help="First block trained in stage 2; the last one by default."),
    click.option("--no-cache", is_flag=True, help="Run the whole backbone in every epoch."),
    click.option(
        "--cache-dtype",
        type=click.Choice(["float16", "float32"]),
        help=shown("Of cached features.", "float16"),
    ),
    click.option(
        "--cached-crops",
        "num_cached_crops",
        type=_COUNT,
        help=shown("Random crops cached of a training clip.", 4),
    ),
    view_options,
)

_FEATURES = (
    click.option("--steps", "num_steps", type=_COUNT, help=shown("Steps of the LSTM, N.", 12)),
    click.option(
        "--attended-steps", "num_attended", type=_COUNT, help=shown("Attended frames, T.", 12)
    ),
    click.option(
        "--chunk-frames",
        type=_COUNT,
        help=shown("Frames of a chunk; a shorter video starts again from its first frame.", 192),
    ),
    click.option(
        "--matching-units",
        type=_COUNT,
        help=shown("Size of the attention's matching vector.", 512),
    ),
    click.option(
        "--attend",
        type=Words("every_step", "last_step"),
        help=shown("The attention LSTM's variant (a) or (b).", "every-step"),
    ),
    click.option(
        "--max-epochs", type=_COUNT, help="Of a model of features; the recipe's by default."
    ),
    click.option(
        "--learning-rate",
        type=_POSITIVE,
        help="Of a model of features; the recipe's by default.",
    ),
    click.option(
        "--initialize-from",
        type=_FOLDER,
        help="Run whose weights a model of features begins with; other classes get a new head.",
    ),
    test_chunks_option,
)

video_settings_options = decorated((*_SHARED, *_VIDEO))
settings_options = decorated((*_SHARED, *_VIDEO, *_FEATURES))

_OF_THE_COMMAND = {"splits", "seeds", "as_json"}


def given_settings(context: click.Context) -> dict[str, Any]:
    """The given options that are settings, by their names in the library.

    Raises:
        ValueError: when two of them say the opposite.
    """
    settings = {
        name: value
        for name, value in given(context).items()
        if name not in OF_THE_DATA | _OF_THE_COMMAND
    }
    if settings.pop("no_cache", False):
        if "num_cached_crops" in settings:
            raise ValueError("--cached-crops and --no-cache exclude each other. Leave one out.")
        settings["num_cached_crops"] = None
    return settings
