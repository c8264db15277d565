import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvlad.backbones import (
    Backbone,
    aggregate_at,
    feature_extractor,
    fingerprint,
    flow_backbone,
    from_model,
    with_frozen_copy,
)
from tfvlad.backbones.backbone import input_images
from tfvlad.layers import ImageNormalization

BLOCKS = {
    "stem": ("stem.conv", "stem.bn", "stem.relu"),
    "body": ("body.conv", "body.bn", "body.add"),
    "end": ("end.conv", "end.bn"),
}


def make_model(kernel_size=3):
    """A small network with a residual sum and a ReLU at its end."""
    images = keras.Input((16, 12, 3))
    x = ImageNormalization(127.5, 127.5)(images)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="stem.conv")(x)
    x = keras.layers.BatchNormalization(name="stem.bn")(x)
    x = shortcut = keras.layers.ReLU(name="stem.relu")(x)
    x = keras.layers.Conv2D(4, kernel_size, padding="same", name="body.conv")(x)
    x = keras.layers.BatchNormalization(name="body.bn")(x)
    x = keras.layers.Add(name="body.add")([x, shortcut])
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="end.conv")(x)
    x = keras.layers.BatchNormalization(name="end.bn")(x)
    return keras.Model(images, keras.layers.ReLU(name="end.relu")(x), name="small")


@pytest.fixture
def backbone():
    return from_model(make_model(), blocks=BLOCKS)


def make_frames(num_frames=2):
    return np.random.randint(0, 256, (num_frames, 16, 12, 3)).astype("uint8")


def trainable_layers(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def test_attributes(backbone):
    assert backbone.name == backbone.model.name == "small"
    assert backbone.image_size == (16, 12)
    assert backbone.num_channels == 6
    assert backbone.activation == "relu"


LAST_LAYERS = {
    "relu layer": (lambda: keras.layers.ReLU(), "relu"),
    "relu6 layer": (lambda: keras.layers.ReLU(6.0), "relu6"),
    "activation layer": (lambda: keras.layers.Activation("tanh"), "tanh"),
    "fused": (lambda: keras.layers.Conv2D(5, 1, activation="relu"), "relu"),
    "no activation": (lambda: keras.layers.Conv2D(5, 1), "linear"),
    "leaky relu layer": (lambda: keras.layers.ReLU(negative_slope=0.1), "linear"),
    "relu5 layer": (lambda: keras.layers.ReLU(5.0), "linear"),
}


@pytest.mark.parametrize("kind", LAST_LAYERS)
def test_last_activation_is_split_off(kind):
    make_layer, activation = LAST_LAYERS[kind]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="first"), make_layer()]
    )
    backbone = from_model(model)
    frames = np.random.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    assert backbone.activation == activation
    pre_activation = backbone.model(frames)
    features = model(frames)
    np.testing.assert_array_equal(backbone.activation_layer()(pre_activation), features)
    assert backbone.model.get_layer("first") is model.get_layer("first")
    if activation != "linear":
        assert np.abs(pre_activation - features).max() > 1


def test_integer_and_float_frames(backbone):
    frames = make_frames()
    np.testing.assert_allclose(
        backbone.model(frames), backbone.model(frames.astype("float32")), atol=1e-6
    )


@pytest.mark.parametrize("block", BLOCKS)
def test_parts_compose_to_the_model(backbone, block):
    frames = make_frames()
    backbone.split_at(block)  # the first split must not disturb the second
    frozen_part, freed_part = backbone.split_at(block)
    np.testing.assert_allclose(freed_part(frozen_part(frames)), backbone.model(frames), atol=1e-6)
    names = list(BLOCKS)
    freed = [name for later in names[names.index(block) :] for name in BLOCKS[later]]
    assert sorted(layer.name for layer in freed_part.layers[1:]) == sorted(freed)
    for name in freed:
        assert freed_part.get_layer(name) is backbone.model.get_layer(name)


def test_gradients_reach_the_shared_weights_through_the_freed_part(backbone):
    backbone.set_trainable("end")
    frozen_part, freed_part = backbone.split_at("end")
    assert frozen_part.trainable_variables == []
    features = frozen_part(make_frames())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(freed_part(features, training=True) ** 2)
    kernel = backbone.model.get_layer("end.conv").kernel
    assert freed_part.trainable_variables[0] is kernel
    assert np.abs(tape.gradient(loss, freed_part.trainable_variables)[0]).max() > 0


@pytest.mark.parametrize(
    ("block", "batch_norm", "expected"),
    [
        (None, False, []),
        (None, True, []),
        ("end", False, ["end.conv"]),
        ("end", True, ["end.conv", "end.bn"]),
        ("body", False, ["body.conv", "end.conv"]),
        ("stem", False, ["stem.conv", "body.conv", "end.conv"]),
    ],
)
def test_set_trainable(backbone, block, batch_norm, expected):
    backbone.set_trainable("stem", batch_norm=True)  # what was set before does not matter
    backbone.set_trainable(block, batch_norm=batch_norm)
    assert trainable_layers(backbone.model) == expected
    expected_ids = [
        id(weight) for name in expected for weight in backbone.model.get_layer(name).weights[:2]
    ]
    assert [id(variable) for variable in backbone.model.trainable_variables] == expected_ids


def test_set_trainable_after_the_whole_model_was_frozen(backbone):
    backbone.model.trainable = False
    backbone.set_trainable("end")
    assert len(backbone.model.trainable_variables) == 2


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_statistics(backbone, batch_norm):
    backbone.set_trainable("end", batch_norm=batch_norm)
    frames = make_frames()
    statistics = backbone.model.get_layer("end.bn").get_weights()[2:]
    inference = backbone.model(frames, training=False)
    training = backbone.model(frames, training=True)
    new_statistics = backbone.model.get_layer("end.bn").get_weights()[2:]
    is_frozen = np.allclose(training, inference, atol=1e-6)
    assert is_frozen is not batch_norm
    assert np.array_equal(statistics, new_statistics) is not batch_norm


