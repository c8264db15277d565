"""The shell commands of the pages: bash expands them, and the command's own parser checks them."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.docs.pages import PAGES, blocks
from tfvlad_cli.main import cli

PROGRAMS = ("tfvlad", "pip", "make", "docker", "python", "tensorboard")
ARGUMENT_END, CALL_END = "\x1e", "\x1d"
BLOCKS = blocks("sh")
MAKEFILE = (PROJECT / "Makefile").read_text()


def calls(code: str, folder: Path) -> list[list[str]]:
    """What the code would run, program and arguments, after bash has expanded it."""
    record = folder / "calls"
    functions = "".join(
        f"{name}() {{ printf '%s{ARGUMENT_END}' {name} \"$@\" '{CALL_END}' >> {record}; }}\n"
        for name in PROGRAMS
    )
    # Another program is not found, and an unknown variable is an error.
    script = f"set -eu\n{functions}{code}\nwait\n"
    subprocess.run(
        [shutil.which("bash"), "-c", script], check=True, cwd=folder, env={"PATH": os.devnull}
    )
    recorded = record.read_text().split(CALL_END + ARGUMENT_END)[:-1]
    return [call.split(ARGUMENT_END)[:-1] for call in recorded]


def make_user_files(arguments: list[str]) -> None:
    """What the arguments name, in the current folder, so that they can be checked."""
    for argument in arguments:
        if re.search(r"\.(h5|txt|csv|json|mp4|npy|npz)$", argument):
            Path(argument).parent.mkdir(parents=True, exist_ok=True)
            Path(argument).touch()
        elif "/" in argument and ":" not in argument:
            Path(argument).mkdir(parents=True, exist_ok=True)


def check(program: str, arguments: list[str]) -> None:
    if program == "tfvlad":
        name, *arguments = arguments
        command = cli.get_command(None, name)
        assert command, name
        # Parses and checks every argument and option, without running the command.
        with cli.make_context("tfvlad", [name]) as parent:
            assert command.make_context(name, arguments, parent=parent).params
    elif program == "make":
        (target,) = arguments
        assert f"\n{target}:" in MAKEFILE
    elif program == "pip":
        assert arguments[0] == "install"
        setup = configparser.ConfigParser()
        setup.read(PROJECT / "setup.cfg")
        extras = re.findall(r"\w+", arguments[1])
        assert set(extras) <= set(setup["options.extras_require"])
    elif program == "python":
        assert (PROJECT / arguments[0]).is_file()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = calls(block.code, tmp_path)
    assert found
    for program, *arguments in found:
        make_user_files(arguments)
        check(program, arguments)


def test_bash_expands(tmp_path):
    code = "name='a b'  # said\nfor m in x y; do\n  tfvlad train $m \\\n    \"$name\" &\ndone"
    found = sorted(calls(code, tmp_path))
    assert found == [["tfvlad", "train", "x", "a b"], ["tfvlad", "train", "y", "a b"]]


@pytest.mark.parametrize("code", ["rm -r videos", "tfvlad train $nothing"])
def test_what_is_wrong_is_seen(code, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        calls(code, tmp_path)


def test_options_in_the_text_are_known():
    commands = [cli.get_command(None, name) for name in cli.list_commands(None)]
    known = {
        option
        for command in [cli, *commands]
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for name, text in PAGES.items():
        code = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        used = {o for part in code for o in re.findall(r"(?<![\w-])--[a-z][\w-]*", part)}
        assert used <= {*known, "--help", "--quick", "--seeds", "--strict"}, name
