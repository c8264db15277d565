"""The page of the papers' studies names commands and tests that are there."""

import re
import shlex

import pytest

from tests.conftest import PROJECT
from tfvlad.cli.main import cli

PAGE = (PROJECT / "examples" / "studies.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and "`tfvlad " in line
]
COMMANDS = [re.search(r"`(tfvlad [^`]*)`", row[2])[1] for row in ROWS]
TESTS = [re.search(r"`(tests/[^`]*)`", row[3])[1] for row in ROWS]


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """What the commands name, so that their arguments are checked."""
    monkeypatch.chdir(tmp_path)
    for name in ("videos", "flow", "lists", "charades"):
        (tmp_path / name).mkdir()
    for command in COMMANDS:
        for argument in re.findall(r"runs/[\w-]+", command):
            (tmp_path / argument).mkdir(parents=True, exist_ok=True)
        for argument in re.findall(r"[\w-]+\.(?:h5|txt|csv|mp4)", command):
            (tmp_path / argument).touch()


def test_every_row_is_complete():
    assert len(ROWS) == 41
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, user_folder):
    _, name, *arguments = shlex.split(command)
    subcommand = cli.get_command(None, name)
    # Parses and checks every argument and option, without running the command.
    with cli.make_context("tfvlad", [name]) as parent:
        context = subcommand.make_context(name, arguments, parent=parent)
    assert context.params


@pytest.mark.parametrize("test", sorted(set(TESTS)))
def test_test(test):
    path, _, name = test.partition("::")
    source = (PROJECT / path).read_text()
    function, _, case = name.partition("[")
    assert not function or f"def {function}(" in source
    # The cases are strings of the module, in the order of the parameters.
    assert not case or f'"{case.removesuffix("]")}"' in source
