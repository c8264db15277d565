"""Variants of a model over splits and seeds."""

import csv
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from tests.tfvlad.studies.conftest import SMALL
from tfvlad.runs.settings import VideoSettings
from tfvlad.studies import VARIANTS, Ablation, AblationRow, Variant, ablation

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

THREE = Variant("action-vlad: 3 words", {**VARIANTS["action-vlad"].changes, "num_clusters": 3})
SETTINGS = VideoSettings(**SMALL, num_clusters=4, units=4)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    """The arguments of an ablation, what it has found and what it has told."""
    folder = tmp_path_factory.mktemp("study")
    handler = logging.Handler()
    told = []
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("tfvlad.studies")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    options = {"lists": data / "splits", "splits": (1, 2), "settings": SETTINGS}
    found = ablation(data / "videos", folder, ["average-pooling", THREE], **options)
    logger.removeHandler(handler)
    return (data / "videos", folder), options, found, told


def test_rows(study):
    (_, folder), _, found, _ = study
    first, second = found.rows
    assert [row.variant for row in found.rows] == ["average-pooling", THREE.name]
    assert first.difference == first.low == first.high == 0
    for row, place in zip(found.rows, ("average-pooling", "action-vlad-3-words"), strict=True):
        top1 = []
        for split in (1, 2):
            with np.load(folder / place / f"split{split}-seed0" / "scores.npz") as scores:
                top1.append(np.mean(scores["logits"].argmax(axis=-1) == scores["labels"]))
        assert row.num_runs == 2
        assert row.mean == pytest.approx(np.mean(top1))
        assert row.spread == pytest.approx(np.std(top1, ddof=1))
    assert second.difference == pytest.approx(second.mean - first.mean)
    assert second.low <= second.difference <= second.high


def test_variants_change_the_settings(study):
    (_, folder), *_ = study
    settings = [
        json.loads((folder / place / "split1-seed0" / "config.json").read_text())["settings"]
        for place in ("average-pooling", "action-vlad-3-words")
    ]
    assert [one["model"] for one in settings] == ["average-pooling", "action-vlad"]
    assert [one["num_clusters"] for one in settings] == [4, 3]
    assert [one["image_size"] for one in settings] == [32, 32]


