import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_backbone
from tfvlad.backbones import (
    flow_backbone,
    from_model,
    mobilenet_v2,
    resnet18,
    vgg16,
    with_frozen_copy,
)
from tfvlad.layers import ImageNormalization

# Mean and standard deviation of the colours in front of each network.
NETWORKS = {
    "tiny": (tiny_backbone, 127.5, 127.5),
    "mobilenet_v2": (lambda: mobilenet_v2(weights=None, image_size=32), 127.5, 127.5),
    "resnet18": (
        lambda: resnet18(image_size=32),
        255 * np.array([0.485, 0.456, 0.406]),
        255 * np.array([0.229, 0.224, 0.225]),
    ),
    "vgg16": (
        lambda: vgg16(weights=None, image_size=32),
        np.array([123.68, 116.779, 103.939]),
        1.0,
    ),
}


@pytest.fixture(scope="module")
def build():
    """Builds each network once."""
    return functools.cache(lambda name: NETWORKS[name][0]())


def make_flow(backbone, num_frames=2):
    return np.random.randint(0, 256, (num_frames, *backbone.model.input_shape[1:]))


@pytest.mark.parametrize(("name", "stack_frames"), [("tiny", 1), *((name, 3) for name in NETWORKS)])
def test_equals_the_rgb_network_on_a_grey_picture(build, name, stack_frames):
    _, mean, std = NETWORKS[name]
    backbone = build(name)
    flow = flow_backbone(backbone, stack_frames)
    # Normalised alike in all three colours; 2L channels add up to as much as three.
    grey = np.random.normal(size=(2, *backbone.image_size, 1))
    frames = np.ones(3) * mean + grey * std
    ratio = 3 / (2 * stack_frames)
    stack = 127.5 + ratio * np.repeat(grey, 2 * stack_frames, axis=-1) * np.mean(std)
    expected = backbone.model(frames.astype("float32"))
    scale = np.abs(expected).max()
    actual = flow.model(stack.astype("float32"))
    np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-4)


def test_kernel_and_the_other_weights():
    backbone = tiny_backbone()
    flow = flow_backbone(backbone, 4)
    kernel = backbone.model.get_layer("conv1").kernel.numpy()
    expected = sum(kernel[:, :, c] for c in range(3)) / 3
    actual = flow.model.get_layer("conv1").kernel.numpy()
    assert actual.shape == (3, 3, 8, 4)
    for channel in range(8):
        np.testing.assert_allclose(actual[:, :, channel], expected, atol=1e-6)
    for name in ("bn1", "conv2", "bn2"):
        weights = (m.get_layer(name).get_weights() for m in (backbone.model, flow.model))
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_motion_is_zero_to_the_first_convolution(build):
    for name in ("resnet18", "vgg16"):
        flow = flow_backbone(build(name))
        normalized = keras.Model(flow.model.input, flow.model.layers[1].output)
        np.testing.assert_array_equal(normalized(np.full((1, 32, 32, 20), 127.5)), 0)


def test_attributes():
    backbone = tiny_backbone()
    flow = flow_backbone(backbone)
    assert flow.name == flow.model.name == "tiny_flow"
    assert flow.model.input_shape == (None, 32, 32, 20)
    assert flow.model.output_shape == backbone.model.output_shape
    assert flow.activation == "relu"
    assert flow.blocks == backbone.blocks
    np.testing.assert_array_equal(flow.classifier_kernel, backbone.classifier_kernel)
    np.testing.assert_array_equal(flow.classifier_bias, backbone.classifier_bias)
    assert flow.fingerprint() != backbone.fingerprint()
    assert flow_backbone(backbone).fingerprint() == flow.fingerprint()


def test_nothing_is_shared():
    backbone = tiny_backbone()
    frames = np.random.randint(0, 256, (2, 32, 32, 3))
    flow, before = flow_backbone(backbone, 1), backbone.model(frames)
    flow.model.set_weights([weight + 1 for weight in flow.model.get_weights()])
    np.testing.assert_array_equal(backbone.model(frames), before)
    flow.set_trainable("block1")
    assert len(flow.model.trainable_variables) == 2
    backbone.set_trainable(None)
    assert len(flow.model.trainable_variables) == 2


def test_gradients_reach_each_channel_of_the_first_kernel():
    flow = flow_backbone(tiny_backbone(), 2)
    flow.set_trainable("block1")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.model(make_flow(flow)) ** 2)
    gradient = tape.gradient(loss, flow.model.get_layer("conv1").kernel)
    assert (np.abs(gradient).max(axis=(0, 1, 3)) > 0).all()


def test_split():
    flow = flow_backbone(tiny_backbone(), 2)
    stack = make_flow(flow)
    frozen_part, freed_part = flow.split_at("block2")
    np.testing.assert_allclose(freed_part(frozen_part(stack)), flow.model(stack), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_save_and_load(policy, tmp_path):
    keras.mixed_precision.set_global_policy(policy)
    try:
        convolution = keras.layers.Conv2D(4, 3, use_bias=False)
        flow = flow_backbone(backbone_of(ImageNormalization(), convolution), 2)
        flow.model.save(tmp_path / "flow.keras")
        loaded = keras.models.load_model(tmp_path / "flow.keras")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    stack = make_flow(flow)
    maps = [tf.cast(model(stack), "float32") for model in (loaded, flow.model)]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize("stack_frames", [0, 2.5, None])
def test_wrong_stack(stack_frames):
    message = f"`stack_frames` must be a positive integer. Received: stack_frames={stack_frames}."
    with pytest.raises(ValueError, match=re.escape(message)):
        flow_backbone(tiny_backbone(), stack_frames)


def backbone_of(*layers, channels=3):
    model = keras.Sequential([keras.Input((32, 32, channels)), *layers], name="other")
    return from_model(model)


@pytest.mark.parametrize(
    ("make_backbone", "channels", "kinds"),
    [
        (
            lambda: backbone_of(keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)),
            3,
            "Conv2D and Conv2D",
        ),
        (
            lambda: backbone_of(ImageNormalization(), keras.layers.Dense(4)),
            3,
            "ImageNormalization and Dense",
        ),
        (
            lambda: backbone_of(ImageNormalization(), keras.layers.MaxPooling2D()),
            3,
            "ImageNormalization and no layer with weights",
        ),
        (
            lambda: backbone_of(ImageNormalization(), keras.layers.Conv2D(4, 3), channels=20),
            20,
            "ImageNormalization and Conv2D",
        ),
    ],
)
def test_networks_that_begin_otherwise(make_backbone, channels, kinds):
    message = (
        "`backbone` must take RGB frames and begin with ImageNormalization or Rescaling and a "
        f"Conv2D. Received: 'other', which takes {channels} channels and begins with {kinds}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        flow_backbone(make_backbone())


def test_the_frozen_copy_comes_last():
    backbone = with_frozen_copy(tiny_backbone(), "block2")
    message = (
        "'tiny_frozen_copy' has a frozen copy already. Make the copy of the flow backbone: "
        "with_frozen_copy(flow_backbone(backbone), block)."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        flow_backbone(backbone)
    both = with_frozen_copy(flow_backbone(tiny_backbone()), "block2")
    assert both.model.input_shape == (None, 32, 32, 20)
