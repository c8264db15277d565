"""An oracle that tries every combination."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus


class GridOracle(keras_tuner.Oracle):
    """Every combination of a space's values once, the last value of the space changing first.

    KerasTuner's own `GridSearchOracle` does not save which combinations are left, so that a search
    that was killed cannot go on (keras-team/keras-tuner#1055). Here they are those that no trial
    has: the trials are all that has to be known, and workers never wait for each other.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next combination, see `keras_tuner.Oracle.populate_space`."""
        tried = {_key(trial.hyperparameters.values) for trial in self.trials.values()}
        for values in self._combinations():
            if _key(values) not in tried:
                return {"status": TrialStatus.RUNNING, "values": values}
        return {"status": TrialStatus.STOPPED}

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """All of them; a value under a condition that does not hold is left out."""
        hp = self.get_space()
        names = [parameter.name for parameter in hp.space]
        for values in itertools.product(*(list(parameter.values) for parameter in hp.space)):
            hp.values = dict(zip(names, values, strict=True))
            yield {p.name: hp.values[p.name] for p in hp.space if hp.is_active(p)}


def _key(values: dict[str, Any]) -> tuple:
    return tuple(sorted(values.items()))
