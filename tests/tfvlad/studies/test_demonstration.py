"""The demo on fewer and shorter trainings."""

import functools
import json
from dataclasses import replace

import pytest

from pipelines.synthetic.videos import make_still_images, make_synthetic_videos
from tfvlad.studies import demo, demonstration

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def small(monkeypatch):
    few = {"num_classes": 2, "num_train_clips": 4, "num_test_clips": 2, "num_frames": 4}
    videos = functools.partial(make_synthetic_videos, **few)
    monkeypatch.setattr(demonstration, "make_synthetic_videos", videos)
    stills = functools.partial(make_still_images, 32)
    monkeypatch.setattr(demonstration, "make_still_images", lambda _, **names: stills(**names))
    fit = demonstration.fit_small_cnn
    monkeypatch.setattr(
        demonstration,
        "fit_small_cnn",
        lambda *data, **options: fit(*data, **options | {"epochs": 1}),
    )
    monkeypatch.setattr(demonstration, "STAGE", replace(demonstration.STAGE, epochs=1))
    monkeypatch.setattr(demonstration, "NUM_FRAMES", 3)


def test_demo_is_made_and_goes_on(small, tmp_path):
    made = demo(tmp_path, seed=1)
    assert made.folder == tmp_path / "seed1"
    assert list(made.reports) == ["average pooling", "ActionVLAD", "TA-VLAD"]
    assert all(report.metrics["num_clips"] == 4 for report in made.reports.values())
    assert json.loads((made.folder / "results.json").read_text()) == made.to_dict()
    assert made.pictures[0].name == "attention.png"
    assert len(made.pictures) == 4
    assert all(picture.stat().st_size > 1000 for picture in made.pictures)
    first, second, *_ = repr(made).splitlines()
    assert first == f"Demo in {made.folder}"
    assert second.startswith("  average pooling: EvaluationReport(4 clips of 2 classes: top1=")
    states = [path.stat().st_mtime_ns for path in made.folder.glob("*/state.npz")]
    again = demo(tmp_path, seed=1)
    assert [path.stat().st_mtime_ns for path in made.folder.glob("*/state.npz")] == states
    assert len(states) == 3
    assert again.to_dict() == made.to_dict()
