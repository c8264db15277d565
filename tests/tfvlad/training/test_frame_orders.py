import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import MemoryClips, MemoryFeatures, tiny_backbone
from tfvlad.backbones import flow_backbone
from tfvlad.models import (
    action_vlad,
    attention_lstm,
    average_pooling,
    feature_softmax,
    max_pooling,
    ta_vlad,
    two_stream,
)
from tfvlad.training import (
    PairedStreams,
    frame_order,
    predict_features_in_orders,
    predict_in_orders,
    predict_logits,
    predict_on_features,
)

pytestmark = pytest.mark.usefixtures("eagerly")

COUNTS = st.integers(1, 30)
NUMBERS = st.integers(0, 2**32 - 1)
OTHERS = ["shuffled", "reversed", "one_frame"]


class TestFrameOrder:
    @given(count=COUNTS, number=NUMBERS, seed=st.integers(0, 99))
    def test_a_shuffle_is_a_permutation_and_never_the_plain_order(self, count, number, seed):
        (order,) = frame_order("shuffled", [count], clip_number=number, seed=seed)
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
        assert count == 1 or not np.array_equal(order, np.arange(count))

    @given(count=COUNTS, number=NUMBERS)
    def test_inputs_of_one_length_have_one_order(self, count, number):
        for name in ("plain", *OTHERS):
            first, second = frame_order(name, [count, count], clip_number=number)
            np.testing.assert_array_equal(first, second)

    @given(count=st.integers(1, 8), times=st.integers(1, 4), number=NUMBERS)
    def test_a_shorter_input_follows_the_longer_one(self, count, times, number):
        """Its steps come as the steps of the longer input at the same times do."""
        for name in ("plain", "shuffled", "reversed"):
            longer, shorter = frame_order(name, [count * times, count], clip_number=number)
            # Of each piece of `times` steps the one in the middle.
            middles = [step // times for step in longer if step % times == times // 2]
            if name == "reversed" or times % 2:
                np.testing.assert_array_equal(shorter, middles)
            np.testing.assert_array_equal(np.sort(shorter), np.arange(count))

    def test_the_seed_and_the_clip_draw(self):
        orders = [
            tuple(frame_order("shuffled", [25], clip_number=number, seed=seed)[0])
            for number in (1, 2)
            for seed in (0, 1)
        ]
        assert len(set(orders)) == 4
        (again,) = frame_order("shuffled", [25], clip_number=1, seed=0)
        assert tuple(again) == orders[0]

    def test_all_shuffles_of_three_frames_but_one(self):
        drawn = [tuple(frame_order("shuffled", [3], clip_number=n)[0]) for n in range(200)]
        assert len(set(drawn)) == 5
        assert min(drawn.count(order) for order in set(drawn)) > 20

    @pytest.mark.parametrize(
        ("name", "expected"), [("reversed", [3, 2, 1, 0]), ("one_frame", [2, 2, 2, 2])]
    )
    def test_others(self, name, expected):
        np.testing.assert_array_equal(frame_order(name, [4], clip_number=0)[0], expected)

    def test_unknown(self):
        message = r"`order` must be one of plain, shuffled, reversed, one_frame\. .*='random'\."
        with pytest.raises(ValueError, match=message):
            frame_order("random", [4], clip_number=0)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def by_hand(source, order, numbers, seed=0):
    """The source's clips with their frames in another order."""
    count = source.clip_shape[-4]
    frames = [
        np.take(clip, frame_order(order, [count], clip_number=number, seed=seed)[0], axis=-4)
        for clip, number in zip(source.frames, numbers, strict=True)
    ]
    return MemoryClips(np.array(frames), source.labels, names=source.names)


class TestVideos:
    @pytest.mark.parametrize("crops", [(), (2,)])
    def test_ta_vlad_on_clips_put_in_order_by_hand(self, backbone, crops):
        options = {"num_frames": 3, "num_clusters": 3, "units": 4, "alpha": 1.0}
        model = ta_vlad(backbone, 3, input_scale=10.0, update_bias=0.0, **options)
        source, numbers = MemoryClips.random(2, crops=crops), [7, 8]
        found = predict_in_orders(model, source, numbers, seed=5)
        assert len(source.decoded) == 2
        frames = source.frames
        expected = {
            "plain": source,
            "shuffled": by_hand(source, "shuffled", numbers, 5),
            "reversed": MemoryClips(frames[..., ::-1, :, :, :], source.labels),
            "one_frame": MemoryClips(frames[..., [1, 1, 1], :, :, :], source.labels),
        }
        assert list(found) == list(expected)
        for order, clips in expected.items():
            np.testing.assert_allclose(found[order], predict_logits(model, clips), atol=1e-5)
        for order in OTHERS:
            assert np.abs(found[order] - found["plain"]).max() > 1e-4

    @pytest.mark.parametrize(
        ("build", "options"),
        [
            (average_pooling, {}),
            (max_pooling, {}),
            (action_vlad, {"num_clusters": 3, "alpha": 1.0}),
        ],
    )
    def test_models_that_do_not_read_order(self, backbone, build, options):
        model = build(backbone, 3, num_frames=4, **options)
        found = predict_in_orders(model, MemoryClips.random(2, num_frames=4), [0, 1])
        for order in ("shuffled", "reversed"):
            np.testing.assert_allclose(found[order], found["plain"], atol=1e-5)
        assert np.abs(found["one_frame"] - found["plain"]).max() > 1e-3

    def test_a_clip_s_scores_do_not_depend_on_the_others(self, backbone):
        model = ta_vlad(backbone, 3, num_frames=3, num_clusters=3, units=4, alpha=1.0)
        source = MemoryClips.random(3)
        found = predict_in_orders(model, source, [7, 8, 9])
        alone = predict_in_orders(model, source.subset([2]), [9])
        for order, logits in found.items():
            np.testing.assert_allclose(alone[order], logits[[2]], atol=1e-5)

    @pytest.mark.parametrize("fusion", ["concat", "early"])
    def test_both_streams_have_the_same_order(self, backbone, fusion):
        model = two_stream(
            *(backbone, flow_backbone(backbone, 2), 3),
            **{"num_frames": 3, "num_clusters": 3, "alpha": 1.0, "fusion": fusion},
        )
        frames = MemoryClips.random(2)
        stacks = np.concatenate([frames.frames, 255 - frames.frames[..., :1]], axis=-1)
        flow = MemoryClips(stacks, frames.labels)
        found = predict_in_orders(model, PairedStreams([frames, flow]), [1, 2])
        for order, logits in found.items():
            pair = PairedStreams([by_hand(one, order, [1, 2]) for one in (frames, flow)])
            np.testing.assert_allclose(logits, predict_logits(model, pair), atol=1e-5)
        # No frame has met another frame's flow: the sum over time is the same.
        np.testing.assert_allclose(found["shuffled"], found["plain"], atol=1e-5)

    def test_one_bag(self, backbone):
        model = action_vlad(backbone, 3, num_frames=3, num_clusters=3, alpha=1.0)
        source = MemoryClips.random(2, crops=(2,))
        found = predict_in_orders(model, source, [0, 1], one_bag=True)
        expected = predict_logits(model, source, one_bag=True)
        for order in ("plain", "shuffled", "reversed"):
            np.testing.assert_allclose(found[order], expected, atol=1e-5)
        reads_order = ta_vlad(backbone, 3, num_frames=3, num_clusters=3, units=4)
        with pytest.raises(ValueError, match=r"One bag over all crops is for models that sum"):
            predict_in_orders(reads_order, source, [0, 1], one_bag=True)


class TestFeatures:
    @pytest.mark.parametrize("num_steps", [(4, 4), (3, 6)])
    def test_attention_lstm_on_features_put_in_order_by_hand(self, num_steps):
        model = attention_lstm(
            *(3, 5, 6),
            **{"num_steps": num_steps[0], "num_attended": num_steps[1]},
            **{"units": 4, "matching_units": 4},
        )
        source, numbers = MemoryFeatures(2, num_steps=num_steps), [7, 8]
        options = {"num_chunks": 2, "flipped": False}
        found = predict_features_in_orders(model, source, numbers, seed=5, **options)
        for order, scores in found.items():
            changed = MemoryFeatures(2, num_steps=num_steps)
            for i, number in enumerate(numbers):
                orders = frame_order(order, num_steps, clip_number=number, seed=5)
                for part, steps in zip(changed.sets, orders, strict=True):
                    part[i] = part[i][steps]
            expected = predict_on_features(model, changed, **options)
            np.testing.assert_allclose(scores, expected, atol=1e-5)
        backwards = MemoryFeatures(2, num_steps=num_steps)
        backwards.sets = [part[:, ::-1] for part in backwards.sets]
        np.testing.assert_allclose(
            found["reversed"], predict_on_features(model, backwards, **options), atol=1e-5
        )
        for order in OTHERS:
            assert np.abs(found[order] - found["plain"]).max() > 1e-4

    def test_a_softmax_of_each_feature_does_not_read_order(self):
        model = feature_softmax(3, 5, num_steps=3)
        found = predict_features_in_orders(model, MemoryFeatures(3, num_sets=1), [0, 1, 2])
        for order in ("shuffled", "reversed"):
            np.testing.assert_allclose(found[order], found["plain"], atol=1e-5)
