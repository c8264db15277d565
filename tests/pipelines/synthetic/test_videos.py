import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.synthetic.places import PLACES
from pipelines.synthetic.scenes import Scene
from pipelines.synthetic.things import THINGS
from pipelines.synthetic.videos import (
    make_still_images,
    make_synthetic_clips,
    make_synthetic_videos,
)

SMALL = {"num_train_clips": 2, "num_test_clips": 1, "num_frames": 6, "image_size": 48}


def decode(path):
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def by_class(split, part):
    """Paths of each class in the order of the scenes."""
    return {
        name: sorted(r.path for r in getattr(split, part) if r.labels == (label,))
        for label, name in enumerate(split.class_names)
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "videos"
    return folder, make_synthetic_videos(folder, num_classes=4, **SMALL)


class TestVideos:
    def test_files_and_labels(self, videos):
        folder, split = videos
        assert split.class_names == (
            "flower_closes_on_bricks",
            "flower_closes_on_grass",
            "flower_opens_on_bricks",
            "flower_opens_on_grass",
        )
        for part, num_clips in (("train", 2), ("test", 1)):
            for name, paths in by_class(split, part).items():
                assert len(paths) == num_clips
                assert sorted((folder / part / name).iterdir()) == [Path(path) for path in paths]
                assert all(decode(path).shape == (6, 48, 48, 3) for path in paths)

    def test_twins_are_reversals(self, videos):
        for part in ("train", "test"):
            paths = by_class(videos[1], part)
            for place in ("bricks", "grass"):
                twins = paths[f"flower_opens_on_{place}"], paths[f"flower_closes_on_{place}"]
                for forward, backward in zip(*twins, strict=True):
                    frames = decode(forward)
                    np.testing.assert_array_equal(frames, decode(backward)[::-1])
                    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 5

    def test_twins_share_a_group_within_their_part(self, videos):
        groups = [record.group for record in videos[1].train]
        assert len(set(groups)) == 4
        assert all(groups.count(group) == 2 for group in groups)

    def test_clips_and_splits_differ(self, videos):
        paths = [by_class(videos[1], part)["flower_opens_on_grass"] for part in ("train", "test")]
        first, second, tested = (decode(path).astype(float) for path in paths[0] + paths[1])
        assert np.abs(first - second).mean() > 20
        assert np.abs(first - tested).mean() > 20

    def test_seed(self, videos, tmp_path):
        same = make_synthetic_videos(tmp_path / "same", num_classes=4, **SMALL)
        other = make_synthetic_videos(tmp_path / "other", num_classes=4, **SMALL, seed=1)
        for records in zip(videos[1].train, same.train, other.train, strict=True):
            contents = [Path(record.path).read_bytes() for record in records]
            assert contents[0] == contents[1] != contents[2]

    def test_complete_folder_is_reused(self, videos):
        folder, expected = videos
        times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert make_synthetic_videos(folder, num_classes=4, **SMALL) == expected
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times

    def test_other_arguments_raise_and_leave_the_folder(self, videos):
        folder, _ = videos
        with pytest.raises(FileExistsError, match=r"made with other arguments\. Name"):
            make_synthetic_videos(folder, num_classes=4, **SMALL, seed=1)
        assert json.loads((folder / "synthetic.json").read_text())["seed"] == 0

    def test_other_content_raises_and_stays(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(FileExistsError, match="holds other files"):
            make_synthetic_videos(tmp_path, num_classes=2, **SMALL)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_interrupted_run_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("pipelines.synthetic.videos.write_video", fail)
        with pytest.raises(KeyboardInterrupt):
            make_synthetic_videos(tmp_path / "videos", num_classes=2, **SMALL)
        assert list(tmp_path.iterdir()) == []

    def test_empty_folder_is_filled(self, tmp_path):
        split = make_synthetic_videos(tmp_path, num_classes=2, **SMALL)
        assert all(Path(record.path).is_file() for record in split.train + split.test)

    def test_things_and_places_are_balanced(self, tmp_path):
        names = make_synthetic_videos(tmp_path, num_classes=8, **SMALL).class_names
        things = {name.split("_")[0] for name in names}
        places = {name.split("_")[-1] for name in names}
        assert len(names) == len(set(names)) == 2 * len(things) * len(places) == 8

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_classes": 7}, "even number from 2 to 32. Received: num_classes=7"),
            ({"num_classes": 34}, "even number from 2 to 32. Received: num_classes=34"),
            ({"num_train_clips": 0}, "at least 1. Received: num_train_clips=0"),
            ({"num_test_clips": 0}, "at least 1. Received: num_test_clips=0"),
            ({"num_frames": 1}, "at least 2. Received: num_frames=1"),
            ({"image_size": 16}, "at least 32. Received: image_size=16"),
            ({"image_size": 49}, "must be even. Received: image_size=49"),
        ],
    )
    def test_bad_arguments_raise(self, tmp_path, arguments, message):
        with pytest.raises(ValueError, match=message):
            make_synthetic_videos(tmp_path / "videos", **arguments)
        assert list(tmp_path.iterdir()) == []


