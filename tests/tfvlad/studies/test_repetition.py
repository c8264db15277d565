"""A training over several splits and seeds; the trainings themselves are the runs' tests'."""

import json

import numpy as np
import pytest

from pipelines.storage.files import write_json
from tfvlad.evaluation import ScoreFile, write_scores
from tfvlad.runs.config import RunConfig
from tfvlad.studies import compare, repeat, repetition

TOP1 = {1: 0.5, 2: 0.75}


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    """Trainings that leave the files alone which tell of a run; with what they were called."""
    calls = []

    def check_trainings(trainings, max_broken):
        if any(folder.name == "split2-seed7" for _, folder, _ in trainings):
            raise ValueError("no place for split 2, seed 7")

    def train_in(paths, folder, settings, **shared):
        calls.append(shared)
        config = RunConfig(
            settings=settings,
            data=paths,
            class_names=("green", "red"),
            multi_label=False,
            freed_block="",
            short_side=36,
        )
        top1 = TOP1[paths.split]
        stages = [{"num_clips": 4, "top1": top1, "top1_interval": [top1, top1]}]
        write_json(folder / "config.json", config.to_dict())
        write_json(folder / "result.json", {"split": paths.split, "stages": stages})
        hits = np.arange(4) < 4 * top1
        scores = np.stack([hits, ~hits], axis=1).astype(float)
        names = tuple(f"green/{i}" for i in range(4))
        write_scores(folder / "scores.npz", ScoreFile(scores, names, np.zeros(4, int)))

    monkeypatch.setattr(repetition, "train_in", train_in)
    monkeypatch.setattr(repetition, "check_trainings", check_trainings)
    return calls


@pytest.fixture
def data(tmp_path):
    for name in ("videos", "splits"):
        (tmp_path / name).mkdir()
    return {"data": tmp_path / "videos", "lists": tmp_path / "splits"}


def test_runs_of_each_split_and_seed(data, tmp_path, trained):
    root = tmp_path / "runs"
    runs = repeat(**data, folder=root, splits=(1, 2), seeds=(0, 8), units=3, max_broken=2)
    names = ["split1-seed0", "split1-seed8", "split2-seed0", "split2-seed8"]
    assert [run.folder.name for run in runs] == names
    assert [(run.config.data.split, run.settings.seed) for run in runs] == [
        *((1, 0), (1, 8), (2, 0), (2, 8)),
    ]
    assert {run.settings.units for run in runs} == {3}
    assert trained == [{"root": root, "cache": None, "max_broken": 2}] * 4
    assert (len(runs), runs[-1], list(runs[:1])) == (4, runs.runs[3], [runs.runs[0]])
    assert compare([root, root]).differences[0].num_runs == 4


def test_means_and_values(data, tmp_path):
    runs = repeat(**data, folder=tmp_path / "runs", splits=(1, 2))
    described = json.loads(json.dumps(runs.to_dict()))["runs"]
    assert [one["split"] for one in described] == [1, 2]
    assert runs.means() == [{"top1": 0.625}]
    first, *others = repr(runs).splitlines()
    assert first == f"2 runs in {tmp_path / 'runs'}: top1 62.5 %"
    assert others == [f"  {run!r}" for run in runs]


def test_one_run_is_the_folder(data, tmp_path):
    runs = repeat(data["data"], tmp_path / "run", seeds=(3, 3))
    assert [run.folder for run in runs] == [tmp_path / "run"]
    assert runs[0].settings.seed == 3


def test_a_refused_training_is_called_again(data, tmp_path):
    (tmp_path / "runs" / "split1-seed0").mkdir(parents=True)
    for folder in ("runs", "runs/split1-seed0"):
        (tmp_path / folder / ".lock").touch()
    assert len(repeat(data["data"], tmp_path / "runs", seeds=(0, 1))) == 2


def test_every_training_is_checked_before_the_first(data, tmp_path, trained):
    with pytest.raises(ValueError, match="no place for split 2, seed 7"):
        repeat(**data, folder=tmp_path / "runs", splits=(1, 2), seeds=(0, 7))
    assert trained == []


def test_mistakes(data, tmp_path):
    with pytest.raises(ValueError, match=r"`splits` and `seeds` must name at least one each"):
        repeat(**data, folder=tmp_path / "runs", seeds=())
    with pytest.raises(ValueError, match="`split` needs `lists`"):
        repeat(data["data"], tmp_path / "runs", splits=(1, 2))
    with pytest.raises(ValueError, match="is not empty and holds no runs of several splits"):
        repeat(data["data"], tmp_path, seeds=(1, 2))
