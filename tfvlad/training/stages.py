"""The papers' two stages: what is trained, how fast, how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage of training with Adam.

    Args:
        epochs: number of passes over the training clips.
        learning_rate: at the first epoch.
        decay_factor: the learning rate is multiplied by it after every `decay_epochs` epochs.
        decay_epochs: see `decay_factor`.
        trainable_layers: names of the layers after the backbone that are trained; None is all.
        freed_block: block of the backbone from which on its convolutions are trained; None freezes
            the backbone.
        batch_norm: train the freed blocks' batch norms too, and move their statistics.
        epsilon: of Adam.
        clip_norm: upper bound for the norm of each variable's gradient, None for no bound.
        weight_decay: decoupled weight decay (AdamW), None for none.
    """

    epochs: int
    learning_rate: float
    decay_factor: float = 0.5
    decay_epochs: int = 5
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

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of epoch number `epoch`, counted from 0."""
        return self.learning_rate * self.decay_factor ** (epoch // self.decay_epochs)


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
            trainable_layers=("shared_gru", "logits"),
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

    def epochs(steps: int) -> int:
        return max(1, round(steps / steps_per_epoch))

    shared: dict[str, Any] = {
        "decay_factor": 0.1,
        "decay_epochs": epochs(5000),
        "epsilon": 1e-4,
        "clip_norm": 5.0,
        "weight_decay": 4e-5,
    }
    return (
        Stage(epochs=epochs(10_000), learning_rate=1e-2, trainable_layers=("logits",), **shared),
        Stage(epochs=epochs(8_000), learning_rate=1e-4, freed_block=freed_block, **shared),
    )
