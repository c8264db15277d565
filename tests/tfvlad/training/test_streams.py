import numpy as np
import pytest

from tests.helpers import MemoryClips
from tfvlad.training import PairedStreams


@pytest.fixture
def pair():
    frames = MemoryClips.random(5)
    flow = MemoryClips(frames.frames[..., :2], frames.labels, names=frames.names)
    return PairedStreams([frames, flow])


def test_clips_of_both_streams(pair):
    clips = list(pair.clips(augment=True, variant=3))
    assert len(pair) == len(clips) == 5
    for frames, flow in clips:
        assert (frames.shape, flow.shape) == ((3, 32, 32, 3), (3, 32, 32, 2))
        np.testing.assert_array_equal(frames[..., :2], flow)


def test_dataset(pair):
    batches = list(pair.dataset(2, shuffle=True, augment=True, epoch=lambda: 4))
    expected = list(pair.streams[0].dataset(2, shuffle=True, augment=True, epoch=4))
    assert len(pair.dataset(2, True, True, 0)) == len(batches) == 3
    for ((frames, flow), labels), (same, same_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(frames, same)
        np.testing.assert_array_equal(flow, same[..., :2])
        np.testing.assert_array_equal(labels, same_labels)


def test_subset_and_fingerprints(pair):
    chosen = pair.subset([3, 1])
    np.testing.assert_array_equal(chosen.labels, pair.labels[[3, 1]])
    prints = pair.fingerprints(augment=False)
    assert chosen.fingerprints(augment=False) == [prints[3], prints[1]]
    each = [stream.fingerprints(False) for stream in pair.streams]
    for own, frames, flow in zip(prints, *each, strict=True):
        assert own == f"{frames} {flow}"


def test_other_clips():
    with pytest.raises(ValueError, match=r"sources of the same clips\. Received: 3 and 4 clips"):
        PairedStreams([MemoryClips.random(3), MemoryClips.random(4)])