class TestStillImages:
    def test_images_and_labels(self):
        stills = make_still_images(20, image_size=40)
        assert stills.images.shape == (20, 40, 40, 3)
        assert stills.images.dtype == np.uint8
        assert len(stills.class_names) == 2 * len(THINGS)
        np.testing.assert_array_equal(stills.labels, np.arange(20) % 8)
        assert stills.class_names[:2] == ("flower bud", "open flower")

    def test_seed_and_prefix(self):
        images = make_still_images(4, seed=3).images
        np.testing.assert_array_equal(images, make_still_images(4, seed=3).images)
        np.testing.assert_array_equal(images[:2], make_still_images(2, seed=3).images)
        assert (images != make_still_images(4, seed=4).images).mean() > 0.5

    def test_rivals_have_a_class_without_the_others(self, monkeypatch):
        scenes = []

        class Recorded(Scene):
            def __init__(self, thing, *arguments, rival, **options):
                scenes.append((thing.noun, rival.noun))
                super().__init__(thing, *arguments, rival=rival, **options)

        monkeypatch.setattr("pipelines.synthetic.videos.Scene", Recorded)
        stills = make_still_images(50, has_rivals=True)
        assert stills.class_names == (
            *("flower bud", "open flower", "empty glass", "full glass"),
            "another object",
        )
        np.testing.assert_array_equal(stills.labels, np.arange(50) % 5)
        things = [{scenes[i][0] for i in np.flatnonzero(stills.labels == c)} for c in range(5)]
        assert things == [{"flower"}, {"flower"}, {"glass"}, {"glass"}, {"umbrella", "lamp"}]
        assert {rival for _, rival in scenes} == {"umbrella", "lamp"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_images": 0}, "positive. Received: num_images=0"),
            ({"num_images": 1, "image_size": 31}, "at least 32. Received: image_size=31"),
        ],
    )
    def test_bad_arguments_raise(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            make_still_images(**arguments)


class TestClips:
    def test_shapes_and_labels(self):
        clips = make_synthetic_clips(6, num_frames=3, image_size=40)
        assert clips.class_names == (
            *("flower_opens", "flower_closes"),
            *("glass_fills", "glass_empties"),
        )
        assert clips.frames.shape == (6, 3, 40, 40, 3)
        assert clips.frames.dtype == np.uint8
        assert clips.labels.tolist() == [0, 1, 2, 3, 0, 1]
        for boxes in (clips.boxes, clips.rival_boxes):
            assert boxes.shape == (6, 3, 4)
            assert (boxes >= 0).all()
            assert (boxes <= 40).all()
            assert (boxes[..., :2] < boxes[..., 2:]).all()

    def test_seed_and_prefix(self):
        options = {"num_frames": 3, "image_size": 40}
        clips = make_synthetic_clips(4, seed=3, **options)
        for found, same, other in zip(
            make_synthetic_clips(2, seed=3, **options),
            clips,
            make_synthetic_clips(4, seed=4, **options),
            strict=True,
        ):
            if isinstance(found, np.ndarray) and found.ndim > 1:
                np.testing.assert_array_equal(found, same[:2])
                assert (same != other).mean() > 0.5

    def test_boxes_belong_to_their_frames(self, monkeypatch):
        def draw(scene, time, state):
            """The frame is bright where the thing's box is."""
            left, top, right, bottom = scene.box(time, state).round().astype(int)
            frame = np.zeros((64, 64, 3), np.uint8)
            frame[top:bottom, left:right] = 255
            return frame

        monkeypatch.setattr(Scene, "draw", draw)
        clips = make_synthetic_clips(8, num_frames=5)
        for frame, box in zip(
            clips.frames.reshape(-1, 64, 64, 3), clips.boxes.reshape(-1, 4), strict=True
        ):
            rows, columns = np.nonzero(frame[..., 0])
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(edges, box, atol=0.51)
        areas = np.prod(clips.boxes[..., 2:] - clips.boxes[..., :2], axis=-1)
        opens = areas[clips.labels == 0], areas[clips.labels == 1]
        assert (opens[0][:, 0] < opens[0][:, -1]).all()
        assert (opens[1][:, 0] > opens[1][:, -1]).all()

    def test_nothing_but_looks_tells_the_rival(self):
        clips = make_synthetic_clips(200, num_frames=2)
        centers, areas = [], []
        for boxes in (clips.boxes, clips.rival_boxes):
            centers.append((boxes[..., :2] + boxes[..., 2:]) / 2 - 32)
            areas.append(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1).mean())
        distances = [np.linalg.norm(center, axis=-1).mean() for center in centers]
        assert distances[0] == pytest.approx(distances[1], rel=0.1)
        assert areas[0] == pytest.approx(areas[1], rel=0.25)
        # They are on different sides of the middle.
        assert (np.sum(centers[0] * centers[1], axis=-1) < 0).mean() > 0.9

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_clips": 0}, "`num_clips` must be at least 1. Received: num_clips=0."),
            ({"num_frames": 1}, "`num_frames` must be at least 2. Received: num_frames=1."),
            ({"image_size": 31}, "`image_size` must be at least 32. Received: image_size=31."),
        ],
    )
    def test_bad_arguments_raise(self, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            make_synthetic_clips(**{"num_clips": 1, **arguments})


class TestBoxes:
    @pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.noun)
    @pytest.mark.parametrize("options", [{}, {"rival": THINGS[0]}, {"rival": THINGS[3]}])
    @pytest.mark.parametrize(("time", "state"), [(0, 0), (0.3, 0.5), (1, 1)])
    def test_hold_what_is_drawn(self, thing, options, time, state):
        for seed in range(5):
            scene = Scene(thing, PLACES[0], 64, np.random.default_rng(seed), **options)
            for sprite, box in ((scene.actor, scene.box), (scene.decoy, scene.decoy_box)):
                rows, columns = np.nonzero(self.silhouette(sprite, time, state))
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                # An antialiased outline reaches over the edge, a sharp tip of it farthest.
                np.testing.assert_allclose(edges, box(time, state), atol=3)

    @staticmethod
    def silhouette(sprite, time, state):
        """The sprite in white, alone on black."""
        frame = np.zeros((64, 64), np.uint8)
        white = replace(sprite, polygons=lambda s: [(p, 255) for p, _ in sprite.polygons(s)])
        white.draw(frame, time, state)
        return frame

    def test_no_decoy(self):
        scene = Scene(THINGS[0], PLACES[0], 64, np.random.default_rng(0), has_decoy=False)
        with pytest.raises(ValueError, match=r"has no decoy\. Make it with `has_decoy=True`\."):
            scene.decoy_box(0, 0)


