"""What a user gets who installs the project."""

import configparser
import email
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import PROJECT

PACKAGES = ("tfvlad", "tfvlad_cli", "pipelines", "tuning", "export")
EXTRAS = {"addons", "bench", "dev", "docs", "export", "tfds", "tune"}


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg")
    return parser


def test_extras():
    extras = setup_cfg()["options.extras_require"]
    assert set(extras) >= EXTRAS
    for name in ("tensorflow ==2.15.1", "tensorflow-addons ==0.23.*", "tensorflow-io ==0.36.*"):
        assert name in extras["addons"]


def test_every_dependency_has_a_range():
    options = setup_cfg()
    lists = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    for line in "\n".join(lists).split("\n"):
        name, _, versions = line.strip().partition(" ")
        # An exact version, or a lower and an upper bound; an upper one may narrow another list.
        assert not name or "==" in versions or "<" in versions, line


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "demo-output", "tests")
    shutil.copytree(PROJECT, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run(command, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
class TestWheel:
    def test_files(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        for package in PACKAGES:
            assert f"{package}/py.typed" in names
            inside = {name for name in names if name.startswith(f"{package}/")}
            files = (path for path in (PROJECT / package).rglob("*") if path.is_file())
            here = {str(path.relative_to(PROJECT)) for path in files if path.suffix != ".pyc"}
            assert inside == here
        assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {*PACKAGES}

    def test_metadata(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
            metadata = email.message_from_bytes(archive.read(name))
            assert [name for name in archive.namelist() if name.endswith("/LICENSE")]
        assert metadata["Name"] == "tfvlad"
        # Under the newer name since setuptools 77 for pyproject.toml, the older for setup.cfg.
        assert "Apache-2.0" in (metadata["License-Expression"], metadata["License"])
        assert set(metadata.get_all("Provides-Extra")) >= EXTRAS
        assert metadata["Description-Content-Type"] == "text/markdown"

    def test_command_in_an_empty_environment(self, wheel, tmp_path):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", wheel], check=True)
        # All that the help needs.
        (click,) = [
            line.strip()
            for line in setup_cfg()["options"]["install_requires"].split("\n")
            if line.startswith("click ")
        ]
        subprocess.run([*pip, click], check=True)
        result = subprocess.run(
            [tmp_path / "venv/bin/tfvlad", "--help"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("Usage: tfvlad ")
