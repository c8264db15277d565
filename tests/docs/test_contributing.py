"""The page for contributors names files, folders and names that exist, and its map is the house."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import PAGES

PAGE = "docs/contributing.md"
TEXT = re.sub(r"^```.*?^```$", "", PAGES[PAGE], flags=re.M | re.S)
PATHS = sorted(set(re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|[\w-]+\.(?:md|cfg|toml))`", TEXT)))
# `NAME` in `FILE`, `NAME` of `FILE`, `NAME` (`FILE`)
NAMED = re.findall(r"`(\w+)`(?: (?:in|of)|,?) \(?`([\w/]+\.pyi?)`", TEXT)
(MAP,) = re.findall(r"^```\n +what it holds.*?^```$", PAGES[PAGE], re.M | re.S)


def paths_of_the_map() -> Iterator[str]:
    folders: list[str] = []
    for indent, name in re.findall(r"^((?:  ){0,3})([\w.]+/?) ", MAP, re.M):
        folders = [*folders[: len(indent) // 2], name]
        yield "".join(folders)


def test_there_is_something_to_check():
    assert len(PATHS) > 60
    assert len(NAMED) > 15


@pytest.mark.parametrize("path", PATHS)
def test_path_exists(path):
    assert (PROJECT / path).exists()
    assert path.endswith("/") == (PROJECT / path).is_dir()


@pytest.mark.parametrize(("name", "path"), sorted(set(NAMED)))
def test_name_is_in_the_file(name, path):
    assert re.search(rf"\b{name}\b", (PROJECT / path).read_text("utf-8"))


@pytest.mark.parametrize("path", sorted(paths_of_the_map()))
def test_path_of_the_map_exists(path):
    assert (PROJECT / path).exists()


def test_every_package_folder_is_on_the_map():
    packages = ("tfvlad", "tfvlad_cli", "pipelines", "tuning", "export")
    folders = {
        f"{path.parent.relative_to(PROJECT)}/"
        for package in packages
        for path in (PROJECT / package).glob("**/__init__.py")
    }
    assert folders - set(paths_of_the_map()) == set()
