import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assert_close_to_scale, normal, numeric_gradient, uniform
from tests.tfvlad.layers import equations
from tfvlad.layers import NetVLAD

SWITCHES = list(itertools.product([False, True], repeat=3))


def make_layer(num_clusters=4, channels=3, seed=9, **arguments):
    """A layer with three independent weights: a transposed or tied one would show."""
    layer = NetVLAD(num_clusters, **arguments)
    layer.build((None, None, None, channels))
    layer.kernel.assign(normal(channels, num_clusters, seed=seed))
    layer.bias.assign(normal(num_clusters, seed=seed + 1))
    layer.centers.assign(normal(num_clusters, channels, seed=seed + 2))
    return layer


def encode(features, layer, weights=None, kernel=None, bias=None, centers=None):
    """One frame `(N, D)` by the equations, with the layer's switches; float64 `(K, D)`."""
    if layer.normalize_input:
        features = equations.unit_rows(features)
    encoded = equations.vlad(
        features,
        layer.kernel.numpy() if kernel is None else kernel,
        layer.bias.numpy() if bias is None else bias,
        layer.centers.numpy() if centers is None else centers,
        weights,
    )
    if layer.intra_normalize:
        encoded = equations.unit_rows(encoded)
    return equations.unit(encoded) if layer.normalize_descriptor else encoded


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_equations(switches, weighted):
    names = ("normalize_input", "intra_normalize", "normalize_descriptor")
    layer = make_layer(**dict(zip(names, switches, strict=True)))
    features, weights = normal(2, 3, 5, 3), uniform(2, 3, 5, seed=1)
    outputs = layer(features, weights if weighted else None)
    assert outputs.shape == (2, 3, 4, 3)
    for b, t in np.ndindex(2, 3):
        expected = encode(features[b, t], layer, weights[b, t] if weighted else None)
        np.testing.assert_allclose(outputs[b, t], expected, rtol=1e-4, atol=1e-5)


def test_feature_maps_equal_lists_of_locations():
    layer = make_layer(return_assignments=True)
    maps, weights = normal(2, 3, 2, 5, 3), uniform(2, 3, 2, 5, seed=1)
    vlad, assignments = layer(maps, weights)
    expected, flat = layer(maps.reshape(2, 3, 10, 3), weights.reshape(2, 3, 10))
    np.testing.assert_allclose(vlad, expected, atol=1e-6)
    np.testing.assert_allclose(assignments, np.reshape(flat, (2, 3, 2, 5, 4)), atol=1e-6)


def test_single_images_equal_clips_of_one_frame():
    layer = make_layer()
    images = normal(2, 5, 3)
    np.testing.assert_allclose(layer(images), layer(images[:, np.newaxis])[:, 0], atol=1e-6)


def test_assignments():
    layer = make_layer(return_assignments=True)
    features = normal(2, 3, 5, 3)
    # The location's weight and the mask are not part of the assignments.
    _, assignments = layer(features, uniform(2, 3, 5), mask=np.zeros((2, 3), bool))
    for b, t in np.ndindex(2, 3):
        expected = equations.assign(
            equations.unit_rows(features[b, t]), layer.kernel.numpy(), layer.bias.numpy()
        )
        np.testing.assert_allclose(assignments[b, t], expected, rtol=1e-4, atol=1e-6)


def test_mask_zeroes_frames_and_leaves_the_others():
    layer = make_layer()
    features, mask = normal(2, 3, 5, 3), np.array([[1, 1, 0], [0, 1, 0]], bool)
    outputs, unmasked = layer(features, mask=mask), layer(features)
    np.testing.assert_array_equal(outputs, np.where(mask[..., None, None], unmasked, 0))


def test_mask_of_single_images_rules_out_locations():
    layer = make_layer()
    features, mask = normal(2, 5, 3), np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool)
    outputs = layer(features, mask=mask)
    for b in range(2):
        expected = layer(features[b : b + 1, mask[b]])
        np.testing.assert_allclose(outputs[b : b + 1], expected, atol=1e-6)


def test_mask_as_an_input_of_a_model():
    features, mask = normal(1, 3, 2, 3), np.array([[True, True, False]])
    layer = make_layer()
    np.testing.assert_array_equal(layer.compute_mask(features, mask), mask)
    inputs, mask_input = keras.Input((None, 2, 3)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask_input], layer(inputs, mask=mask_input))
    np.testing.assert_allclose(model([features, mask]), layer(features, mask=mask), atol=1e-6)


def test_starts_tied_to_unit_centers():
    layer = NetVLAD(4, alpha=7.0)
    layer.build((None, None, None, 3))
    centers = layer.centers.numpy()
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(layer.kernel, 2 * 7 * centers.T, rtol=1e-6)
    np.testing.assert_allclose(layer.bias, [-7 * c @ c for c in centers], rtol=1e-6)
    assert len(layer.trainable_variables) == 3


