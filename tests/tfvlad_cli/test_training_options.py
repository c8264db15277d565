"""The flags of a training and the library's settings: one set of names, ranges and defaults."""

from dataclasses import fields
from inspect import signature

import click
import pytest

import tfvlad
from tfvlad import FeatureSettings, VideoSettings
from tfvlad.backbones.catalog import BACKBONES
from tfvlad.runs.settings.model_table import models_on
from tfvlad_cli import options, training_options
from tfvlad_cli.evaluate import evaluate
from tfvlad_cli.options import Numbers, Words
from tfvlad_cli.train import train

SETTINGS = {one.name: one for kind in (FeatureSettings, VideoSettings) for one in fields(kind)}
# Several of them are given to the command, and --no-cache is `num_cached_crops=None`.
OTHERS = {"splits", "seeds", "as_json", "no_cache"}
OPTIONS = {one.name: one for one in train.params if isinstance(one, click.Option)}


def test_the_command_takes_every_setting_and_every_argument():
    arguments = set(signature(tfvlad.train).parameters)
    arguments -= {"data", "folder", "settings", "split", "changes"}
    assert set(OPTIONS) - OTHERS == (set(SETTINGS) - {"seed"}) | arguments


def test_models_and_backbones():
    assert models_on("videos") == training_options.VIDEO_MODELS
    assert models_on("features") == training_options.FEATURE_MODELS
    assert tuple(BACKBONES) == training_options.BACKBONES


def shown_default(option):
    _, found, text = (option.help or "").rpartition("[default: ")
    return text.removesuffix("]") if found else None


def test_what_is_not_given_is_left_to_the_library(tmp_path):
    # The names of the help option stay with the command.
    shared = {"help_option_names": ["-h", "--help"]}
    context = train.make_context("train", [str(tmp_path), "run"], **shared)
    assert options.given(context) == {}


@pytest.mark.parametrize("name", sorted(set(OPTIONS) & set(SETTINGS)))
def test_defaults_that_are_shown(name):
    option, setting = OPTIONS[name], SETTINGS[name]
    text = shown_default(option)
    if text is None:
        return
    default = setting.default
    if isinstance(default, tuple):
        expected = " ".join(map(str, default))
    elif isinstance(default, bool):
        expected = option.opts[0].removeprefix("--") if default else None
    else:
        expected = (
            str(default).replace("_", "-") if isinstance(option.type, Words) else str(default)
        )
    assert text == expected


@pytest.mark.parametrize("name", sorted(set(OPTIONS) & set(SETTINGS)))
def test_choices_and_ranges(name):
    option = OPTIONS[name]
    kinds = [
        kind.__dataclass_fields__[name].metadata
        for kind in (VideoSettings, FeatureSettings)
        if name in kind.__dataclass_fields__
    ]
    types = option.type.types if isinstance(option.type, click.Tuple) else [option.type]
    for number, kind in enumerate(types):
        if isinstance(kind, click.Choice):
            choices = {str(choice) for rule in kinds for choice in rule["choices"]}
            words = {choice.replace("-", "_") for choice in kind.choices}
            is_translated = isinstance(kind, Words)
            assert (words if is_translated else set(kind.choices)) == choices
            assert not isinstance(kind, Numbers) or name == "test_crops"
        elif isinstance(kind, (click.IntRange, click.FloatRange)):
            for rule in kinds:
                low = rule.get("above", rule.get("minimum"))
                # Stage 1 has at least one epoch.
                assert kind.min == (1 if name == "epochs" and number == 0 else low)
                assert kind.min_open == ("above" in rule)
                assert kind.max == rule.get("below", rule.get("maximum"))
                assert kind.max_open == ("below" in rule)


def test_evaluate_takes_what_the_library_does():
    known = {one.name for one in evaluate.params} - {"run", "as_json"}
    assert known == set(signature(tfvlad.Run.evaluate).parameters) - {"self"}
