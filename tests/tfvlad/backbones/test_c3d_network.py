"""C3D against a numpy transcription of the published network, on files of both layouts."""

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers import assert_close_to_scale
from tests.tfvlad.backbones.plain_networks import (
    convolve,
    dense,
    max_pool,
    random_tensors,
    relu,
    write_keras_file,
)
from tfvlad.backbones import c3d, c3d_network
from tfvlad.backbones.published_weights import read_keras_tensors

CHANNELS = {
    "conv1": (3, 64),
    "conv2": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
MEAN_BGR = np.array([90.25, 97.66, 101.41])


def published_tensors(divisor=1, num_classes=487):
    """Random weights of the PyTorch port; a divisor makes all layers but the last narrower."""
    shapes = {
        name: (outputs // divisor, inputs // (divisor if inputs > 3 else 1), 3, 3, 3)
        for name, (inputs, outputs) in CHANNELS.items()
    }
    units = 4096 // divisor
    shapes |= {"fc6": (units, 8192 // divisor), "fc7": (units, units), "fc8": (num_classes, units)}
    return random_tensors(shapes)


def reference_forward(tensors, frames):
    """The PyTorch port's forward on one window `(16, 112, 112, 3)` of RGB frames."""
    bgr = frames[..., ::-1].astype("float64") - MEAN_BGR
    x = bgr.astype("float32").transpose(3, 0, 1, 2)
    x = max_pool(convolve(x, tensors, "conv1"), (1, 2, 2))
    x = max_pool(convolve(x, tensors, "conv2"), (2, 2, 2))
    for block in "34":
        for layer in "ab":
            x = convolve(x, tensors, f"conv{block}{layer}")
        x = max_pool(x, (2, 2, 2))
    conv5b = convolve(convolve(x, tensors, "conv5a"), tensors, "conv5b")
    pool5 = max_pool(conv5b, (2, 2, 2), padding=1)
    fc6 = relu(dense(pool5, tensors, "fc6"))
    fc7 = relu(dense(fc6, tensors, "fc7"))
    return {
        "conv5b": conv5b.mean((1, 2, 3)),
        "pool5": pool5.mean((1, 2, 3)),
        "fc6": fc6,
        "fc7": fc7,
        "fc8": dense(fc7, tensors, "fc8"),
    }


def write_file(path, tensors, **options):
    if path.suffix == ".h5":
        channels = len(tensors["conv5b.bias"])
        write_keras_file(path, tensors, map_shape=(1, 4, 4, channels), **options)
    else:
        save_file(tensors, path)
    return path


def make_frames():
    return np.random.randint(0, 256, (1, 16, 112, 112, 3)).astype("uint8")


@pytest.fixture
def narrow(monkeypatch):
    """C3D with an eighth of its channels."""
    blocks = tuple(
        tuple((name, filters // 8) for name, filters in block) for block in c3d_network._BLOCKS
    )
    monkeypatch.setattr(c3d_network, "_BLOCKS", blocks)
    monkeypatch.setattr(c3d_network, "_NUM_UNITS", 512)
    return published_tensors(divisor=8, num_classes=5)


@pytest.fixture(scope="module")
def reference():
    """Frames, and what the narrow network makes of them."""
    frames = make_frames()
    return frames, reference_forward(published_tensors(divisor=8, num_classes=5), frames[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras.h5", "torch.safetensors"])
def test_published_size_equals_the_published_definition(name, tmp_path):
    tensors = published_tensors()
    path = write_file(tmp_path / name, tensors)
    frames = make_frames()
    expected = reference_forward(tensors, frames[0])
    for layer in ("fc6", "fc8"):
        features = c3d(layer, weights=path).model(frames)[0]
        assert_close_to_scale(features, expected[layer], 1e-4)
    path.unlink()  # pytest keeps the folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("keras1.h5", {"keras": 1}),
        ("keras2.h5", {"keras": 2}),
        ("whole_model.h5", {"group": "model_weights"}),
        ("torch.safetensors", {}),
    ],
)
def test_equals_the_published_definition(name, options, narrow, reference, tmp_path):
    path = write_file(tmp_path / name, narrow, **options)
    frames, expected = reference
    # The last layer needs all that is in a file.
    for layer in expected if name == "keras2.h5" else ["fc8"]:
        extractor = c3d(layer, weights=path)
        assert extractor.num_channels == len(expected[layer])
        assert_close_to_scale(extractor.model(frames)[0], expected[layer], 1e-4)


def test_attributes(narrow):
    extractor = c3d(weights=None)
    assert extractor.name == "c3d/fc6"
    assert extractor.window_frames == 16
    assert extractor.image_size == (112, 112)
    assert extractor.num_channels == 512
    assert c3d("fc8", weights=None).num_channels == 487


def test_published_numbers_of_weights(zeros_for_weights):
    """As the summary of the Keras port prints them."""
    layers = c3d("fc8", weights=None).model.layers
    counts = [layer.count_params() for layer in layers if layer.weights]
    assert counts[:4] == [5_248, 221_312, 884_992, 1_769_728]
    assert counts[4:8] == [3_539_456, 7_078_400, 7_078_400, 7_078_400]
    assert counts[8:] == [33_558_528, 16_781_312, 1_995_239]


def test_save_and_load(narrow, tmp_path):
    model = c3d("fc7", weights=None).model
    model.save(tmp_path / "c3d.keras")
    frames = make_frames()
    loaded = keras.models.load_model(tmp_path / "c3d.keras")
    np.testing.assert_array_equal(loaded(frames), model(frames))


def test_fingerprint_tells_layers_and_weights(narrow, tmp_path):
    path = write_file(tmp_path / "torch.safetensors", narrow)
    first = c3d("fc6", weights=path).fingerprint()
    assert c3d("fc6", weights=path).fingerprint() == first
    assert c3d("fc7", weights=path).fingerprint() != first
    assert c3d("fc6", weights=None).fingerprint() != first


def test_unknown_layer():
    with pytest.raises(ValueError, match=r"`layer` must be one of conv1, .*conv5b.*fc8.*'fc9'"):
        c3d("fc9", weights="nowhere.h5")


@pytest.mark.parametrize("name", ["keras.h5", "torch.safetensors"])
def test_files_that_do_not_fit(name, narrow, tmp_path):
    separator = "/" if name.endswith("h5") else "."
    removed = {key: value for key, value in narrow.items() if not key.startswith("fc8")}
    path = write_file(tmp_path / name, removed)
    with pytest.raises(ValueError, match=rf"missing: fc8\{separator}bias, fc8.*c3d\.pickle fit"):
        c3d(weights=path)
    added = {"fc9.weight": np.zeros((3, 4), "float32"), "fc9.bias": np.zeros(3, "float32")}
    path = write_file(tmp_path / name, {**narrow, **added})
    with pytest.raises(ValueError, match=rf"not expected: fc9\{separator}bias, fc9"):
        c3d(weights=path)


def test_kernels_of_theano(narrow, tmp_path):
    path = write_file(tmp_path / "sports1M_weights_th.h5", narrow)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1/kernel:0"] = narrow["conv1.weight"]
    message = (
        r"shape: conv1/kernel \(8, 3, 3, 3, 3\) instead of \(3, 3, 3, 3, 8\).*Theano's kernels"
    )
    with pytest.raises(ValueError, match=message):
        c3d(weights=path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no weights file 'nowhere\.h5'"):
        c3d(weights="nowhere.h5")
    (tmp_path / "broken.h5").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"broken\.h5' is not an \.h5 file of weights as Keras"):
        read_keras_tensors(tmp_path / "broken.h5")
    with h5py.File(tmp_path / "keras03.h5", "w") as file:
        file["layer_0/param_0"] = np.zeros((64, 3, 3, 3, 3))
    with pytest.raises(ValueError, match=r"is not an \.h5 file .*layer_names"):
        c3d(weights=tmp_path / "keras03.h5")


def test_equals_pytorch(narrow, tmp_path):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    state = {name: torch.from_numpy(value) for name, value in narrow.items()}
    torch.save(state, tmp_path / "c3d.pickle")
    frames = make_frames()

    def layer(operation, x, name, **options):
        return operation(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    bgr = frames[..., ::-1].astype("float32") - MEAN_BGR.astype("float32")
    x = torch.from_numpy(np.ascontiguousarray(bgr.transpose(0, 4, 1, 2, 3)))
    for block, names in enumerate(
        (["conv1"], ["conv2"], ["conv3a", "conv3b"], ["conv4a", "conv4b"], ["conv5a", "conv5b"])
    ):
        for name in names:
            x = layer(functional.conv3d, x, name, padding=1).relu()
        size = (1, 2, 2) if block == 0 else 2
        x = functional.max_pool3d(x, size, size, padding=(0, 1, 1) if block == 4 else 0)
    fc6 = layer(functional.linear, x.flatten(1), "fc6").relu()
    features = c3d("fc6", weights=tmp_path / "c3d.pickle").model(frames)
    assert_close_to_scale(features, fc6.numpy(), 1e-5)
