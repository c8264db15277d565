"""The shell block and the Python block of the README do the same, on made videos."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from tests.docs.pages import block
from tests.docs.test_shell import calls
from tests.tfvlad_cli.commands import tfvlad, write_parts, write_video

# What makes the README's training small: in the shell, and in Python.
SMALL = {
    "backbone": ("resnet18", "'resnet18'"),
    "weights": ("none", "None"),
    "image-size": ("32", "32"),
    "frames": ("2", "2"),
    "clusters": ("2", "2"),
    "units": ("2", "2"),
    "cached-crops": ("1", "1"),
    "epochs": ("1 0", "(1, 0)"),
}
ARGUMENTS = {"frames": "num_frames", "clusters": "num_clusters", "cached-crops": "num_cached_crops"}


def in_shell() -> str:
    options = " ".join(f"--{name} {value}" for name, (value, _) in SMALL.items())
    code = block("sh", "README.md", "In the shell")
    return code.replace("train videos/ runs/kick", f"train videos/ runs/kick {options}")


def in_python() -> str:
    settings = ", ".join(
        f"{ARGUMENTS.get(name, name.replace('-', '_'))}={value}"
        for name, (_, value) in SMALL.items()
    )
    code = block("python", "README.md", "In Python")
    return code.replace('"videos/", "runs/kick"', f'"videos/", "runs/kick", {settings}')


@pytest.fixture(scope="module")
def twins(eagerly, small_networks, tmp_path_factory):
    """What each command has printed, the names of the Python block, and when the model is of.

    The Python block goes on with the command's run: another setting would be refused.
    """
    folder = tmp_path_factory.mktemp("user")
    write_parts(folder / "videos", num_train=4, num_test=2)
    write_video(folder / "a.mp4", 0)
    write_video(folder / "b.mp4", 1)
    write_video(folder / "match.mp4", 0, num_frames=20)
    printed, names, times = {}, {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # What a training switches on cannot be switched off again: it stays out of this process.
        patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
        for program, *arguments in calls(in_shell(), folder):
            if program == "tfvlad":
                result = tfvlad(*arguments, "--json")
                assert result.exit_code == 0, result.errors
                printed[arguments[0]] = json.loads(result.output)
        model = folder / "runs" / "kick" / "model.keras"
        times.append(model.stat().st_mtime_ns)
        exec(in_python(), names)
        times.append(model.stat().st_mtime_ns)
        yield printed, names, times


def test_verify(twins):
    printed, names, _ = twins
    assert names["pipelines"].verify("videos/").to_dict() == printed["verify"]


def test_train(twins):
    printed, names, (before, after) = twins
    assert before == after
    assert printed["train"] == {"runs": [names["run"].result]}


def test_predict(twins):
    printed, names, _ = twins
    assert names["run"].predict(["a.mp4", "b.mp4"]).to_dict(5) == printed["predict"]


def test_highlight(twins):
    printed, names, _ = twins
    told, (shown,) = names["found"].to_dict(), printed["highlight"]["highlights"].values()
    assert {name: told[name] for name in shown} == shown
