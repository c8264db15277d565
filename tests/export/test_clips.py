"""The clips of an export: which prove, which calibrate, and where they come from."""

import shutil

import keras
import numpy as np
import pytest

from export.clips import export_clips
from export.exportable import Exportable, Part, load_exportable
from pipelines.clips.video_clips import VideoClipSource
from pipelines.flow.extraction import extract_flow
from pipelines.lists.records import VideoRecord
from tests.helpers import tiny_backbone
from tests.tfvlad.runs.run_folders import CLASSES, NUM_FRAMES, make_run
from tests.tfvlad_cli.commands import write_broken, write_video
from tfvlad.backbones import flow_backbone
from tfvlad.models import ClipModel, average_pooling, two_stream
from tfvlad.runs.config import DataPaths, RunConfig
from tfvlad.runs.data import write_lists
from tfvlad.runs.settings import VideoSettings

SHAPE = (NUM_FRAMES, 32, 32, 3)
FLOW = {"method": "dis", "bound": 20.0, "short_side": 64, "images": "jpg"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(folder / f"{number}.mp4", number % 3, seed=number)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, "average-pooling")
    return folder


@pytest.fixture(scope="module")
def exportable(run):
    return load_exportable(run)


def found_clips(exportable, *, videos=None, clips=None, calibrate=False):
    """The proof, the calibration, both as lists, and the rest."""
    with export_clips(exportable, videos, clips, calibrate=calibrate) as found:
        calibration = list(found.calibration)
        assert len(calibration) == found.num_calibration
        return list(found.proof), calibration, found


def read_clips(paths, **options):
    """What the test pipeline makes of videos."""
    records = [VideoRecord(str(path), (0,)) for path in paths]
    source = VideoClipSource(
        records, CLASSES, num_frames=NUM_FRAMES, image_size=32, short_side=40, **options
    )
    return list(source.clips())


def assert_equal_sets(clips, expected):
    assert sorted(clip["frames"].tobytes() for clip in clips) == sorted(
        clip.tobytes() for clip in expected
    )


class TestGivenClips:
    def noise(self, count):
        generator = np.random.default_rng(0)
        return [{"frames": generator.integers(0, 256, SHAPE).astype("uint8")} for _ in range(count)]

    @pytest.mark.parametrize(
        ("count", "calibrate", "proof", "calibration"),
        [
            (20, False, range(16), range(0)),
            (3, False, range(3), range(0)),
            (20, True, range(4), range(4, 20)),
            (100, True, range(16), range(16, 100)),
            (3, True, range(1), range(1, 3)),
            (1, True, range(1), range(1)),
        ],
    )
    def test_parts(self, exportable, count, calibrate, proof, calibration):
        clips = self.noise(count)
        found = found_clips(exportable, clips=iter(clips), calibrate=calibrate)
        assert [clip["frames"].tobytes() for clip in found[0]] == [
            clips[i]["frames"].tobytes() for i in proof
        ]
        assert [clip["frames"].tobytes() for clip in found[1]] == [
            clips[i]["frames"].tobytes() for i in calibration
        ]
        assert found[2].origin == "given"

    @pytest.mark.parametrize(
        ("clip", "received"),
        [
            ({}, "None in clip 1"),
            ({"frames": np.zeros(SHAPE, "float32")}, r"float32 \(4, 32, 32, 3\) in clip 1"),
            ({"frames": np.zeros((1, *SHAPE), "uint8")}, r"uint8 \(1, 4, 32, 32, 3\) in clip 1"),
        ],
    )
    def test_wrong_ones(self, exportable, clip, received):
        message = rf"`clips` must be uint8 \(4, 32, 32, 3\) for 'frames'\. Received: {received}\."
        with pytest.raises(ValueError, match=message):
            found_clips(exportable, clips=[*self.noise(1), clip])

    def test_none(self, exportable, videos):
        with pytest.raises(ValueError, match="`clips` must hold at least one clip"):
            found_clips(exportable, clips=[])
        with pytest.raises(ValueError, match="either `videos` or `clips`, not both"):
            found_clips(exportable, videos=videos, clips=self.noise(1))


