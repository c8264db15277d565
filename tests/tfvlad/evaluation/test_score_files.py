import re

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.helpers import normal
from tfvlad.evaluation import ScoreFile, align_scores, read_scores, write_scores

SCORES = np.array([[0.5, -1.25], [1e-30, 3.0], [0.1, 2.0]])
CLIPS = ("b/1", "a/1", "a/2")
FULL = ScoreFile(SCORES, CLIPS, np.array([0, 1, 1]), ("jump", "run"))

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)
numbers = st.floats(allow_nan=False) | st.just(-np.inf)


@st.composite
def score_files(draw):
    scores = draw(hnp.arrays(np.float64, draw(shapes), elements=numbers))
    names = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1)
    size = len(scores)
    clips = draw(st.lists(names, min_size=size, max_size=size, unique=True))
    return ScoreFile(scores, tuple(clips))


class TestFormats:
    @given(score_files(), st.sampled_from([".h5", ".npz", ".txt"]))
    @settings(deadline=None, max_examples=40)
    def test_what_was_written_is_read(self, tmp_path_factory, file, suffix):
        path = tmp_path_factory.mktemp("scores") / f"scores{suffix}"
        write_scores(path, file)
        found = read_scores(path)
        np.testing.assert_array_equal(found.scores, file.scores)
        assert found.clips == (None if suffix == ".h5" else file.clips)
        assert found.labels is found.class_names is None

    @given(score_files(), st.data())
    @settings(
        deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_text_of_any_white_space(self, tmp_path, file, data):
        space = st.text(" \t", min_size=1, max_size=3)
        lines = []
        for clip, row in zip(file.clips, file.scores, strict=True):
            words = [clip, *map(repr, row.tolist())]
            lines.append("".join(word + data.draw(space) for word in words))
            lines += [""] * data.draw(st.integers(0, 1))
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        (tmp_path / "scores.txt").write_bytes(end.join(lines).encode())
        found = read_scores(tmp_path / "scores.txt")
        assert found.clips == file.clips
        np.testing.assert_array_equal(found.scores, file.scores)

    def test_hdf5_as_released(self, tmp_path):
        with h5py.File(tmp_path / "rgb.h5", "w") as file:
            file["stream0/logits"] = normal(4, 3)
        np.testing.assert_array_equal(read_scores(tmp_path / "rgb.h5").scores, normal(4, 3))
        write_scores(tmp_path / "copy.h5", read_scores(tmp_path / "rgb.h5"))
        with h5py.File(tmp_path / "copy.h5") as file:
            np.testing.assert_array_equal(file["stream0/logits"][()], normal(4, 3))

    def test_npz_of_a_run(self, tmp_path):
        crops = normal(3, 5, 2)
        path = tmp_path / "scores.npz"
        np.savez(
            path,
            logits=crops,
            labels=FULL.labels,
            clips=np.array(CLIPS),
            class_names=np.array(FULL.class_names),
        )
        found = read_scores(path)
        np.testing.assert_allclose(found.scores, crops.mean(axis=1), atol=1e-7)
        assert (found.clips, found.class_names) == (CLIPS, FULL.class_names)
        np.testing.assert_array_equal(found.labels, FULL.labels)
        write_scores(path, FULL)
        with np.load(path) as arrays:
            assert set(arrays) == {"logits", "labels", "clips", "class_names"}
            assert arrays["clips"].tolist() == list(CLIPS)

    def test_released_file(self, data_folder):
        found = read_scores(data_folder / "hmdb51_logits" / "rgb_split1.h5")
        assert found.scores.shape == (1530, 51)
        assert found.clips is None


def test_text():
    assert repr(FULL) == "ScoreFile(scores (3, 2), clips, labels, class_names)"
    assert repr(ScoreFile(SCORES)) == "ScoreFile(scores (3, 2))"


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", b"", r"end in \.h5, \.npz, \.txt\. Received: .*a\.csv\."),
            ("a.h5", b"no hdf5", r"a\.h5: this is no HDF5 file"),
            ("a.npz", b"", r"a\.npz: this is no npz file"),
            ("a.npz", b"PK no zip", r"a\.npz: "),
            ("a.txt", b"x 1 2\ny 1\n", r"line 2: expected 2 scores .* Received: 1\."),
            ("a.txt", b"x\n", r"line 1: expected some scores .* Received: 0\."),
            ("a.txt", b"x 1\n\nx 2\n", r"line 3: x is there twice\."),
            ("a.txt", b"x 1\ny one\n", r"line 2: expected '<id> <score> \.\.\.' .*'one'"),
            ("a.txt", b"\n", r"a\.txt: `scores` must have the shape .*hold at least one clip"),
            ("a.txt", b"x 1\ny nan\n", r"a\.txt: `scores` must not be NaN.* NaN in row 1 \(y\)"),
        ],
    )
    def test_bad_file(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_scores(tmp_path / name)

    def test_missing(self, tmp_path):
        with pytest.raises(ValueError, match=r"The score file does not exist: .*a\.h5\."):
            read_scores(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["stream1/logits"] = SCORES
        message = r"no dataset 'stream0/logits'\. Received: stream1, stream1/logits\."
        with pytest.raises(ValueError, match=message):
            read_scores(tmp_path / "a.h5")
        np.savez(tmp_path / "a.npz", scores=SCORES)
        with pytest.raises(ValueError, match=r"there is no array 'logits'\. Received: scores\."):
            read_scores(tmp_path / "a.npz")

    def test_names_that_text_cannot_hold(self, tmp_path):
        path = tmp_path / "a.txt"
        message = r"need clip names without white space\. Received: 'a b'\. Write \.npz instead\."
        with pytest.raises(ValueError, match=message):
            write_scores(path, ScoreFile(SCORES[:1], ("a b",)))
        with pytest.raises(ValueError, match=r"Received: none\."):
            write_scores(path, ScoreFile(SCORES))
        assert not path.exists()
        with pytest.raises(ValueError, match="Score files end in"):
            write_scores(tmp_path / "a", ScoreFile(SCORES))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"scores": SCORES[0]}, r"scores\.shape=\(2,\)"),
            ({"clips": ("a",)}, r"`clips` must have 3 entries .*\(3, 2\)\. Received: 1\."),
            ({"labels": np.zeros(2)}, r"`labels` must have 3 entries .* Received: 2\."),
            ({"class_names": ("a",)}, r"`class_names` must have 2 entries .* Received: 1\."),
        ],
    )
    def test_what_does_not_fit_together(self, values, message):
        with pytest.raises(ValueError, match=message):
            ScoreFile(**{"scores": SCORES, **values})


