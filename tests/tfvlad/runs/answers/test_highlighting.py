"""Runs as models of chunks."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from pipelines.features.clips import FeatureClipSource
from pipelines.lists.records import VideoRecord
from tests.pipelines.video_files import write_video
from tests.tfvlad.runs.run_folders import CLASSES, SIZE, make_feature_run, make_run
from tfvlad.models import intermediate_outputs
from tfvlad.runs import Run
from tfvlad.runs.config import FeatureRunConfig
from tfvlad.runs.feature_networks import extract_features

pytestmark = [pytest.mark.usefixtures("eagerly", "small_networks"), pytest.mark.current]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """8 frames."""
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", num_frames=8)


@pytest.fixture(scope="module")
def feature_run(video, tmp_path_factory):
    """A run, its model and the two feature sets of the video."""
    place = tmp_path_factory.mktemp("features")
    network, _ = make_feature_run(place / "run", clip_frames=8, frame_steps=(1, 2))
    folders = [str(place / f"set{step}") for step in (1, 2)]
    for step, folder in zip((1, 2), folders, strict=True):
        options = {"network": "resnet18", "weights": None, "image_size": SIZE}
        extract_features(video, folder, **options, frame_step=step, flipped=False)
    return Run(place / "run"), network, folders


class TestFeatureRuns:
    @pytest.mark.parametrize(("sampling", "length"), [("uniform", 8), ("chunk", 20)])
    def test_a_short_video_is_the_clip_of_training(self, sampling, length, video, feature_run):
        """A whole clip, or a chunk that starts again: what `FeatureClipSource` reads."""
        run, network, folders = feature_run
        run = Run(run.folder)
        run.config = replace(run.config, settings=replace(run.settings, sampling=sampling))
        model = run.chunk_model
        assert model.chunk_frames == length
        assert model.class_names == tuple(CLASSES)
        source = FeatureClipSource(
            [VideoRecord(f"{folders[0]}/clip.mp4.h5", (0,))],
            CLASSES,
            folders,
            num_steps=(4, 4),
            chunk_frames=length if sampling == "chunk" else None,
        )
        (inputs, _), *_ = source.dataset()
        outputs = intermediate_outputs(network, ["attention", "logits"])(list(inputs))
        found = model.predictions(video, 8)
        np.testing.assert_allclose(
            found.weights[..., 0], outputs["attention"].numpy().mean(axis=1), atol=1e-5
        )
        np.testing.assert_allclose(found.probabilities, np.exp(outputs["logits"]), atol=1e-5)
        assert set(found.frames.ravel()) <= {0, 2, 4, 6}

    def test_models_without_weights(self, feature_run):
        run = Run(feature_run[0].folder)
        run.config = Mock(FeatureRunConfig, chunk_frames=20, settings=Mock(model="plain-lstm"))
        with pytest.raises(ValueError, match=r"is a run of plain-lstm, which gives no weights to"):
            _ = run.chunk_model


class TestVideoRuns:
    def test_highlight(self, video, tmp_path):
        make_run(tmp_path, "average-pooling", clip_frames=8)
        run = Run(tmp_path)
        found = run.highlight(video, class_name="red", threshold=0)
        assert (found.path, found.class_name) == (video, "red")
        assert found.chunk_seconds == pytest.approx(8 / 25)
        assert found.frames.tolist() == [1, 3, 5, 7]
        assert run.chunk_model is run.chunk_model
        with pytest.raises(ValueError, match="`class_name` must be one of green, red, blue"):
            run.highlight(video, class_name="pink")

    def test_a_clip(self, video, tmp_path):
        network = make_run(tmp_path, "average-pooling", clip_frames=8)
        model = Run(tmp_path).chunk_model
        assert (model.chunk_frames, model.repeats) == (8, False)
        found = model.predictions(video, 8)
        assert found.frames.tolist() == [[1, 3, 5, 7]]
        ((frames,),) = [model.inputs]
        assert (frames.image_size, frames.short_side) == ((SIZE, SIZE), 40)
        np.testing.assert_allclose(found.probabilities.sum(), 1, rtol=1e-5)
        assert network.output_shape == (None, found.weights.shape[-1])

    def test_consecutive_frames(self, tmp_path):
        make_run(tmp_path, "average-pooling", sampling="chunk", clip_frames=None)
        model = Run(tmp_path).chunk_model
        assert (model.chunk_frames, model.repeats) == (4, True)

    @pytest.mark.parametrize("streams", [["flow"], ["rgb", "flow"]])
    def test_optical_flow(self, streams, tmp_path):
        make_run(tmp_path, "average-pooling", streams=streams)
        with pytest.raises(ValueError, match=r"is a run on optical flow. Highlight with a run on"):
            _ = Run(tmp_path).chunk_model


def test_a_run_that_does_not_tell_its_clips(tmp_path):
    make_run(tmp_path / "run", "average-pooling", clip_frames=None)
    with pytest.raises(ValueError, match="a search or an earlier version made it"):
        _ = Run(tmp_path / "run").chunk_model
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(ValueError, match="a search or an earlier version made it"):
        _ = Run(tmp_path / "run").chunk_model