class TestVideos:
    def test_of_a_run(self, exportable, videos):
        proof, calibration, found = found_clips(exportable, videos=videos)
        assert_equal_sets(proof, read_clips(videos.iterdir()))
        assert (calibration, found.origin, found.broken) == ([], "given", ())

    def test_files_and_calibration(self, exportable, videos):
        paths = sorted(videos.iterdir())[:5]
        proof, calibration, _ = found_clips(exportable, videos=paths, calibrate=True)
        assert (len(proof), len(calibration)) == (1, 4)
        assert_equal_sets(proof + calibration, read_clips(paths))

    def test_are_spread_for_a_model_outside_a_run(self, videos):
        model = average_pooling(tiny_backbone(), 3, num_frames=NUM_FRAMES)
        other = load_exportable(ClipModel(model, tuple(CLASSES), short_side=40))
        proof, _, _ = found_clips(other, videos=str(videos))
        assert_equal_sets(proof, read_clips(videos.iterdir(), sampling="uniform"))

    @pytest.mark.parametrize("of_run", [False, True])
    def test_broken_ones(self, run, videos, tmp_path, of_run):
        exportable = load_exportable(run if of_run else load_exportable(run).clip_model)
        good = shutil.copy(videos / "0.mp4", tmp_path / "good.mp4")
        broken = write_broken(tmp_path / "broken.mp4", "text", good)
        proof, calibration, found = found_clips(exportable, videos=tmp_path, calibrate=True)
        assert (len(proof), len(calibration)) == (1, 1)
        assert [video.path for video in found.broken] == [str(broken)]
        good.unlink()
        with pytest.raises(ValueError, match="1 of 1 videos have no clip in every stream"):
            found_clips(exportable, videos=tmp_path)

    def test_none(self, exportable, tmp_path):
        with pytest.raises(ValueError, match=f"There are no videos in {tmp_path}"):
            found_clips(exportable, videos=[tmp_path])

    def test_flow_of_a_model_outside_a_run(self, videos):
        backbone = flow_backbone(tiny_backbone(), stack_frames=2)
        model = average_pooling(backbone, 3, num_frames=NUM_FRAMES)
        with pytest.raises(ValueError, match="no run tells how the optical flow of this model"):
            found_clips(load_exportable(model), videos=videos)

    def test_frames_that_are_no_squares(self, videos):
        clips = keras.Input((NUM_FRAMES, 32, 48, 3))
        scores = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling3D()(clips))
        clip_model = ClipModel(keras.Model(clips, scores), tuple(CLASSES))
        with pytest.raises(ValueError, match="the model's frames are no squares"):
            found_clips(load_exportable(clip_model), videos=videos)


