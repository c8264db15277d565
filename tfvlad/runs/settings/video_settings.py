"""The settings of a training on videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfvlad.backbones.catalog import BACKBONES
from tfvlad.runs.settings.model_table import MODELS, models_on
from tfvlad.runs.settings.rules import (
    OPTIMIZERS,
    check_rules,
    setting,
    without_effect,
)


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How a model is trained on videos, and tested.

    `num_clusters`, `alpha` and `units` are passed over by models without them. Any other setting
    that would have no effect on the model is refused.

    Args:
        model: "ta-vlad", "action-vlad", "average-pooling", "max-pooling" or "two-stream".
        stream: what the model sees: "rgb" frames or optical "flow"; "two-stream" sees both.
        stack_frames: flow frames of a stack.
        num_frames: frames of a clip, T.
        sampling: "uniform", frames spread evenly over the clip; "segments", one drawn from each of
            as many segments; or "chunk", consecutive frames from a random start.
        image_size: side of a frame, pixels.
        color_jitter: strength of the random changes of the training frames' colours, 0 to 1.
        backbone: the network of the frames, by its name in `tfvlad.backbones.catalog`.
        weights: the backbone's first weights: a file, "imagenet" (downloaded; MobileNetV2 and VGG
            only) or None for random ones.
        aggregate_at: name of the backbone's layer whose features are aggregated; "pooled", or of
            VGG "fc6" or "fc7", as one location; None for the last feature map.
        num_clusters: action words, K.
        num_segments: consecutive segments of a clip whose descriptors, or averages, are joined in
            their order, so that the order of the frames counts; of ActionVLAD and average pooling.
        alpha: sharpness of the assignments to the words, a positive number, or "auto" to take it
            from the data.
        units: size of the GRU's state for a cluster, U.
        temporal: what TA-VLAD follows over time: a state of each cluster with shared weights
            ("shared_gru") or separate ones ("separate_grus"), or one state of them all
            ("flattened_gru").
        intra_normalize: L2-normalise the clusters of each frame's VLAD before the GRU.
        input_scale: the clusters' vectors are multiplied by it before the GRU, a positive number,
            or "sqrt_channels" for the square root of D.
        update_bias: first value of the GRU's update gate; above 0 a state outlives frames in which
            its cluster is empty.
        bidirectional: a second GRU reads the frames backwards.
        attention: top-down attention; None for the model's own choice: TA-VLAD has it.
        attention_temperature: the class activation map is divided by it before the softmax; 1 is
            the paper's, more spreads the attention over more locations.
        fusion: of the two streams: their descriptors ("concat") or their feature maps ("early").
            Streams that are trained alone are fused by `tfvlad.studies.fuse`.
        dropout: share of the values dropped in front of the classifier.
        freeze_attention: take the attention from a copy of the backbone that is never trained.
        fixed_centers: leave the VLAD layer as k-means has set it, in stage 2 too.
        recipe: the paper that the optimizer follows: "ta-vlad" halves the learning rate,
            "action-vlad" divides it by 10, clips gradients and decays weights.
        optimizer: "adam", "sgd", and of tensorflow-addons "rectified_adam" and "lookahead"; None
            for the recipe's.
        epochs: of stage 1, at least 1, and of stage 2; 0 leaves stage 2 out.
        learning_rates: at the first epoch of stage 1 and of stage 2.
        decay_epochs: epochs after which the learning rate falls, in stage 1 and in stage 2.
        patience: epochs without a better one after which a stage ends; None for never.
        weight_decay: decoupled weight decay; None for the recipe's.
        freed_block: first block of the backbone that stage 2 trains; None for the last one.
        batch_size: clips of a batch.
        num_cached_crops: random crops of a training clip whose features are computed once and kept;
            None runs the whole backbone in every epoch.
        cache_dtype: of the features that are kept, "float16" or "float32".
        validation_fraction: share of the training clips, whole source videos at a time, by which
            the best epoch is chosen.
        seed: of everything that is drawn.
        test_crops: views of a test clip: 1, the centre; 5, with the corners; 10, with their mirror
            images. Logits are averaged.
        test_clips: clips of a test video, whose logits are averaged.
        one_bag: pool the frames of all test crops and test clips into one descriptor instead, as in
            ActionVLAD's release.

    Raises:
        ValueError: when a setting is out of range, or has no effect on the model.
    """

    model: str = setting("ta-vlad", choices=models_on("videos"))
    stream: str = setting("rgb", choices=("rgb", "flow"))
    stack_frames: int = setting(10, minimum=1)
    num_frames: int = setting(25, minimum=1)
    sampling: str = setting("uniform", choices=("uniform", "segments", "chunk"))
    image_size: int = setting(224, minimum=32)
    color_jitter: float = setting(0.0, minimum=0, maximum=1)
    backbone: str = setting("mobilenet_v2", choices=tuple(BACKBONES))
    weights: str | None = "imagenet"
    aggregate_at: str | None = None
    num_clusters: int = setting(64, minimum=1)
    num_segments: int = setting(1, minimum=1)
    alpha: float | str = setting(1000.0, above=0, choices=("auto",))
    units: int = setting(256, minimum=1)
    temporal: str = setting("shared_gru", choices=("shared_gru", "flattened_gru", "separate_grus"))
    intra_normalize: bool = True
    input_scale: float | str = setting(1.0, above=0, choices=("sqrt_channels",))
    update_bias: float = setting(2.0, minimum=-20, maximum=20)
    bidirectional: bool = False
    attention: bool | None = None
    attention_temperature: float = setting(4.0, above=0)
    fusion: str = setting("concat", choices=("concat", "early"))
    dropout: float = setting(0.5, minimum=0, below=1)
    freeze_attention: bool = False
    fixed_centers: bool = False
    recipe: str = setting("ta-vlad", choices=("ta-vlad", "action-vlad"))
    optimizer: str | None = setting(None, choices=OPTIMIZERS)
    epochs: tuple[int, int] = setting((30, 30), minimum=0)
    learning_rates: tuple[float, float] = setting((1e-2, 1e-4), above=0)
    decay_epochs: tuple[int, int] = setting((5, 8), minimum=1)
    patience: int | None = setting(None, minimum=1)
    weight_decay: float | None = setting(None, minimum=0)
    freed_block: str | None = None
    batch_size: int = setting(16, minimum=1)
    num_cached_crops: int | None = setting(4, minimum=1)
    cache_dtype: str = setting("float16", choices=("float16", "float32"))
    validation_fraction: float = setting(0.15, above=0, below=1)
    seed: int = setting(0, minimum=0)
    test_crops: int = setting(1, choices=(1, 5, 10))
    test_clips: int = setting(1, minimum=1)
    one_bag: bool = False

    def __post_init__(self) -> None:
        check_rules(self)
        if self.epochs[0] < 1:
            raise ValueError(
                f"`epochs` must begin with at least 1. Received: epochs={self.epochs}."
            )
        takes = MODELS[self.model].takes
        two_streams = self.model == "two-stream"
        of_model = f"model={self.model!r}"
        for name in (
            *("temporal", "intra_normalize", "input_scale", "update_bias", "bidirectional"),
            *("attention", "fusion", "num_segments"),
        ):
            if name not in takes:
                self._refuse(name, of_model)
        if "num_clusters" not in takes:
            self._refuse("fixed_centers", of_model)
        if not self.has_attention:
            for name in ("freeze_attention", "attention_temperature"):
                self._refuse(name, "a model without attention")
        if two_streams:
            self._refuse("stream", of_model)
        if "flow" not in self.streams:
            self._refuse("stack_frames", f"stream={self.stream!r}")
        if "rgb" not in self.streams:
            self._refuse("color_jitter", f"stream={self.stream!r}")
        if self.one_bag and ("temporal" in takes or self.num_segments > 1):
            model = f"{self.model} with segments" if self.num_segments > 1 else self.model
            raise ValueError(
                f"`one_bag` is for models that sum over time, and {model} reads the frames in "
                "their order. Received: one_bag=True. Leave it out."
            )
        if self.num_segments > self.num_frames:
            raise ValueError(
                f"`num_segments` must be at most the number of frames, {self.num_frames}. "
                f"Received: num_segments={self.num_segments}."
            )

    @property
    def streams(self) -> tuple[str, ...]:
        """What the model sees: "rgb", "flow", or both."""
        return ("rgb", "flow") if self.model == "two-stream" else (self.stream,)

    @property
    def has_attention(self) -> bool:
        """Whether the model has top-down attention."""
        return self.model == "ta-vlad" if self.attention is None else self.attention

    @property
    def num_stages(self) -> int:
        """Stages of the training."""
        return 2 if self.epochs[1] else 1

    @property
    def short_side(self) -> int:
        """Shorter side of the frame that a clip's crops are cut from, pixels."""
        return round(self.image_size * 256 / 224)

    def model_arguments(self) -> dict[str, Any]:
        """What the model's builder is called with, besides backbones, classes and frames."""
        values = {name: getattr(self, name) for name in MODELS[self.model].takes}
        if "attention" in values:
            values["attention"] = self.has_attention
        return {**values, "dropout": self.dropout}

    def _refuse(self, name: str, why: str) -> None:
        if getattr(self, name) != getattr(VideoSettings, name):
            raise without_effect(name, getattr(self, name), why)
