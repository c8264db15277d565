"""The page of the settings: tables that are made from the code, and what a checkout shows."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from types import SimpleNamespace

import click
import pytest

from tests.conftest import PROJECT
from tests.docs.pages import PAGES
from tfvlad import FeatureSettings, VideoSettings
from tfvlad_cli.train import train

PAGE = "docs/settings.md"
both_kinds = pytest.mark.parametrize("kind", [VideoSettings, FeatureSettings])


@pytest.fixture(scope="module")
def tables() -> SimpleNamespace:
    """The module that `docs/hooks.py` takes the tables from."""
    path = PROJECT / "docs" / "settings_tables.py"
    spec = importlib.util.spec_from_file_location("settings_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@both_kinds
def test_every_setting_is_there_with_the_librarys_default(tables, kind):
    rows = rows_of(tables.table(kind))
    assert [row[0] for row in rows] == [f"`{one.name}`" for one in fields(kind)]
    defaults = vars(kind())
    for name, _, default, _, _ in rows:
        assert eval(default.strip("`")) == defaults[name.strip("`")]


@both_kinds
def test_options_are_those_of_the_command(tables, kind):
    by_flag = {
        flag: option
        for option in train.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    }
    for name, options, *_ in rows_of(tables.table(kind)):
        flags = [flag.strip("`") for flag in options.split(", ")]
        if name == "`num_cached_crops`":
            assert flags == ["--cached-crops", "--no-cache"]
        elif name == "`seed`":
            assert flags == ["--seed"]
        else:
            assert {by_flag[flag].name for flag in flags} == {name.strip("`")}


@both_kinds
def test_no_cell_is_empty(tables, kind):
    for row in rows_of(tables.table(kind)):
        assert len(row) == 5
        assert all(row), row[0]


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        (VideoSettings, "stream", '`"rgb"` or `"flow"`'),
        (VideoSettings, "alpha", '`"auto"` or a number > 0'),
        (VideoSettings, "dropout", "a number ≥ 0 and < 1"),
        (VideoSettings, "learning_rates", "two numbers > 0"),
        (VideoSettings, "attention", "`True`, `False` or `None`"),
        (VideoSettings, "aggregate_at", "a text or `None`"),
        (FeatureSettings, "max_epochs", "a whole number ≥ 1 or `None`"),
    ],
)
def test_allowed_values(tables, kind, name, allowed):
    (row,) = (row for row in rows_of(tables.table(kind)) if row[0] == f"`{name}`")
    assert row[3] == allowed


def test_meanings_are_whole_sentences_of_the_docstring(tables):
    meanings = {row[0]: row[4] for row in rows_of(tables.table(VideoSettings))}
    assert len(meanings["`weights`"].split()) > 15  # of two lines
    docstring = " ".join((VideoSettings.__doc__ or "").split())
    for name, meaning in meanings.items():
        assert f"{name.strip('`')}: {meaning}" in docstring


def test_the_website_has_the_tables_in_the_place_of_the_advice(tables):
    page = tables.with_tables(PAGES[PAGE])
    assert "settings.py" not in page
    assert "<!--" not in page
    for kind in (VideoSettings, FeatureSettings):
        assert page.count(tables.table(kind)) == 1
    assert page.startswith("# Settings\n")
    assert page.rstrip().endswith(PAGES[PAGE].rstrip()[-80:])
