"""Chunks of a video, read in one pass."""

from dataclasses import replace

import numpy as np

from pipelines.clips.augmentation import fixed_crops
from pipelines.clips.sampling import dense_windows, uniform_indices
from pipelines.video.codec.decoding import read_frames
from pipelines.video.codec.streaming import WindowStream
from tfvlad.highlights import ChunkInput, ChunkModel, chunks


def means(windows):
    """A network: the mean colours of a frame, or of a window's frames."""
    return windows.mean(axis=(-3, -2)).reshape(len(windows), -1).astype("float32")


def mean_of_steps(steps):
    return steps[-1].mean(axis=-1, keepdims=True), steps[0][:, 0]


class TestChunkModel:
    def test_one_pass_where_all_inputs_have_the_same_features(self, long_video, monkeypatch):
        streams = []

        def stream(*arguments, **options):
            streams.append(options["window_numbers"])
            return WindowStream(*arguments, **options)

        monkeypatch.setattr(chunks, "WindowStream", stream)
        one = ChunkInput(means, 3, 1, 1, (32, 32), 36)
        inputs = [one, replace(one, num_steps=4)]
        batches = []

        def predict(steps):
            batches.append([one.shape for one in steps])
            return mean_of_steps(steps)

        model = ChunkModel(("0", "1", "2"), True, 6, False, inputs, predict, batch_size=3)
        counts = []
        found = model.predictions(long_video, 27, counts.append)
        assert counts == [3, 3, 2]
        assert batches[-1] == [(2, 3, 3), (2, 4, 3)]
        windows = dense_windows(27, 6, 3)
        wanted = [windows[:, uniform_indices(6, steps)] for steps in (3, 4)]
        np.testing.assert_array_equal(found.frames, wanted[1])
        assert len(streams) == 1
        assert streams[0].tolist() == sorted({*wanted[0].ravel(), *wanted[1].ravel()})
        images = read_frames(
            str(long_video), range(27), crops=fixed_crops(36, 36, 32), image_size=32
        )
        expected = means(images[0])[found.frames].mean(axis=-1)
        np.testing.assert_allclose(found.weights[..., 0], expected, rtol=1e-5)

    def test_video_shorter_than_a_chunk(self):
        one = ChunkInput(means, 3, 1, 1, (32, 32), 36)
        model = ChunkModel(("0",), True, 8, False, [one], mean_of_steps, batch_size=3)
        assert model.chunks(3).tolist() == [[0, 1, 2]]
        again = replace(model, repeats=True)
        assert again.chunks(3).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
        assert again.chunks(8).tolist() == [[*range(8)]]


class TestChunkInput:
    def test_keeps_few_rows(self, long_video):
        """Each wanted window is computed once, and no more are kept than a chunk and a batch."""
        computed = []

        def network(frames):
            computed.append(len(frames))
            return means(frames)

        one = ChunkInput(network, 4, 1, 1, (32, 32), 36)
        rows = one.rows(dense_windows(27, 8, 4), 27)
        reader = one.read(long_video, rows)
        for chunk in rows:
            assert next(reader).shape == (4, 3)
            assert len(reader.gi_frame.f_locals["recent"]) <= 16 + len(chunk)
        assert sum(computed) == len(np.unique(rows))

    def test_windows_of_frames(self, long_video):
        one = ChunkInput(lambda windows: means(windows)[:, :3], 2, 4, 3, (32, 32), 36)
        rows = one.rows(np.arange(16)[np.newaxis], 27)
        assert rows.tolist() == [[1, 3]]
        (steps,) = one.read(long_video, rows)
        images = read_frames(str(long_video), [4, 12], crops=fixed_crops(36, 36, 32), image_size=32)
        np.testing.assert_allclose(steps, means(images[0]), rtol=1e-5)