class TestScenes:
    @pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.noun)
    def test_states_look_different_and_change_gradually(self, thing):
        def picture(state):
            generator = np.random.default_rng(0)
            scene = Scene(thing, PLACES[0], 64, generator, has_decoy=False)
            scene.noise = 0
            return scene.draw(0, state).astype(float)

        steps = [picture(state) for state in np.linspace(0, 1, 9)]
        whole = np.abs(steps[-1] - steps[0]).mean()
        parts = [np.abs(after - before).mean() for before, after in itertools.pairwise(steps)]
        assert whole > 2
        assert max(parts) < 0.6 * whole

    @pytest.mark.parametrize("place", PLACES, ids=lambda place: place.noun)
    def test_texture_fills_the_square(self, place):
        texture = place.texture(50, np.random.default_rng(0))
        assert texture.shape == (50, 50, 3)
        assert texture.dtype == np.uint8
        assert texture.reshape(-1, 3).std(axis=0).min() > 5

    def test_only_the_changing_thing_needs_the_state(self):
        frames = []
        for state in (0, 1):
            scene = Scene(THINGS[1], PLACES[1], 64, np.random.default_rng(5))
            frames.append(scene.draw(0.5, state).astype(float))
        changed = np.abs(frames[1] - frames[0]).max(axis=-1) > 0
        rows, columns = np.nonzero(changed)
        center = scene.actor.path.mean(axis=0)
        reach = 0.75 * scene.actor.scale.max()
        assert np.abs(columns - center[0]).max() < reach
        assert np.abs(rows - center[1]).max() < reach
