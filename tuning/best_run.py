"""The best trial's model as a run folder."""

from __future__ import annotations

import filecmp
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from pipelines.storage.files import write_aside, write_json
from pipelines.storage.owned_folder import read_json
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.data import write_lists
from tfvlad.runs.model_files import save_model
from tuning.results.trials import Trial, best_trials
from tuning.search_plan import SearchPlan

_logger = logging.getLogger(__name__)


def write_best_run(folder: Path, plan: SearchPlan, trials: Sequence[Trial]) -> Trial:
    """Make `best` in a search's folder the run of the best trial.

    Args:
        folder: of the search.
        plan: of the search.
        trials: of the search.

    Returns:
        The trial.

    Raises:
        ValueError: when no trial has a model.
    """
    with_model = [trial for trial in trials if "stages" in trial.metrics]
    if not with_model:
        raise ValueError(f"No trial has a model; '{folder / 'trials.csv'}' says why.")
    best = best_trials(with_model)[0]
    config, number = plan.config_with(best.values), int(best.metrics["stages"])
    if isinstance(config, RunConfig) and number == 1:  # Hyperband may not have come to the second
        settings = replace(config.settings, epochs=(config.settings.epochs[0], 0))
        config = replace(config, settings=settings)
    run, model = folder / "best", folder / "best.keras"
    if not _is_written(run, config, model):  # else what lies beside it, its evaluation, stays
        with write_aside(run) as aside:
            write_json(aside / "config.json", config.to_dict())
            shutil.copyfile(model, aside / f"stage{number}.keras")
            save_model(keras.models.load_model(model), aside, number)
            shutil.copyfile(best.folder / "history.csv", aside / "history.csv")
            write_lists(aside / "lists.csv", plan.parts, config.class_names)
            shutil.rmtree(run, ignore_errors=True)
    _logger.info("The best model is '%s', of trial %s. Test it once.", run, best.trial_id)
    return best


def _is_written(run: Path, config: RunConfig | FeatureRunConfig, model: Path) -> bool:
    paths = run / "config.json", run / "model.keras"
    return (
        all(path.exists() for path in paths)
        and read_json(paths[0]) == json.loads(json.dumps(config.to_dict()))
        and filecmp.cmp(paths[1], model, shallow=False)
    )
