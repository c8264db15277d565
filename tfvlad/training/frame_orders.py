"""A model's scores of the same clips in other orders: what it makes of the order of the frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pipelines.progress import track
from tfvlad.layers import MeanScore
from tfvlad.models import head_of, is_multi_label, parts_of
from tfvlad.models.assembly import one_or_all
from tfvlad.training.clip_source import ClipSource, FeatureSource
from tfvlad.training.networks import as_one_bag, view_mean
from tfvlad.training.streams import PairedStreams

ORDERS = ("plain", "shuffled", "reversed", "one_frame")

# The frames of a batch of clips `(B, ..., T, h, w, D)`, or the steps of chunks `(num, N, D)`.
_MAPS_AXIS, _STEPS_AXIS = -4, 1


def frame_order(
    order: str, num_steps: Sequence[int], *, clip_number: int, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Which frame, or step of features, comes at each place of a clip.

    Args:
        order: "plain"; "shuffled", a permutation other than the plain order, drawn from the seed
            and the clip's number alone; "reversed"; or "one_frame", the middle one repeated.
        num_steps: steps of the clip in each of a model's inputs. Inputs of the same length have the
            same order. The steps of a shorter one come as the steps of the longest one at the same
            times do.
        clip_number: of the clip, see `pipelines.lists.records.record_number`.
        seed: of the permutations.

    Returns:
        Indices `(num_steps,)` for each input.

    Raises:
        ValueError: when there is no such order.

    Example:
        >>> frame_order("reversed", [3], clip_number=0)
        (array([2, 1, 0]),)
    """
    if order not in ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(ORDERS)}. Received: order={order!r}.")
    if order == "one_frame":
        return tuple(np.full(count, count // 2) for count in num_steps)
    plain = tuple(np.arange(count) for count in num_steps)
    if order == "plain":
        return plain
    if order == "reversed":
        return tuple(steps[::-1] for steps in plain)
    longest = max(num_steps)
    # Four numbers: apart from the streams of training; the last one apart from those of chunks.
    generator = np.random.default_rng([seed, 0, clip_number, 2])
    places = generator.permutation(longest)
    while longest > 1 and np.array_equal(places, np.arange(longest)):
        places = generator.permutation(longest)
    # The place of each step; of a shorter input that of the longest one's step at the same time.
    return tuple(
        np.argsort(places[(2 * steps + 1) * longest // (2 * len(steps))]) for steps in plain
    )


def predict_in_orders(
    model: keras.Model,
    source: ClipSource | PairedStreams,
    clip_numbers: Sequence[int],
    *,
    seed: int = 0,
    one_bag: bool = False,
) -> dict[str, np.ndarray]:
    """Logits `(n, C)` of all clips of a source in each of `ORDERS`, see `predict_logits`.

    The backbones see each frame once: their maps do not depend on its place, and are put in order.
    All crops and clips of a video, and both streams, have the same order. Stacks of optical flow
    are put in order as they are: reversed, they come in reverse order, and each of them is still
    the flow from its first frame to its last, not the flow of the video played backwards; the one
    stack of "one_frame" has the movement of its frames.

    Args:
        model: the clip model.
        source: the clips, with a stream for each input of the model.
        clip_numbers: of the clips, see `frame_order`.
        seed: of the permutations.
        one_bag: see `predict_logits`.

    Raises:
        ValueError: when one bag is asked of a model that reads frames in their order.
    """
    if one_bag:
        model = as_one_bag(model, source)
    head = head_of(model)
    logits: dict[str, list[np.ndarray]] = {order: [] for order in ORDERS}
    for number, maps in zip(clip_numbers, _clip_maps(model, source), strict=True):
        for order, found in logits.items():
            found.append(view_mean(head, _in_order(maps, order, _MAPS_AXIS, number, seed)))
    return {order: np.concatenate(found) for order, found in logits.items()}


def predict_features_in_orders(
    model: keras.Model,
    source: FeatureSource,
    clip_numbers: Sequence[int],
    *,
    seed: int = 0,
    num_chunks: int = 40,
    flipped: bool = True,
) -> dict[str, np.ndarray]:
    """Scores `(n, C)` of all clips in each of `ORDERS`, see `predict_on_features`.

    All chunks of a clip have the same order, and so have the input-data and the attended-data.

    Args:
        model: returns log-probabilities, or logits of several labels.
        source: the clips.
        clip_numbers: of the clips, see `frame_order`.
        seed: of the permutations.
        num_chunks: see `predict_on_features`.
        flipped: see `predict_on_features`.
    """
    mean = MeanScore(multi_label=bool(is_multi_label(model)))
    scores: dict[str, list[np.ndarray]] = {order: [] for order in ORDERS}
    chunks = track(source.test_chunks(num_chunks, flipped), "Test", len(source), transient=True)
    for number, clip in zip(clip_numbers, chunks, strict=True):
        for order, found in scores.items():
            inputs = _in_order(clip, order, _STEPS_AXIS, number, seed)
            each = model.predict_on_batch(one_or_all(list(inputs)))
            found.append(mean(each[np.newaxis])[0].numpy())
    return {order: np.array(found) for order, found in scores.items()}


def _in_order(
    inputs: Sequence[np.ndarray], order: str, axis: int, number: int, seed: int
) -> tuple[np.ndarray, ...]:
    counts = [array.shape[axis] for array in inputs]
    indices = frame_order(order, counts, clip_number=number, seed=seed)
    return tuple(
        np.take(array, chosen, axis=axis) for array, chosen in zip(inputs, indices, strict=True)
    )


def _clip_maps(
    model: keras.Model, source: ClipSource | PairedStreams
) -> Iterator[tuple[np.ndarray, ...]]:
    """The maps of one clip after the other, `(1, T, h, w, D)` or `(1, views, T, h, w, D)`."""
    networks = [backbone.model for backbone in parts_of(model).backbones]
    clips = track(source.dataset(1, False, False, 0), "Test", len(source), transient=True)
    for streams, _ in clips:
        arrays = [array.numpy() for array in tf.nest.flatten(streams)]
        yield tuple(map(_maps, networks, arrays))


def _maps(network: keras.Model, clip: np.ndarray) -> np.ndarray:
    """From frames `(..., T, H, W, C)` to maps `(..., T, h, w, D)`, a view at a time."""
    views = clip.reshape(-1, *clip.shape[-4:])
    maps = np.stack([network.predict_on_batch(frames) for frames in views])
    return maps.reshape(*clip.shape[:-3], *maps.shape[2:])
