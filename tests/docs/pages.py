"""The pages of the documentation and the blocks of code in them."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.conftest import PROJECT

PAGES = {
    str(path.relative_to(PROJECT)): path.read_text("utf-8")
    for path in (
        PROJECT / "README.md",
        PROJECT / "CONTRIBUTING.md",
        *sorted((PROJECT / "docs").rglob("*.md")),
    )
}


class Block(NamedTuple):
    """A block of code: its page, the heading above it, and its number below that, from 1."""

    page: str
    heading: str
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}#{self.heading}:{self.number}"


def blocks(language: str, page: str | None = None) -> list[Block]:
    """All blocks of a language, of all pages or of one."""
    found = []
    for name in PAGES if page is None else [page]:
        heading, number = "", 0
        for match in re.finditer(r"^#+ ([^\n]*)|^```(\w*)\n(.*?)^```$", PAGES[name], re.M | re.S):
            if match[1] is not None:
                heading, number = match[1], 0
            elif match[2] == language:
                number += 1
                found.append(Block(name, heading, number, match[3]))
    return found


def block(language: str, page: str, heading: str, number: int = 1) -> str:
    """The code of one block."""
    (code,) = (b.code for b in blocks(language, page) if b[1:3] == (heading, number))
    return code
