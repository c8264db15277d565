"""The update gates of TA-VLAD's GRU while it learns: saturated ones have next to no gradient."""

import keras
import numpy as np
import pytest

from tests.helpers import normal
from tfvlad.backbones import from_model
from tfvlad.models import head_of, ta_vlad
from tfvlad.training import ta_vlad_stages

T, C, D, UNITS, NUM_CLIPS = 6, 3, 256, 16, 32


def saturated(**options):
    """The share of gates outside [0.02, 0.98] after 60 steps at the default learning rate."""
    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(D, 8, strides=8, name="conv")(images)
    backbone = from_model(keras.Model(images, maps), name="small")
    model = ta_vlad(
        backbone,
        C,
        num_frames=T,
        num_clusters=4,
        units=UNITS,
        alpha=5.0,
        attention=False,
        **options,
    )
    head = head_of(model)
    labels = np.arange(NUM_CLIPS) % C
    clips = normal(NUM_CLIPS, T, 4, 4, D) + 0.5 * normal(C, 1, 1, 1, D, seed=1)[labels]
    head.compile(
        keras.optimizers.Adam(ta_vlad_stages("conv")[0].learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    head.fit(clips, labels, batch_size=16, epochs=30, shuffle=False, verbose=0)
    vectors, _ = model.get_layer("vlad")(clips)
    vectors = model.get_layer("frame_vlad")(vectors)
    states, _ = model.get_layer("shared_gru")(vectors)
    kernel, recurrent_kernel, bias = model.get_layer("shared_gru").get_weights()
    before = np.pad(states[:, :-1], [(0, 0), (1, 0), (0, 0), (0, 0)])
    gates = np.array(vectors) @ kernel + before @ recurrent_kernel + bias.sum(axis=0)
    gates = gates[..., :UNITS]
    return np.mean(np.abs(gates) > np.log(0.98 / 0.02))


@pytest.mark.usefixtures("traced")
def test_few_gates_are_saturated():
    assert saturated() < 0.05
    # What the square root of D did.
    assert saturated(input_scale="sqrt_channels", update_bias=0.0) > 0.2