class TestAlignment:
    @given(st.permutations(range(3)), st.integers(0, 3))
    def test_rows_follow_their_clips(self, order, num_clips):
        wanted = tuple(CLIPS[i] for i in order[:num_clips])
        if not wanted:
            return
        found = align_scores(FULL, wanted)
        np.testing.assert_array_equal(found.scores, SCORES[order[:num_clips]])
        np.testing.assert_array_equal(found.labels, FULL.labels[order[:num_clips]])
        assert (found.clips, found.class_names) == (wanted, FULL.class_names)

    def test_missing_clips(self):
        wanted = ("x", "a/1", "y")
        with pytest.raises(ValueError, match=re.escape("2 of 3 clips have no scores, first: x.")):
            align_scores(FULL, wanted)
        found = align_scores(FULL, wanted, missing_score=-np.inf)
        np.testing.assert_array_equal(found.scores, [[-np.inf] * 2, SCORES[1], [-np.inf] * 2])
        assert found.labels is None

    def test_unknown_and_repeated_names(self):
        with pytest.raises(ValueError, match="without clip names"):
            align_scores(ScoreFile(SCORES), CLIPS)
        with pytest.raises(ValueError, match=r"The clip b has two rows of scores\."):
            align_scores(ScoreFile(SCORES, ("a", "b", "b")), ("a",))
