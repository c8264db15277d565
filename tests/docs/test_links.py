"""Links between the files work in a checkout; `make docs` checks those of the site."""

from __future__ import annotations

import re

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import PAGES

LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)")


@pytest.mark.parametrize("page", PAGES)
def test_targets_are_there(page):
    folder = (PROJECT / page).parent
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S)
    targets = [match[1] for match in LINK.finditer(text)]
    assert [target for target in targets if not (folder / target).is_file()] == []


def test_readme_is_one_screen():
    assert len(PAGES["README.md"].splitlines()) <= 150
