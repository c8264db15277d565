"""The page of the papers' studies names commands and tests that are there."""

import re
import shlex

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import PAGES
from tests.docs.test_shell import check, make_user_files

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGES["docs/studies.md"].splitlines()
    if line.startswith("|") and "`tfvlad " in line
]
COMMANDS = [re.search(r"`(tfvlad [^`]*)`", row[2])[1] for row in ROWS]
TESTS = [re.search(r"`(tests/[^`]*)`", row[3])[1] for row in ROWS]


def test_every_row_is_complete():
    assert len(ROWS) == 42
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    make_user_files(arguments)
    check(program, arguments)


@pytest.mark.parametrize("test", sorted(set(TESTS)))
def test_test(test):
    path, _, name = test.partition("::")
    source = (PROJECT / path).read_text()
    function, _, case = name.partition("[")
    assert not function or f"def {function}(" in source
    # The cases are strings of the module, in the order of the parameters.
    assert not case or f'"{case.removesuffix("]")}"' in source
