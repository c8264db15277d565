"""Comparisons of folders with made-up scores."""

import json
import re
from types import SimpleNamespace

import pytest

from tests.tfvlad.studies.made_runs import CLIPS, write_run
from tfvlad.studies import compare


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "first", tmp_path / "second"


def difference_of(*arguments):
    (difference,) = compare(*arguments).differences
    return difference


def test_accuracies_are_means_over_splits_like_the_difference(folders):
    for folder, few, many in zip(folders, ("0", "1"), ("0011", "0111"), strict=True):
        write_run(folder / "split1-seed0", few, clips=CLIPS[:1])
        write_run(folder / "split2-seed0", many)
    found = difference_of(folders)
    assert (found.first_top1, found.top1) == (0.25, 0.875)
    assert found.difference.mean == pytest.approx(0.625)
    assert found.difference.low <= 0.625 <= found.difference.high
    assert (found.num_runs, found.num_shared_runs) == (2, 2)


def test_a_clip_of_several_splits_is_one_clip(folders):
    for folder, hits in zip(folders, ("01", "10"), strict=True):
        for split, hit in enumerate(hits, 1):
            write_run(folder / f"split{split}-seed0", hit, clips=CLIPS[:1])
    # Two clips would not always be drawn together.
    assert difference_of(folders).difference == (0, 0, 0)


def test_several_runs_are_compared_with_the_first(tmp_path):
    runs = [write_run(tmp_path / hits, hits) for hits in ("0011", "0001", "0111")]
    found = compare(runs)
    assert found.first == runs[0]
    assert [one.folder for one in found.differences] == runs[1:]
    assert [one.difference.mean for one in found.differences] == [-0.25, 0.25]
    described = json.loads(json.dumps(found.to_dict()))
    assert described["first"] == str(runs[0])
    low, high = found.differences[1].difference[1:]
    assert described["differences"][1] == {
        "folder": str(runs[2]),
        "top1": 0.75,
        "first_top1": 0.5,
        "difference": 0.25,
        "interval": [low, high],
        "num_runs": 1,
        "num_shared_runs": 1,
    }
    first, _, last = repr(found).splitlines()
    assert first == f"Top-1 accuracy compared with {runs[0]}"
    ends = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
    assert last == (f"  {runs[2]}: 75.0 % instead of 50.0 %, +25.0 points {ends}, 1 of 1 runs")


def test_runs_and_paths(folders):
    first, second = (write_run(folder, "0001") for folder in folders)
    assert compare([SimpleNamespace(folder=first), str(second)]) == compare([first, second])


def test_stages(folders):
    first, second = folders
    write_run(first / "split1-seed0", "0000", "1111")
    write_run(first / "split1-seed1", "0000", "1111")
    write_run(second / "split1-seed0", "1100")
    write_run(second / "split1-seed1", "1100", "1000", "0000")
    found = difference_of(folders, 1)
    assert (found.first_top1, found.top1, found.num_runs) == (0.0, 0.5, 2)
    found = difference_of(folders, 2)
    assert (found.first_top1, found.top1) == (1.0, 0.25)
    assert (found.num_runs, found.num_shared_runs) == (1, 2)
    message = r"different numbers of stages \(1, 2, 3\)\. Give `stage` 1 to compare them"
    with pytest.raises(ValueError, match=message):
        compare(folders)
    message = f"No run of '{first}' and '{second}' has a stage 3 in both. Received: stage=3; the"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(folders, 3)


def test_runs_with_file_names_alone(folders):
    write_run(folders[0], "0000", clips=[clip.partition("/")[2] for clip in CLIPS])
    write_run(folders[1], "0001", clips=[f"{clip}@1.5-3" for clip in CLIPS])
    assert difference_of(folders).difference.mean == 0.25


@pytest.mark.parametrize("clips", [CLIPS[::-1], CLIPS[:3], [f"{c}@0-1" for c in CLIPS]])
def test_other_clips(folders, clips):
    write_run(folders[0], "0000")
    write_run(folders[1], "0000"[: len(clips)], clips=clips)
    with pytest.raises(ValueError, match="The runs '' were tested on different clips"):
        compare(folders)


def test_nothing_to_compare(folders):
    write_run(folders[0], "0000")
    folders[1].mkdir()
    with pytest.raises(ValueError, match="have no finished run of the same split and seed"):
        compare(folders)
    with pytest.raises(ValueError, match=r"`runs` must be at least two runs\. Received: 1\."):
        compare(folders[:1])
