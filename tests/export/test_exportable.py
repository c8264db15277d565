"""What is exported: runs, files, models, and several of them as one."""

import shutil

import numpy as np
import pytest

from export.exportable import load_exportable
from tests.helpers import tiny_backbone
from tests.tfvlad.runs.run_folders import CLASSES, make_feature_run, make_run
from tfvlad import Run
from tfvlad.backbones import flow_backbone
from tfvlad.models import ClipModel, average_pooling

CLIPS = {"frames": np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype("uint8")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, "average-pooling")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return Run(folder).model


def assert_same(clip_model, model):
    expected = ClipModel(model, clip_model.class_names).probabilities(CLIPS)
    np.testing.assert_allclose(clip_model.probabilities(CLIPS), expected, atol=1e-6)


@pytest.mark.parametrize("given", [Run, str, lambda folder: folder / "model.keras"])
def test_a_run(folder, model, given):
    """Itself, its folder, or a model that the training has left there."""
    found = load_exportable(given(folder))
    assert found.clip_model.class_names == tuple(CLASSES)
    assert found.clip_model.short_side == 40
    assert found.clip_model.description["model"] == "average-pooling"
    assert found.clip_model.description["test"] == {"top1": 0.5}
    assert_same(found.clip_model, model)
    (part,) = found.parts
    assert (part.config.settings.num_frames, part.folder) == (4, folder)
    assert part.name.startswith(str(folder))


@pytest.mark.slow
def test_a_run_on_features(tmp_path):
    make_feature_run(tmp_path / "run")
    found = load_exportable(tmp_path / "run")
    assert found.clip_model.inputs == {"frames": (4, 32, 32, 3)}
    # It does not know its videos.
    assert [(part.config, part.folder) for part in found.parts] == [(None, None)]


@pytest.mark.parametrize("is_file", [False, True])
def test_names_of_a_model_outside_a_run(folder, model, tmp_path, is_file):
    given = model
    if is_file:
        given = tmp_path / "model.keras"
        shutil.copy(folder / "model.keras", given)
    assert load_exportable(given).clip_model.class_names == ("0", "1", "2")
    names = ("run", "jump", "sit")
    (tmp_path / "names.txt").write_text("run\njump\nsit\n")
    for class_names in (list(names), tmp_path / "names.txt", str(tmp_path / "names.txt")):
        found = load_exportable(given, class_names=class_names)
        assert found.clip_model.class_names == names
    assert_same(found.clip_model, model)
    assert found.clip_model.description == ({"file": "model.keras"} if is_file else {})
    assert [part.config for part in found.parts] == [None]


def test_streams_of_a_model_are_seen_by_its_channels():
    model = average_pooling(flow_backbone(tiny_backbone(), stack_frames=2), 3, num_frames=4)
    assert load_exportable(model).clip_model.streams == ("flow",)


def test_a_clip_model_is_taken_as_it_is(model):
    clip_model = ClipModel(model, ("run", "jump", "sit"))
    found = load_exportable(clip_model)
    assert found.clip_model is clip_model
    assert [part.clip_model for part in found.parts] == [clip_model]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "other"
    make_run(folder, "max-pooling")
    return folder


class TestFusion:
    def test_scores_are_averaged(self, folder, other, model):
        found = load_exportable([folder, Run(other)], weights=[1, 3])
        each = [run(CLIPS["frames"].astype("float32")) for run in (model, Run(other).model)]
        expected = found.clip_model.normalized(0.25 * each[0] + 0.75 * each[1])
        np.testing.assert_allclose(found.clip_model.probabilities(CLIPS), expected, atol=1e-6)
        assert found.clip_model.description["weights"] == [1, 3]
        names = [one["model"] for one in found.clip_model.description["models"]]
        assert names == ["average-pooling", "max-pooling"]
        assert [part.folder for part in found.parts] == [folder, other]

    def test_on_probabilities(self, folder, other, model):
        found = load_exportable((folder, other), on="probabilities")
        each = [run(CLIPS["frames"].astype("float32")) for run in (model, Run(other).model)]
        expected = sum(found.clip_model.normalized(scores) for scores in each) / 2
        np.testing.assert_allclose(found.clip_model.probabilities(CLIPS), expected, atol=1e-6)

    def test_of_models_that_do_not_know_their_classes(self, other, model):
        found = load_exportable([model, Run(other).model], class_names=CLASSES)
        assert found.clip_model.class_names == tuple(CLASSES)

    def test_other_classes_and_sizes(self, folder, model):
        with pytest.raises(ValueError, match=rf"{folder}, {model.name} differ in their class name"):
            load_exportable([folder, ClipModel(model, ("run", "jump", "sit"))])
        other = ClipModel(model, tuple(CLASSES), short_side=50)
        with pytest.raises(ValueError, match="differ in their short side"):
            load_exportable([folder, other])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1]}, r"`weights` has no effect on a single model\. Leave it out"),
        ({"on": "logits"}, r"`on` has no effect on a single model\. Leave it out"),
        ({"class_names": CLASSES}, r"`class_names` has no effect on runs and on a `ClipModel`"),
    ],
)
def test_arguments_without_effect(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_exportable(folder, **arguments)


def test_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="`model` must name at least one model"):
        load_exportable([])
    path = tmp_path / "model.keras"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{path} is no model that Keras can load \("):
        load_exportable(path)
    for missing in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match=f"'{missing}' is not a run folder"):
            load_exportable(missing)
