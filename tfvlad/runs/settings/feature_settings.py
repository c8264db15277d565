"""The settings of a training on extracted features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfvlad.runs.settings.model_table import MODELS, models_on
from tfvlad.runs.settings.rules import (
    OPTIMIZERS,
    check_rules,
    setting,
    without_effect,
)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """How a model is trained on features that were extracted before, and tested.

    `units` is passed over by the model without it. Any other setting that would have no effect on
    the model is refused.

    Args:
        model: "attention-lstm", "plain-lstm" or "feature-softmax".
        num_steps: steps of the LSTM, N.
        num_attended: attended frames, T.
        sampling: "chunk", consecutive features from a random start, or "uniform", features spread
            over the whole clip.
        chunk_frames: frames of a chunk; a shorter video starts again from its first frame.
        units: size of the LSTM's state.
        matching_units: size of the attention's matching vector.
        attend: the attention LSTM's variant: attention and class scores at "every_step" (a), or at
            the "last_step" alone (b).
        dropout: share of the values dropped on non-recurrent connections.
        recipe: "attention-lstm", SGD with early stopping; or "hollywood2", its fine-tuning for
            several labels.
        optimizer: "adam", "sgd", and of tensorflow-addons "rectified_adam" and "lookahead"; None
            for the recipe's.
        max_epochs: most epochs of the training; None for the recipe's.
        learning_rate: at the first epoch; None for the recipe's.
        patience: epochs without a better one after which the training ends; None for the recipe's.
        weight_decay: decoupled weight decay; None for the recipe's.
        batch_size: clips of a batch; None for the recipe's, 200, or 100 of "hollywood2".
        initialize_from: folder of a run whose weights the model begins with; other classes get a
            new head.
        validation_fraction: share of the training clips, whole source videos at a time, by which
            the best epoch is chosen.
        seed: of everything that is drawn.
        test_chunks: random chunks of a test clip's features, and as many mirrored ones.

    Raises:
        ValueError: when a setting is out of range, or has no effect on the model.
    """

    model: str = setting("attention-lstm", choices=models_on("features"))
    num_steps: int = setting(12, minimum=1)
    num_attended: int = setting(12, minimum=1)
    sampling: str = setting("chunk", choices=("chunk", "uniform"))
    chunk_frames: int = setting(192, minimum=1)
    units: int = setting(512, minimum=1)
    matching_units: int = setting(512, minimum=1)
    attend: str = setting("every_step", choices=("every_step", "last_step"))
    dropout: float = setting(0.5, minimum=0, below=1)
    recipe: str = setting("attention-lstm", choices=("attention-lstm", "hollywood2"))
    optimizer: str | None = setting(None, choices=OPTIMIZERS)
    max_epochs: int | None = setting(None, minimum=1)
    learning_rate: float | None = setting(None, above=0)
    patience: int | None = setting(None, minimum=1)
    weight_decay: float | None = setting(None, minimum=0)
    batch_size: int | None = setting(None, minimum=1)
    initialize_from: str | None = None
    validation_fraction: float = setting(0.15, above=0, below=1)
    seed: int = setting(0, minimum=0)
    test_chunks: int = setting(40, minimum=1)

    def __post_init__(self) -> None:
        check_rules(self)
        takes = MODELS[self.model].takes
        for name in ("num_attended", "matching_units", "attend"):
            value = getattr(self, name)
            if name not in takes and value != getattr(FeatureSettings, name):
                raise without_effect(name, value, f"model={self.model!r}")

    @property
    def clips_per_batch(self) -> int:
        """The batch size, the recipe's where none is given."""
        return self.batch_size or (100 if self.recipe == "hollywood2" else 200)

    @property
    def attends(self) -> bool:
        """Whether the model attends to features, of a second set or of the same."""
        return "num_attended" in MODELS[self.model].takes

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Steps of a clip in each of the model's inputs."""
        return (self.num_steps, self.num_attended) if self.attends else (self.num_steps,)

    def model_arguments(self) -> dict[str, Any]:
        """What the model's builder is called with, besides classes and channels."""
        values = {name: getattr(self, name) for name in MODELS[self.model].takes}
        return {**values, "num_steps": self.num_steps, "dropout": self.dropout}
