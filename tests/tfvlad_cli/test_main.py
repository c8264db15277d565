import subprocess
import sys
import textwrap

import pytest

from tests.conftest import PROJECT
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_video
from tfvlad_cli.main import cli

COMMANDS = (
    *("demo", "verify", "features", "import-features", "flow", "train", "ablation", "tune"),
    *("evaluate", "compare", "fuse", "predict", "highlight", "watch", "export", "show"),
)


def test_help_lists_the_commands():
    result = tfvlad("--help")
    assert result.exit_code == 0
    assert "Example:\n    tfvlad train videos/ run/" in result.output
    assert cli.list_commands(None) == list(COMMANDS)
    for name in COMMANDS:
        assert f"\n  {name}  " in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_an_example(name):
    for option in ("--help", "-h"):
        result = tfvlad(name, option)
        assert result.exit_code == 0
        assert f"Example:\n    tfvlad {name} " in result.output
        assert "--json" in result.output


def test_version():
    assert tfvlad("--version").output.startswith("tfvlad, version ")


def test_unknown_command():
    result = tfvlad("learn")
    assert result.exit_code == 2
    assert "No such command 'learn'." in result.errors


def test_removed_commands_name_what_does_it_now():
    result = tfvlad("ensemble", "runs/a", "runs/b", "--output", "runs/both")
    assert result.exit_code == 2
    message = "`tfvlad ensemble` is now `tfvlad fuse --on probabilities`."
    assert message in result.errors.splitlines()[-1]


@pytest.mark.parametrize("error", [ValueError, OSError, FloatingPointError, ImportError])
def test_errors_of_the_user_are_one_sentence(monkeypatch, tmp_path, error):
    video = write_video(tmp_path / "video.mp4", 0)

    def fail(*arguments, **options):
        raise error("a sentence")

    monkeypatch.setattr("pipelines.video.verification.index_videos", fail)
    assert_one_sentence(tfvlad("verify", video), "tfvlad: a sentence")
    monkeypatch.setenv("TFVLAD_TRACEBACK", "1")
    with pytest.raises(error):
        tfvlad("verify", video)


def test_own_mistakes_keep_their_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("pipelines.video.verification.index_videos", None)
    with pytest.raises(TypeError):
        tfvlad("verify", write_video(tmp_path / "video.mp4", 0))


@pytest.mark.parametrize("command", ["--help", "--version", "verify", "train --help"])
def test_tensorflow_is_not_imported(tmp_path, command):
    video = write_video(tmp_path / "video.mp4", 0)
    arguments = [*command.split(), *([str(video)] if command == "verify" else [])]
    code = f"""
    import sys
    from tfvlad_cli.main import main
    sys.argv = ["tfvlad", *{arguments!r}]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code
    sys.exit(str([name for name in ("tensorflow", "keras") if name in sys.modules]))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert result.stderr.splitlines()[-1] == "[]"
    assert result.stdout
