"""The papers' two stages: what is trained, how fast, how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfvlad import compat
from tfvlad.models.parts import CLASSIFIER_NAMES, GRU_NAMES


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        epochs: number of passes over the training clips, the most of them with `patience`.
        learning_rate: at the first epoch.
        decay_factor: the learning rate is multiplied by it after every `decay_epochs` epochs.
        decay_epochs: see `decay_factor`.
        constant_epochs: epochs before the first decay; `decay_epochs` by default.
        optimizer: "adam", "sgd", or of tensorflow-addons "rectified_adam" (Liu et al.) and
            "lookahead" (Zhang et al., around rectified Adam).
        momentum: of SGD.
        patience: end the stage this many epochs after its best one; None ends it after `epochs`.
        best_by: what makes an epoch the best on the validation clips: its "measure" (top-1, or the
            area under the precision-recall curve for several labels; the lower loss among equals)
            or its "loss".
        trainable_layers: names of the layers after the backbone that are trained; None is all.
        freed_block: block of the backbone from which on its convolutions are trained; None freezes
            the backbone.
        batch_norm: train the freed blocks' batch norms too, and move their statistics.
        epsilon: of Adam and its kind.
        clip_norm: upper bound for the norm of each variable's gradient, None for no bound.
        weight_decay: decoupled weight decay (AdamW), None for none.
    """

    epochs: int
    learning_rate: float
    decay_factor: float = 0.5
    decay_epochs: int = 5
    constant_epochs: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.9
    patience: int | None = None
    best_by: str = "measure"
    trainable_layers: tuple[str, ...] | None = None
    freed_block: str | None = None
    batch_norm: bool = False
    epsilon: float = 1e-7
    clip_norm: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "decay_factor", "decay_epochs", "epsilon"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
        for name in ("constant_epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be positive or None. Received: {name}={value}.")
        if self.optimizer not in compat.OPTIMIZERS:
            raise ValueError(
                f"`optimizer` must be one of {', '.join(compat.OPTIMIZERS)}. "
                f"Received: optimizer={self.optimizer!r}."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: momentum={self.momentum}.")
        if self.best_by not in ("measure", "loss"):
            raise ValueError(
                f'`best_by` must be "measure" or "loss". Received: best_by={self.best_by!r}.'
            )

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of epoch number `epoch`, counted from 0."""
        constant = self.constant_epochs or self.decay_epochs
        num_decays = max(0, 1 + (epoch - constant) // self.decay_epochs)
        return self.learning_rate * self.decay_factor**num_decays


def ta_vlad_stages(freed_block: str) -> tuple[Stage, Stage]:
    """TA-VLAD's stages: the GRU and the classifier; then also the rest of the head and a block.

    30 epochs each with Adam, batch 16; lr 1e-2, halved every 5 epochs; then lr 1e-4, halved every
    8. Stage 2 frees the backbone's last convolutions, the dense layer W of the class activation map
    and the VLAD layer.

    Args:
        freed_block: the backbone's last block ("layer4" of a ResNet).

    Reference:
        Sudhakaran and Lanz, section 4.1.
    """
    return (
        Stage(
            epochs=30,
            learning_rate=1e-2,
            decay_epochs=5,
            trainable_layers=(*GRU_NAMES, *CLASSIFIER_NAMES),
        ),
        Stage(epochs=30, learning_rate=1e-4, decay_epochs=8, freed_block=freed_block),
    )


def action_vlad_stages(freed_block: str, steps_per_epoch: int) -> tuple[Stage, Stage]:
    """ActionVLAD's stages: the classifier; then also the VLAD layer and a block.

    10,000 steps of 16 videos at lr 1e-2, then 8,000 at 1e-4, divided by 10 every 5,000 steps. Adam
    with epsilon 1e-4, gradients clipped to norm 5 a variable, weight decay 4e-5.

    Args:
        freed_block: the backbone's last block ("block5" of VGG-16).
        steps_per_epoch: batches of an epoch, by which the steps are turned into epochs.

    Reference:
        The code released with Girdhar et al., "ActionVLAD". There the weight decay is part of the
        loss, here it is decoupled.
    """
    shared: dict[str, Any] = {
        "decay_factor": 0.1,
        "decay_epochs": _epochs(5000, steps_per_epoch),
        "epsilon": 1e-4,
        "clip_norm": 5.0,
        "weight_decay": 4e-5,
    }
    return (
        Stage(
            epochs=_epochs(10_000, steps_per_epoch),
            learning_rate=1e-2,
            trainable_layers=CLASSIFIER_NAMES,
            **shared,
        ),
        Stage(
            epochs=_epochs(8_000, steps_per_epoch),
            learning_rate=1e-4,
            freed_block=freed_block,
            **shared,
        ),
    )


def attention_lstm_stage(steps_per_epoch: int) -> Stage:
    """The attention LSTM's training: SGD with momentum 0.9, lr 0.01 for 2,512 steps, then falling.

    The steps are of 200 videos, early stopping is on the validation loss. After 2,512 steps the
    learning rate falls every 125 steps by a fixed ratio; the ratio (0.8), the most steps (5,012)
    and the patience (1,130 steps, 10 epochs of ActivityNet) are not told and ours.

    Args:
        steps_per_epoch: batches of an epoch, by which the steps are turned into epochs.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", section 4.1.
    """
    return Stage(
        epochs=_epochs(5_012, steps_per_epoch),
        learning_rate=1e-2,
        constant_epochs=_epochs(2_512, steps_per_epoch),
        decay_epochs=_epochs(125, steps_per_epoch),
        decay_factor=0.8,
        optimizer="sgd",
        patience=_epochs(1_130, steps_per_epoch),
        best_by="loss",
    )


def hollywood2_stage(steps_per_epoch: int) -> Stage:
    """Fine-tuning of the attention LSTM on Hollywood2, from a model of another data set.

    2,500 steps of 100 clips with SGD: 1,000 at lr 0.001 with momentum 0.6, then falling with every
    step by a fixed ratio. The ratio is ours, 0.8 in 125 steps, and the rate falls after every
    epoch.

    Args:
        steps_per_epoch: batches of an epoch, by which the steps are turned into epochs.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", on Hollywood2.
    """
    return Stage(
        epochs=_epochs(2_500, steps_per_epoch),
        learning_rate=1e-3,
        constant_epochs=_epochs(1_000, steps_per_epoch),
        decay_epochs=1,
        decay_factor=0.8 ** (steps_per_epoch / 125),
        optimizer="sgd",
        momentum=0.6,
        best_by="loss",
    )


def _epochs(steps: int, steps_per_epoch: int) -> int:
    return max(1, round(steps / steps_per_epoch))