def test_batch_norms_in_a_nested_model_stay_frozen():
    nested = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()],
        name="nested",
    )
    images = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(5, 1, name="last")(nested(images))
    backbone = from_model(
        keras.Model(images, outputs), blocks={"nested": ["nested"], "last": ["last"]}
    )
    backbone.set_trainable("nested")
    assert trainable_layers(nested) == [nested.layers[-2].name]
    backbone.set_trainable("last")
    assert trainable_layers(nested) == []


def test_fingerprint(backbone):
    original = backbone.fingerprint()
    model = make_model()
    model.set_weights(backbone.model.get_weights())
    assert from_model(model, name="other name").fingerprint() == original
    backbone.set_trainable("end")
    assert backbone.fingerprint() == original == fingerprint(backbone.model)

    frozen_part, _ = backbone.split_at("end")
    frozen_fingerprint = fingerprint(frozen_part)
    backbone.model.get_layer("end.conv").kernel.assign_add(tf.fill((3, 3, 4, 6), 1e-3))
    assert backbone.fingerprint() != original
    assert fingerprint(frozen_part) == frozen_fingerprint


def test_fingerprint_covers_the_arguments_of_layers():
    images = keras.Input((8, 8, 3))
    scaled, unscaled = (
        fingerprint(keras.Model(images, ImageNormalization(0.0, std)(images))) for std in (255, 1)
    )
    assert scaled != unscaled


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_save_and_load(tmp_path, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        backbone = from_model(make_model(), blocks=BLOCKS)
        backbone.set_trainable("end")
        for number, model in enumerate((backbone.model, *backbone.split_at("body"))):
            path = tmp_path / f"{number}.keras"
            model.save(path)
            loaded = keras.models.load_model(path)
            inputs = np.random.uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
            np.testing.assert_array_equal(
                tf.cast(loaded(inputs), "float32"), tf.cast(model(inputs), "float32")
            )
            assert trainable_layers(loaded) == trainable_layers(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_keeps_frames_exact():
    # 200.3 would become 200 in bfloat16.
    frames = np.full((1, 16, 12, 3), 200.3, "float32")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        images = keras.Input((16, 12, 3))
        model = keras.Model(images, ImageNormalization(200.0, 0.3)(images))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(tf.cast(model(frames), "float32"), 1.0, atol=1e-2)


def test_unknown_block(backbone):
    message = r"`block` must be one of \['stem', 'body', 'end'\].*Received: block='layer4'."
    with pytest.raises(ValueError, match=message):
        backbone.split_at("layer4")
    with pytest.raises(ValueError, match=message):
        backbone.set_trainable("layer4")


def test_split_inside_a_residual_unit():
    backbone = from_model(make_model(), blocks={"half": ["body.bn", "body.add", "end.conv"]})
    with pytest.raises(ValueError, match=r"cannot be split at 'half'.*enters 'body.bn'"):
        backbone.split_at("half")


def test_blocks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"block 'end' with unknown layers \['conv9'\]"):
        from_model(make_model(), blocks={"end": ("end.conv", "conv9")})
    with pytest.raises(ValueError, match="block 'end' with no layers"):
        from_model(make_model(), blocks={"end": ()})


@pytest.mark.parametrize(("kernel", "bias"), [((5, 10), (10,)), ((6, 10), (9,)), ((6,), (6,))])
def test_classifier_that_does_not_fit(kernel, bias):
    message = r"`classifier_kernel` must have the shape \(6, classes\)"
    with pytest.raises(ValueError, match=message):
        from_model(make_model(), classifier_kernel=np.ones(kernel), classifier_bias=np.ones(bias))


def test_classifier_without_bias():
    with pytest.raises(ValueError, match="must be given together"):
        Backbone("small", make_model(), classifier_kernel=np.ones((6, 10)))


def test_from_model_refuses_other_models():
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model\. Received: Dense."):
        from_model(keras.layers.Dense(3))
    images = keras.Input((8, 8, 3))
    pooled = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    with pytest.raises(ValueError, match="End it in front of its pooling layer"):
        from_model(pooled)


@pytest.mark.parametrize("image_size", [31, (64, 16), (64, 64, 3), 64.0, "64", True, None])
def test_image_size_that_is_none(image_size):
    with pytest.raises(ValueError, match="`image_size` must be an integer of at least 32 pixels"):
        input_images(image_size)


def test_image_size():
    assert tuple(input_images(64).shape) == (None, 64, 64, 3)
    assert tuple(input_images((48, 64)).shape) == (None, 48, 64, 3)


REFUSED = (
    r"must be a Backbone, which `tfvlad.backbones.from_model` makes of a keras.Model that takes "
    r"raw frames, values 0\.\.255\. Received: "
)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: aggregate_at(model, "pooled"),
        lambda model: feature_extractor(model),
        lambda model: flow_backbone(model),
        lambda model: with_frozen_copy(model, "end"),
    ],
)
def test_a_bare_model_is_refused(make):
    with pytest.raises(TypeError, match=f"`backbone` {REFUSED}the model 'small'"):
        make(make_model())
    with pytest.raises(TypeError, match=f"`backbone` {REFUSED}str"):
        make("resnet18")


def test_no_blocks():
    message = r"'small' names no blocks and can only be frozen as a whole\. Received: block='end'"
    with pytest.raises(ValueError, match=message):
        from_model(make_model()).set_trainable("end")
