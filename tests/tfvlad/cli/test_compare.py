"""`tfvlad compare` on folders with made-up scores."""

import json

import numpy as np
import pytest

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad

CLIPS = tuple(f"wave/{i}.avi" for i in range(4))


def write_run(folder, *stages, clips=CLIPS):
    """A finished run; a stage is a text of 1 for each clip recognised and 0 for the others."""
    for number, hits in enumerate(stages, 1):
        place = folder if number == len(stages) else folder / f"stage{number}"
        place.mkdir(parents=True, exist_ok=True)
        labels = np.zeros(len(clips), int)
        logits = np.array([[1.0, 0.0] if hit == "1" else [0.0, 1.0] for hit in hits])
        np.savez(place / "scores.npz", logits=logits, labels=labels, clips=np.array(clips))
    (folder / "result.json").write_text(json.dumps({"stages": [{}] * len(stages)}))


def report_of(*arguments):
    result = tfvlad("compare", *arguments, "--json")
    assert result.exit_code == 0, result.errors
    return json.loads(result.output)


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "first", tmp_path / "second"


def test_accuracies_are_means_over_splits_like_the_difference(folders):
    for folder, few, many in zip(folders, ("0", "1"), ("0011", "0111"), strict=True):
        write_run(folder / "split1-seed0", few, clips=CLIPS[:1])
        write_run(folder / "split2-seed0", many)
    report = report_of(*folders)
    assert (report["first"], report["second"]) == (0.25, 0.875)
    assert report["difference"] == pytest.approx(0.625)
    assert report["interval"][0] <= 0.625 <= report["interval"][1]
    assert (report["runs"], report["shared_runs"]) == (2, 2)
    text = tfvlad("compare", *folders).output
    assert "25.0 %" in text
    assert "difference +62.5 points" in text
    assert "(2 of 2 runs)" in text


def test_a_clip_of_several_splits_is_one_clip(folders):
    for folder, hits in zip(folders, ("01", "10"), strict=True):
        for split, hit in enumerate(hits, 1):
            write_run(folder / f"split{split}-seed0", hit, clips=CLIPS[:1])
    report = report_of(*folders)
    # Two clips would not always be drawn together.
    assert (report["difference"], report["interval"]) == (0, [0, 0])


def test_stages(folders):
    first, second = folders
    write_run(first / "split1-seed0", "0000", "1111")
    write_run(first / "split1-seed1", "0000", "1111")
    write_run(second / "split1-seed0", "1100")
    write_run(second / "split1-seed1", "1100", "1000", "0000")
    report = report_of(*folders, "--stage", 1)
    assert (report["first"], report["second"], report["runs"]) == (0.0, 0.5, 2)
    report = report_of(*folders, "--stage", 2)
    assert (report["first"], report["second"], report["runs"]) == (1.0, 0.25, 1)
    assert "(1 of 2 runs)" in tfvlad("compare", *folders, "--stage", 2).output
    message = "The runs have different numbers of stages (1, 2, 3). Give --stage 1 to compare"
    assert_one_sentence(tfvlad("compare", *folders), message)
    message = f"No run of '{first}' and '{second}' has a stage 3 in both. Received: --stage 3;"
    assert_one_sentence(tfvlad("compare", *folders, "--stage", 3), message)


def test_runs_with_file_names_alone(folders):
    write_run(folders[0], "0000", clips=[clip.partition("/")[2] for clip in CLIPS])
    write_run(folders[1], "0001", clips=[f"{clip}@1.5-3" for clip in CLIPS])
    assert report_of(*folders)["difference"] == 0.25


@pytest.mark.parametrize("clips", [CLIPS[::-1], CLIPS[:3], [f"{c}@0-1" for c in CLIPS]])
def test_other_clips(folders, clips):
    write_run(folders[0], "0000")
    write_run(folders[1], "0000"[: len(clips)], clips=clips)
    assert_one_sentence(tfvlad("compare", *folders), "were tested on different clips.")


def test_nothing_in_common(folders):
    write_run(folders[0], "0000")
    folders[1].mkdir()
    message = "have no finished run of the same split and seed."
    assert_one_sentence(tfvlad("compare", *folders), message)