def test_set_centers_ties_kernel_and_bias():
    centers = 2 * normal(4, 3)
    layer = make_layer(alpha=5.0, normalize_input=False, return_assignments=True)
    layer.set_centers(centers)
    np.testing.assert_array_equal(layer.centers, centers)
    np.testing.assert_allclose(layer.kernel, 2 * 5 * centers.T, rtol=1e-6)
    # -alpha |c|^2, not -alpha |c|: only then the softmax is that of the squared distances.
    np.testing.assert_allclose(layer.bias, [-5 * c @ c for c in centers], rtol=1e-6)
    features = normal(1, 1, 6, 3, seed=1)
    _, assignments = layer(features)
    for i, x in enumerate(features[0, 0].astype("float64")):
        expected = equations.softmax(np.array([-5 * np.sum((x - c) ** 2) for c in centers]))
        np.testing.assert_allclose(assignments[0, 0, i], expected, rtol=1e-3, atol=1e-5)


def test_default_alpha_assigns_to_the_nearest_center():
    layer = NetVLAD(8, return_assignments=True)
    features = normal(1, 2, 40, 16)
    _, assignments = layer(features)
    distances = np.linalg.norm(
        equations.unit_rows(features)[..., np.newaxis, :] - layer.centers.numpy(), axis=-1
    )
    np.testing.assert_array_equal(np.argmax(assignments, -1), np.argmin(distances, -1))
    assert np.mean(np.max(assignments, -1) > 0.99) > 0.9


def test_automatic_alpha_is_arandjelovics_rule():
    centers, descriptors = normal(5, 8), normal(50, 8, seed=1)
    layer = make_layer(5, 8, alpha="auto")
    layer.set_centers(centers, descriptors)
    gaps = []
    for x in equations.unit_rows(descriptors.astype("float64")):
        nearest, second, *_ = sorted(np.sum((x - c) ** 2) for c in centers.astype("float64"))
        gaps.append(second - nearest)
    alpha = -math.log(0.01) / np.mean(gaps)
    np.testing.assert_allclose(layer.kernel, 2 * alpha * centers.T, rtol=1e-4)
    np.testing.assert_allclose(layer.bias, [-alpha * c @ c for c in centers], rtol=1e-4)


def test_automatic_alpha_gives_the_second_center_a_hundredth():
    # Every descriptor is half as far from its nearest centre as from the second.
    centers = np.array([[0.0, 1.0], [0.0, -2.0]])
    layer = make_layer(2, 2, alpha="auto", normalize_input=False, return_assignments=True)
    layer.set_centers(centers, np.zeros((3, 2)))
    _, assignments = layer(np.zeros((1, 1, 1, 2), "float32"))
    ratio = assignments[0, 0, 0, 1] / assignments[0, 0, 0, 0]
    np.testing.assert_allclose(ratio, 0.01, rtol=1e-4)


@pytest.mark.parametrize("num_clusters", [1, 4])
def test_automatic_alpha_without_descriptors(num_clusters):
    centers = normal(num_clusters, 3)
    layer = make_layer(num_clusters, alpha="auto")
    layer.set_centers(centers)
    distances = [sorted(np.sum((c - d) ** 2) for d in centers)[1:2] for c in centers]
    alpha = -math.log(0.01) / np.mean(distances) if num_clusters > 1 else 1.0
    np.testing.assert_allclose(layer.kernel, 2 * alpha * centers.T, rtol=1e-4)


def test_empty_cluster_gives_zeros_and_finite_gradients():
    layer = NetVLAD(3)
    features = tf.constant(normal(1, 1, 5, 2))
    layer(features)
    layer.set_centers(np.array([[1.0, 0.0], [-1.0, 0.0], [100.0, 100.0]]))
    with tf.GradientTape() as tape:
        tape.watch(features)
        vlad = layer(features)
        loss = tf.reduce_sum(vlad * normal(1, 1, 3, 2, seed=1))
    np.testing.assert_array_equal(vlad[0, 0, 2], [0, 0])
    np.testing.assert_allclose(np.linalg.norm(vlad), 1, rtol=1e-5)
    for gradient in tape.gradient(loss, [features, *layer.trainable_variables]):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("how", ["mask", "weights", "zero features"])
def test_frames_without_weight_have_finite_gradients(how):
    layer = make_layer()
    features = tf.constant(normal(2, 2, 5, 3) * (how != "zero features"))
    weights = tf.zeros((2, 2, 5)) if how == "weights" else None
    mask = tf.zeros((2, 2), bool) if how == "mask" else None
    with tf.GradientTape() as tape:
        tape.watch(features)
        vlad = layer(features, weights, mask=mask)
        loss = tf.reduce_sum(vlad * normal(2, 2, 4, 3, seed=1))
    if how != "zero features":
        np.testing.assert_array_equal(vlad, np.zeros((2, 2, 4, 3)))
    for gradient in tape.gradient(loss, [features, *layer.trainable_variables]):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("argument", ["features", "weights", "kernel", "bias", "centers"])