class TestRuns:
    @pytest.fixture
    def lists(self, run, videos, tmp_path):
        """Copies the run with lists of some of the videos, by their numbers."""

        def copy(name="copy", **parts):
            folder = tmp_path / name
            shutil.copytree(run, folder)
            records = {
                part: [VideoRecord(str(videos / f"{i}.mp4"), (0,)) for i in numbers]
                for part, numbers in parts.items()
            }
            write_lists(folder / "lists.csv", records, CLASSES)
            return folder

        return copy

    def test_validation_proves_and_training_calibrates(self, lists, videos):
        folder = lists(train=range(3), validation=[3, 4], test=[5])
        proof, calibration, found = found_clips(load_exportable(folder), calibrate=True)
        assert_equal_sets(proof, read_clips([videos / "3.mp4", videos / "4.mp4"]))
        assert_equal_sets(calibration, read_clips(videos / f"{i}.mp4" for i in range(3)))
        assert found.origin == "given"

    def test_the_training_list_where_there_is_no_other(self, lists, videos):
        exportable = load_exportable(lists(train=[0, 1], validation=[], test=[5]))
        for calibrate in (False, True):
            proof, calibration, _ = found_clips(exportable, calibrate=calibrate)
            assert_equal_sets(proof, read_clips([videos / "0.mp4", videos / "1.mp4"]))
            assert len(calibration) == 2 * calibrate

    def test_training_videos_are_not_needed_for_a_proof(self, lists):
        folder = lists(train=[9], validation=[3], test=[])
        proof, _, _ = found_clips(load_exportable(folder))
        assert len(proof) == 1
        proof, calibration, found = found_clips(load_exportable(folder), calibrate=True)
        assert (len(proof), calibration, found.origin) == (4, [], "made")

    def test_made_ones_where_no_list_is(self, exportable):
        proof, calibration, found = found_clips(exportable, calibrate=True)
        assert [clip["frames"].shape for clip in proof] == 4 * [SHAPE]
        assert (calibration, found.origin) == ([], "made")

    def test_of_fused_runs_that_share_their_lists(self, lists):
        runs = [lists(name, train=[0], validation=[3]) for name in "ab"]
        proof, _, found = found_clips(load_exportable(runs))
        assert (len(proof), found.origin) == (1, "given")
        other = lists("c", train=[1], validation=[4])
        assert found_clips(load_exportable([*runs, other]))[2].origin == "made"


def made_config(**settings):
    """Of a run whose flow can be computed again."""
    sizes = {"num_frames": NUM_FRAMES, "image_size": 32, "weights": None}
    if settings.get("stream") != "rgb":
        sizes["stack_frames"] = 2
    return RunConfig(
        settings=VideoSettings(**settings, **sizes),
        data=DataPaths(data="videos", flow="flow"),
        class_names=tuple(CLASSES),
        multi_label=False,
        freed_block="",
        short_side=40,
        flow=FLOW,
    )


@pytest.fixture(scope="module")
def clip_model():
    """Of two streams."""
    flow = flow_backbone(tiny_backbone(seed=1), stack_frames=2)
    model = two_stream(tiny_backbone(), flow, 3, num_frames=NUM_FRAMES, num_clusters=2)
    return ClipModel(model, tuple(CLASSES), ("frames", "flow"), short_side=40)


class TestTwoStreams:
    def test_flow_of_other_videos_is_computed(self, clip_model, videos):
        """As the run's was."""
        config = made_config(model="two-stream")
        exportable = Exportable(clip_model, (Part("run", clip_model, config),))
        proof, _, _ = found_clips(exportable, videos=videos)
        assert len(proof) == 6
        assert {clip["flow"].shape for clip in proof} == {(NUM_FRAMES, 32, 32, 4)}
        assert_equal_sets(proof, read_clips(videos.iterdir()))
        # Noise moves: no two videos alike.
        assert len({clip["flow"].tobytes() for clip in proof}) == 6

    def test_own_lists_of_fused_runs(self, clip_model, videos, tmp_path):
        """Of frames and of the flow of the same videos."""
        flow = tmp_path / "flow"
        paths = sorted(map(str, videos.iterdir()))
        extract_flow(paths, flow, root=videos, method="dis", short_side=64)
        parts = []
        for stream, folders in (("rgb", paths), ("flow", sorted(map(str, flow.glob("[0-9]"))))):
            folder = tmp_path / "runs" / stream
            folder.mkdir(parents=True)
            records = [VideoRecord(path, (0,)) for path in folders]
            lists = {"train": records[:4], "validation": records[4:]}
            write_lists(folder / "lists.csv", lists, CLASSES)
            config = made_config(model="action-vlad", stream=stream)
            parts.append(Part(stream, clip_model, config, folder))
        proof, calibration, found = found_clips(
            Exportable(clip_model, tuple(parts)), calibrate=True
        )
        assert (len(proof), len(calibration), found.origin) == (2, 4, "given")
        assert_equal_sets(proof, read_clips(paths[4:]))
        assert_equal_sets(calibration, read_clips(paths[:4]))
        assert {clip["flow"].shape for clip in proof + calibration} == {(NUM_FRAMES, 32, 32, 4)}
