import keras
import numpy as np
import pytest

from tfvlad.backbones import fit_small_cnn, small_cnn, small_cnn_backbone


def squares_and_stripes(num_images):
    images = np.zeros((num_images, 32, 32, 3), np.uint8)
    labels = np.arange(num_images) % 2
    images[labels == 0, 8:24, 8:24] = 255
    images[labels == 1, ::4] = 255
    noise = np.random.default_rng(0).integers(0, 60, images.shape, dtype=np.uint8)
    return images // 2 + noise, labels


@pytest.fixture(scope="module")
def trained(eagerly):
    keras.utils.set_random_seed(0)
    model = small_cnn(2, image_size=32)
    history = fit_small_cnn(model, *squares_and_stripes(256), epochs=4, verbose=0)
    return model, history


def test_learns(trained):
    model, history = trained
    assert history.history["val_accuracy"][-1] > 0.9
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert model.optimizer.learning_rate.numpy() < 0.01 * 2e-3


def test_shapes():
    model = small_cnn(5, image_size=(48, 64))
    assert model.output_shape == (None, 5)
    assert model.get_layer("features").output.shape == (None, 6, 8, 128)


def test_backbone_gives_the_scores(trained):
    model, _ = trained
    images, _ = squares_and_stripes(6)
    backbone = small_cnn_backbone(model)
    pre_activation = np.asarray(backbone.model(images.astype("float32")))
    assert pre_activation.shape == (6, 4, 4, 128)
    assert pre_activation.min() < 0
    features = np.maximum(pre_activation, 0)
    scores = features.mean(axis=(1, 2)) @ backbone.classifier_kernel + backbone.classifier_bias
    np.testing.assert_allclose(scores, model(images.astype("float32")), rtol=1e-4, atol=1e-4)


def test_backbone_frees_its_last_convolution(trained):
    backbone = small_cnn_backbone(trained[0])
    backbone.set_trainable("block4")
    kernel = backbone.model.get_layer("conv4").trainable_weights
    assert [id(weight) for weight in backbone.model.trainable_weights] == [id(kernel[0])]
    frozen, freed = backbone.split_at("block4")
    images = squares_and_stripes(2)[0].astype("float32")
    np.testing.assert_allclose(freed(frozen(images)), backbone.model(images), atol=1e-5)
