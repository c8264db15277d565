"""Search spaces: functions from KerasTuner's `HyperParameters` to the values of a trial.

Any function of this form may take their place. What a space leaves out keeps the default of the
hyper-model, and `fixed` of a hyper-model takes a value out of its space.
"""

from __future__ import annotations

from typing import Any

import keras_tuner

from tfvlad import compat


def ta_vlad_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """What matters for TA-VLAD: the sizes, the sharpness, the attention, and the training."""
    return {
        **paper_space(hp),
        **_shared_space(hp),
        "bidirectional": hp.Boolean("bidirectional"),
        "attention": hp.Boolean("attention", default=True),
    }


def action_vlad_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """The same for ActionVLAD, which has no recurrent units."""
    return {
        "num_clusters": hp.Choice("num_clusters", [16, 32, 64, 128], default=64),
        **_shared_space(hp),
        "attention": hp.Boolean("attention"),
    }


def two_stream_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """The same for ActionVLAD on frames and optical flow, which are joined early or late."""
    return {
        "num_clusters": hp.Choice("num_clusters", [16, 32, 64, 128], default=64),
        **_shared_space(hp),
        "fusion": hp.Choice("fusion", ["concat", "early"]),
    }


def attention_lstm_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """What matters for the attention LSTM: its sizes, where it attends, and the training.

    Features of one frame of 16 have 12 steps in the paper's chunks of 192 frames; finer ones allow
    a space of more.
    """
    return {
        "units": hp.Choice("units", [128, 256, 512]),
        "matching_units": hp.Choice("matching_units", [128, 256, 512]),
        "attend": hp.Choice("attend", ["every_step", "last_step"]),
        "num_steps": hp.Choice("num_steps", [4, 6, 12], default=12),
        "num_attended": hp.Choice("num_attended", [4, 6, 12], default=12),
        "dropout": hp.Float("dropout", 0.0, 0.75, step=0.25, default=0.5),
        "optimizer": hp.Choice("optimizer", list(compat.OPTIMIZERS), default="sgd"),
        "learning_rate": hp.Float("learning_rate", 1e-4, 3e-2, sampling="log", default=1e-2),
    }


def paper_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """The search of the TA-VLAD paper: clusters K and recurrent units U, best at 64 and 256.

    Reference:
        Sudhakaran and Lanz, section 4.2; which values were tried is not told, these are ours.
    """
    return {
        "num_clusters": hp.Choice("num_clusters", [16, 32, 64, 128], default=64),
        "units": hp.Choice("units", [64, 128, 256, 512], default=256),
    }


def _shared_space(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """What the models of clips share: the sharpness, the frames and both stages' training."""
    num_freed_blocks = hp.Choice("num_freed_blocks", [0, 1, 2])
    values = {
        "alpha": hp.Float("alpha", 1.0, 1000.0, sampling="log", default=1000.0),
        "dropout": hp.Float("dropout", 0.0, 0.75, step=0.25, default=0.5),
        "num_frames": hp.Choice("num_frames", [6, 12, 25], default=12),
        "optimizer": hp.Choice("optimizer", list(compat.OPTIMIZERS), default="adam"),
        "stage1_learning_rate": hp.Float(
            "stage1_learning_rate", 1e-4, 3e-2, sampling="log", default=1e-2
        ),
        "num_freed_blocks": num_freed_blocks,
    }
    with hp.conditional_scope("num_freed_blocks", [1, 2]):
        if num_freed_blocks:
            values["stage2_learning_rate"] = hp.Float(
                "stage2_learning_rate", 1e-5, 1e-3, sampling="log", default=1e-4
            )
    return values