def test_files(study):
    (data, folder), _, found, told = study
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {
        *("average-pooling", "action-vlad-3-words", "features", "videos.json"),
        *("ablation.csv", "ablation.json", "ablation.png"),
    }
    described = json.loads((folder / "ablation.json").read_text())
    assert described == found.to_dict()
    assert described["data"]["data"] == str(data)
    with open(folder / "ablation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["average-pooling", THREE.name]
    assert [float(row["mean"]) for row in rows] == [row.mean for row in found.rows]
    assert told[-1] == "action-vlad: 3 words, split 2, seed 0 (4 of 4)"


def test_goes_on(study):
    """Finished runs are left as they are, and a variant is added; also from earlier versions."""
    arguments, options, found, _ = study
    folder = arguments[1]
    earlier = {"variants": found.to_dict()["variants"]}
    (folder / "ablation.json").write_text(json.dumps(earlier))
    state = folder / "average-pooling" / "split1-seed0" / "state.npz"
    before = state.stat().st_mtime_ns
    more = ablation(*arguments, ["average-pooling", "max-pooling"], **{**options, "splits": (1,)})
    assert state.stat().st_mtime_ns == before
    assert [(row.variant, row.num_runs) for row in more.rows] == [
        ("average-pooling", 1),
        ("max-pooling", 1),
    ]


def test_goes_on_before_the_first_results(study, data):
    """Earlier versions wrote what an ablation has found, and on what, at its end."""
    arguments, options, found, _ = study
    folder = arguments[1]
    for name in ("ablation.csv", "ablation.json", "ablation.png"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match="is not empty and does not hold an ablation"):
        ablation(data / "videos", folder, ["average-pooling"], SETTINGS)
    state = folder / "average-pooling" / "split2-seed0" / "state.npz"
    before = state.stat().st_mtime_ns
    again = ablation(*arguments, ["average-pooling", THREE], **options)
    assert [row.mean for row in again.rows] == [row.mean for row in found.rows]
    assert state.stat().st_mtime_ns == before


def test_other_test_views(study):
    """Finished runs are tested again, and not trained again."""
    arguments, options, *_ = study
    place = arguments[1] / "action-vlad-3-words" / "split1-seed0"
    state = (place / "state.npz").stat().st_mtime_ns
    with np.load(place / "scores.npz") as scores:
        before = scores["logits"]
    ablation(*arguments, [THREE], **{**options, "splits": (1,)}, test_crops=5, one_bag=True)
    assert (place / "state.npz").stat().st_mtime_ns == state
    with np.load(place / "scores.npz") as scores:
        assert np.abs(scores["logits"] - before).max() > 1e-4


def test_other_settings_and_data(study, data, tmp_path):
    arguments, options, *_ = study
    with pytest.raises(ValueError, match=r"dropout: 0\.5 there, 0\.25 here"):
        ablation(*arguments, ["average-pooling", THREE], **options, dropout=0.25)
    del options["lists"], options["splits"]
    with pytest.raises(ValueError, match=r"holds an ablation with other settings .*data\.lists: "):
        ablation(*arguments, ["average-pooling"], **options)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and does not hold an ablation"):
        ablation(data / "videos", tmp_path, ["average-pooling"])


def test_every_run_is_checked_before_the_first_training(data, tmp_path):
    mine = tmp_path / "max-pooling" / "split2-seed0" / "thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.touch()
    (tmp_path / "ablation.json").write_text("{}")
    options = {"lists": data / "splits", "splits": (1, 2), "settings": SETTINGS}
    message = r"The variant 'max-pooling' is not possible: '.*split2-seed0' is not empty"
    with pytest.raises(ValueError, match=message):
        ablation(data / "videos", tmp_path, ["average-pooling", "max-pooling"], **options)
    assert not (tmp_path / "average-pooling").exists()


@pytest.mark.parametrize(
    ("variants", "options", "message"),
    [
        (["vlad"], {}, r"`variants` must be .*names of action-vlad, vlad-gru.* Received: 'vlad'\."),
        (["ta-vlad", "vlad-gru"], {"attention": False}, "`attention` has no effect: each of the"),
        ([Variant("a b"), Variant("a-b")], {}, "different folders. Received: 'a b' and 'a-b'"),
        ([Variant("x", {"seed": 1})], {}, "'x' has a `seed` of its own. Name them in `seeds`"),
        (
            ["ta-vlad", Variant("x", {"test_clips": 2})],
            {},
            "The variant 'x' has a `test_clips` of its own, which must be the same for all",
        ),
        (
            [Variant("x", {"model": "average-pooling", "num_clusters": 256})],
            {},
            "'x' has a `num_clusters` of its own, which has no effect on model='average-pooling'",
        ),
        (
            ["ta-vlad", Variant("x", {"recipe": "hollywood2"})],
            {},
            "The variant 'x' is not possible: `recipe` must be one of ta-vlad, action-vlad",
        ),
        (["ta-vlad"], {"stack_frames": 3}, "`stack_frames` has no effect on stream='rgb'"),
        (["ta-vlad"], {"splits": (1, 2)}, "`split` needs `lists`, the official lists"),
        (["ta-vlad"], {"seeds": ()}, "must name at least one each. Received: 1, 1 and 0"),
        (
            ["ta-vlad", Variant("one", {"epochs": (3, 0)})],
            {},
            "as many stages: give `epochs` to all of them. Received: 2 of ta-vlad, 1 of one",
        ),
        (
            [Variant("two", {"model": "two-stream"}), "ta-vlad"],
            {"flow": "."},
            "The variant 'ta-vlad' is not possible: `flow` has no effect on model='ta-vlad'.",
        ),
        (
            ["ta-vlad", Variant("x", {"num_cached_crops": None})],
            {"cache": "features"},
            "The variant 'x' is not possible: `cache` has no effect on a training with num_cached",
        ),
        (
            ["ta-vlad", Variant("x", {"freed_block": "layer9"})],
            {"settings": SETTINGS},
            "The variant 'x' is not possible: `freed_block` must be one of stem, layer1",
        ),
    ],
)
def test_mistakes(data, tmp_path, variants, options, message):
    pattern = message if "\\" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        ablation(data / "videos", tmp_path / "study", variants, **options)
    assert not (tmp_path / "study").exists()


def test_several_labels(data, tmp_path):
    videos = sorted((data / "videos").rglob("*.mp4"))
    lines = [f"{path},{'red|green' if n % 2 else 'red'}" for n, path in enumerate(videos)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    message = r"compares top-1 accuracies, and clips of '.*list\.csv' have none or several labels"
    with pytest.raises(ValueError, match=message):
        ablation(tmp_path / "list.csv", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_figure_and_text():
    rows = (
        AblationRow("first", 0.5, 0.01, 0.0, 0.0, 0.0, 3, 10.0),
        AblationRow("second", 0.6, 0.02, 0.1, 0.04, 0.17, 3, 10.0),
    )
    found = Ablation(Path("study"), {}, rows)
    axis = found.figure().axes[0]
    assert [bar.get_width() for bar in axis.patches] == [50, 60]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    (errors,) = [c for c in axis.collections if len(c.get_segments()) == 2]
    np.testing.assert_allclose(errors.get_segments()[1][:, 0], [54, 67])
    assert repr(found).splitlines() == [
        "Ablation in study: test top-1",
        "  first: 50.0 %, 3 runs",
        "  second: 60.0 %, 3 runs, +10.0 points [+4.0, +17.0]",
    ]
