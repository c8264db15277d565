"""The flags, messages and exit codes of `tfvlad import-features`."""

import json

import numpy as np
import pytest

from pipelines import import_features as library
from tests.tfvlad_cli.commands import assert_one_sentence, shown_defaults, tfvlad
from tfvlad_cli.import_features import import_features


@pytest.fixture
def arrays(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "a.npz", rgb=np.ones((4, 3)), flow=np.ones((4, 2)))
    return tmp_path / "arrays"


def test_all_flags_and_json(arrays, tmp_path):
    folder = tmp_path / "set"
    options = ("--key", "flow", "--frame-step", 5, "--frames-per-second", 25, "--max-broken", 0)
    result = tfvlad("import-features", arrays, folder, *options, "--json")
    assert result.exit_code == 0, result.errors
    expected = {"folder": str(folder), "num_videos": 1, "num_channels": 2, "broken": []}
    assert json.loads(result.output) == expected
    found = library(arrays, folder, key="flow", frame_step=5, frames_per_second=25, max_broken=0)
    assert json.loads(json.dumps(found.to_dict())) == expected
    described = json.loads((folder / "features.json").read_text())
    expected = {"layer": "flow", "frame_step": 5, "frames_per_second": 25}
    assert described == {**described, **expected}
    result = tfvlad("import-features", arrays, folder, "--key", "rgb")
    assert_one_sentence(result, "(layer: ")


def test_shown_defaults_are_the_librarys():
    assert shown_defaults(import_features, library) == {"frame_step"}


def test_unknown_times_and_broken_arrays_are_told(arrays, tmp_path):
    np.savez(arrays / "b.npz", rgb=np.ones((0, 3)))
    result = tfvlad("import-features", arrays, tmp_path / "set", "--key", "rgb")
    assert result.exit_code == 0, result.errors
    assert result.output == f"{tmp_path / 'set'}: 3 channels for 1 clips\n"
    assert f"1 of 2 arrays are broken and have no features:\n  {arrays / 'b.npz'}: its " in (
        result.errors
    )
    assert "set tells no times: positions are counted in features." in result.errors


def test_errors_are_one_sentence(arrays, tmp_path):
    result = tfvlad("import-features", arrays, tmp_path / "set")
    assert_one_sentence(
        result, "it must hold one array, or `--key` name one; its arrays: flow, rgb"
    )