def test_gradient_equals_finite_differences(argument):
    layer = make_layer()
    upstream = normal(4, 3, seed=5)
    values = {
        "features": normal(5, 3),
        "weights": uniform(5, seed=1),
        "kernel": layer.kernel.numpy(),
        "bias": layer.bias.numpy(),
        "centers": layer.centers.numpy(),
    }
    features, weights = (tf.constant(values[name])[None, None] for name in ("features", "weights"))
    with tf.GradientTape() as tape:
        tape.watch([features, weights])
        loss = tf.reduce_sum(layer(features, weights) * upstream)
    sources = {
        "features": features,
        "weights": weights,
        **dict(zip(("kernel", "bias", "centers"), layer.trainable_variables, strict=True)),
    }
    actual = tape.gradient(loss, sources[argument])
    # NumPy 1 would round a product with a float64 scalar to float32.
    values = {name: value.astype("float64") for name, value in values.items()}
    expected = numeric_gradient(
        lambda x: np.sum(upstream * encode(layer=layer, **{**values, argument: x})),
        values[argument],
    )
    assert_close_to_scale(np.reshape(actual, expected.shape), expected, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_assignments_are_float32_under_mixed_precision(policy):
    # Post-ReLU features and centres among them: logits of alpha=1000 span hundreds.
    features = np.maximum(normal(2, 3, 49, 64), 0)
    centers = equations.unit_rows(features[0, 0, :16])
    full, mixed = (
        NetVLAD(16, return_assignments=True, dtype=dtype) for dtype in ("float32", policy)
    )
    for layer in (full, mixed):
        layer.build(features.shape)
        layer.set_centers(centers)
    (vlad, assignments), (mixed_vlad, mixed_assignments) = full(features), mixed(features)
    assert mixed_vlad.dtype == mixed_assignments.dtype == mixed.compute_dtype
    assert all(variable.dtype == "float32" for variable in mixed.trainable_variables)
    rounding = 2**-8 if policy == "mixed_bfloat16" else 2**-11
    for half, single in ((mixed_vlad, vlad), (mixed_assignments, assignments)):
        np.testing.assert_allclose(tf.cast(half, "float32"), single, rtol=rounding, atol=1e-6)


def test_graph_holds_no_residual_tensor():
    N, K, D = 60, 16, 32
    layer = NetVLAD(K)
    layer.build((1, 1, N, D))

    @tf.function
    def train(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(layer(features) ** 2)
        return tape.gradient(loss, [features, *layer.trainable_variables])

    graph = train.get_concrete_function(tf.TensorSpec((1, 1, N, D))).graph
    shapes = [out.shape for operation in graph.get_operations() for out in operation.outputs]
    assert max(s.num_elements() or 0 for s in shapes if s.is_fully_defined()) == N * D
    assert all(s.rank is None or s.rank <= 4 for s in shapes)


@pytest.mark.parametrize("num_clusters", [0, -1, 2.5, "64"])
def test_wrong_num_clusters(num_clusters):
    with pytest.raises(ValueError, match=r"`num_clusters` must be a positive integer. Received:"):
        NetVLAD(num_clusters)


@pytest.mark.parametrize("alpha", [0, -1.0, "automatic", None, float("nan")])
def test_wrong_alpha(alpha):
    message = r'`alpha` must be a positive number or "auto"\. Received: alpha='
    with pytest.raises(ValueError, match=message):
        NetVLAD(4, alpha=alpha)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3, 4, 5, 6), (None, None, 49, None)])
def test_wrong_features(shape):
    with pytest.raises(ValueError, match=r"`NetVLAD` needs features of shape \(B, T, N, D\),"):
        NetVLAD(4).build(shape)


def test_set_centers_needs_a_built_layer():
    with pytest.raises(
        ValueError, match=r"`set_centers` needs a built layer\. Received: an unbuilt"
    ):
        NetVLAD(4).set_centers(normal(4, 3))


@pytest.mark.parametrize("shape", [(3, 4), (4,), (4, 3, 1)])
def test_wrong_centers(shape):
    message = r"`centers` must have shape \(4, 3\)\. Received: shape="
    with pytest.raises(ValueError, match=message):
        make_layer().set_centers(normal(*shape))


@pytest.mark.parametrize("shape", [(10, 4), (10,), (2, 5, 3), (0, 3)])
def test_wrong_descriptors(shape):
    message = r"`descriptors` must have shape \(M, 3\)(.*)\. Received: shape="
    with pytest.raises(ValueError, match=message):
        make_layer(alpha="auto").set_centers(normal(4, 3), np.zeros(shape))


@pytest.mark.addons
@pytest.mark.parametrize("num_clusters", [1, 4])
def test_equals_tensorflow_addons(num_clusters):
    from tensorflow_addons.layers import netvlad

    features = normal(2, 7, 3)
    layer = make_layer(num_clusters, normalize_input=False)
    theirs = netvlad.NetVLAD(num_clusters)
    theirs(features)
    # Their centres are (1, D, K), and they flatten channel-major.
    theirs.fc.kernel.assign(layer.kernel)
    theirs.fc.bias.assign(layer.bias)
    theirs.cluster_centers.assign(tf.transpose(layer.centers)[tf.newaxis])
    expected = tf.transpose(tf.reshape(theirs(features), (2, 3, num_clusters)), (0, 2, 1))
    np.testing.assert_allclose(layer(features), expected, rtol=1e-4, atol=1e-6)
