"""An oracle that tries every combination."""

from __future__ import annotations

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
        running = {trial.trial_id for trial in self.ongoing_trials.values()}
        tried = [
            trial.hyperparameters.values
            for trial in self.trials.values()
            # One that runs nowhere was lost when its process was killed.
            if trial.status != TrialStatus.RUNNING or trial.trial_id in running
        ]
        for values in self.combinations():
            if values not in tried:
                return {"status": TrialStatus.RUNNING, "values": values}
        return {"status": TrialStatus.STOPPED}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """All of them; a value under a condition that does not hold is left out."""
        hp = self.get_space()

        def choose(number: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if number == len(hp.space):
                yield values
                return
            parameter = hp.space[number]
            hp.values = values
            if not hp.is_active(parameter):
                yield from choose(number + 1, values)
                return
            for value in parameter.values:
                yield from choose(number + 1, {**values, parameter.name: value})

        return choose(0, {})
