import keras
import numpy as np
import pytest

from tfvlad.backbones import mobilenet_v2, vgg16, vgg19

MOBILENET_BLOCKS = ["stem", *(f"block_{number}" for number in range(1, 17)), "conv_1"]


@pytest.fixture(scope="module")
def mobilenet():
    return mobilenet_v2(weights=None, image_size=64)


def make_frames(height=64, width=64):
    return np.random.randint(0, 256, (2, height, width, 3)).astype("float32")


def layers_with_weights(model):
    return [layer.name for layer in model.layers if layer.weights]


def test_mobilenet_v2_attributes(mobilenet):
    assert mobilenet.name == "mobilenet_v2"
    assert mobilenet.activation == "relu6"
    assert mobilenet.image_size == (64, 64)
    assert mobilenet.model.output_shape == (None, 2, 2, 1280)
    assert mobilenet.classifier_kernel.shape == (1280, 1000)
    assert mobilenet.classifier_bias.shape == (1000,)
    assert list(mobilenet.blocks) == MOBILENET_BLOCKS
    assert mobilenet.blocks["conv_1"] == ("Conv_1", "Conv_1_bn")
    assert mobilenet.blocks["block_1"][0] == "block_1_expand"
    assert mobilenet.blocks["block_10"][0] == "block_10_expand"
    listed = [name for block in mobilenet.blocks.values() for name in block]
    assert listed == [layer.name for layer in mobilenet.model.layers[2:]]


@pytest.mark.parametrize("block", ["block_1", "block_13", "block_16", "conv_1"])
def test_mobilenet_v2_split(mobilenet, block):
    frames = make_frames()
    frozen_part, freed_part = mobilenet.split_at(block)
    np.testing.assert_allclose(
        freed_part(frozen_part(frames)), mobilenet.model(frames), rtol=1e-4, atol=1e-5
    )


def test_mobilenet_v2_freed_block(mobilenet):
    mobilenet.set_trainable("block_16")
    names = ["block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1"]
    expected = [id(mobilenet.model.get_layer(name).weights[0]) for name in names]
    assert [id(variable) for variable in mobilenet.model.trainable_variables] == expected


def test_mobilenet_v2_reads_a_file(tmp_path):
    published = keras.applications.MobileNetV2(
        (64, 64, 3), weights=None, classifier_activation=None
    )
    published.save_weights(tmp_path / "mobilenet.weights.h5")
    backbone = mobilenet_v2(weights=tmp_path / "mobilenet.weights.h5", image_size=64)
    frames = make_frames()
    features = backbone.activation_layer()(backbone.model(frames))
    scores = np.mean(features, (1, 2)) @ backbone.classifier_kernel + backbone.classifier_bias
    inputs = keras.applications.mobilenet_v2.preprocess_input(frames.copy())
    np.testing.assert_allclose(scores, published(inputs), rtol=1e-4, atol=1e-5)


def test_published_mobilenet_v2_classifies_through_its_class_activation_map(data_folder):
    import av

    path = data_folder / "weights" / "mobilenet_v2_1.0_224_imagenet.h5"
    video = min((data_folder / "sample_clips").glob("*.avi"))
    with av.open(str(video)) as container:
        frame = next(container.decode(video=0)).to_ndarray(width=224, height=224, format="rgb24")
    backbone = mobilenet_v2(weights=path)
    features = backbone.activation_layer()(backbone.model(frame[None]))[0]
    class_activation_maps = np.asarray(features) @ backbone.classifier_kernel  # (7, 7, 1000)
    scores = class_activation_maps.mean((0, 1)) + backbone.classifier_bias

    published = keras.applications.MobileNetV2(weights=str(path))
    probabilities = published(frame[None] / 127.5 - 1)[0]
    assert np.argmax(scores) == np.argmax(probabilities)
    expected = np.exp(scores - scores.max())
    np.testing.assert_allclose(probabilities, expected / expected.sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("make_backbone", "last_layer", "num_convolutions"),
    [(vgg16, "block5_conv3", (2, 2, 3, 3, 3)), (vgg19, "block5_conv4", (2, 2, 4, 4, 4))],
)
def test_vgg_attributes(make_backbone, last_layer, num_convolutions):
    backbone = make_backbone(weights=None, image_size=(48, 32))
    assert backbone.name == make_backbone.__name__
    assert backbone.activation == "relu"
    assert backbone.model.output_shape == (None, 3, 2, 512)
    assert backbone.model.layers[-1].name == last_layer
    assert backbone.classifier_kernel is None
    assert list(backbone.blocks) == [f"block{number}" for number in range(1, 6)]
    assert tuple(len(b) - (n > 0) for n, b in enumerate(backbone.blocks.values())) == (
        num_convolutions
    )
    assert backbone.blocks["block5"][0] == "block4_pool"

    backbone.set_trainable("block5")
    convolutions = [name for name in backbone.blocks["block5"] if "conv" in name]
    expected = [
        id(weight) for name in convolutions for weight in backbone.model.get_layer(name).weights
    ]
    assert [id(variable) for variable in backbone.model.trainable_variables] == expected

    frames = make_frames(48, 32)
    frozen_part, freed_part = backbone.split_at("block5")
    np.testing.assert_allclose(
        freed_part(frozen_part(frames)), backbone.model(frames), rtol=1e-4, atol=1e-4
    )


def test_vgg16_reads_a_file(tmp_path):
    path = tmp_path / "vgg16_notop.weights.h5"
    published = keras.applications.VGG16(weights=None, include_top=False)
    published.save_weights(path)
    backbone = vgg16(weights=path, image_size=48)
    frames = make_frames(48, 48)
    features = backbone.activation_layer()(backbone.model(frames))
    inputs = keras.applications.vgg16.preprocess_input(frames.copy())
    conv5_3 = keras.Model(published.input, published.get_layer("block5_conv3").output)
    expected = np.asarray(conv5_3(inputs))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5 * expected.max())

    message = "`weights` must be 'imagenet', None or an .h5 file of VGG19 in Keras' layout"
    with pytest.raises(ValueError, match=message):
        vgg19(weights=path)


@pytest.mark.parametrize(
    ("make_backbone", "advice"), [(mobilenet_v2, "`predictions`"), (vgg16, "`notop`")]
)
def test_weights_that_are_not_there(make_backbone, advice):
    with pytest.raises(ValueError, match=f"{advice}.*Received: weights='nowhere.h5'"):
        make_backbone(weights="nowhere.h5")
