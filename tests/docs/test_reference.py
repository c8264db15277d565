"""Every public name has a place in the reference."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import tfvlad
from tests.docs.pages import PAGES

ENTRIES = {
    match[1]
    for page, text in PAGES.items()
    if page.startswith("docs/reference/")
    for match in re.finditer(r"^::: (\S+)$", text, re.M)
}
ROOMS = [f"tfvlad.{name}" for name in tfvlad.__all__ if inspect.ismodule(getattr(tfvlad, name))]


@pytest.mark.parametrize("module", ["tfvlad", *ROOMS, "pipelines", "tuning", "export"])
def test_every_name_is_listed(module):
    if module in ENTRIES:  # with all of its names
        return
    package = importlib.import_module(module)
    names = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
    listed = {entry.rpartition(".")[2] for entry in ENTRIES}
    assert names - listed - {"__version__"} == set()


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_every_entry_is_there(entry):
    try:
        importlib.import_module(entry)
    except ModuleNotFoundError:
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
