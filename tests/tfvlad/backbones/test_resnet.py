"""ResNets against a numpy transcription of torchvision's definition on the published layout."""

import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tfvlad.backbones import resnet18, resnet34
from tfvlad.backbones.published_weights import read_torch_tensors

NUM_UNITS = {resnet18: (2, 2, 2, 2), resnet34: (3, 4, 6, 3)}
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])


def published_tensors(make_backbone, num_classes=10):
    """Random tensors under the names and in the shapes of torchvision's and timm's files."""
    random = np.random.default_rng(0)
    tensors = {}

    def add_convolution(name, outputs, inputs, size):
        scale = np.sqrt(2 / (inputs * size**2))
        tensors[f"{name}.weight"] = random.normal(0, scale, (outputs, inputs, size, size))

    def add_batch_norm(name, channels):
        tensors[f"{name}.weight"] = random.uniform(0.5, 1.0, channels)
        tensors[f"{name}.bias"] = random.normal(0, 0.1, channels)
        tensors[f"{name}.running_mean"] = random.normal(0, 0.1, channels)
        tensors[f"{name}.running_var"] = random.uniform(0.5, 2.0, channels)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    add_convolution("conv1", 64, 3, 7)
    add_batch_norm("bn1", 64)
    inputs = 64
    for block, units in enumerate(NUM_UNITS[make_backbone]):
        outputs = 64 * 2**block
        for unit in range(units):
            name = f"layer{block + 1}.{unit}"
            add_convolution(f"{name}.conv1", outputs, inputs, 3)
            add_batch_norm(f"{name}.bn1", outputs)
            add_convolution(f"{name}.conv2", outputs, outputs, 3)
            add_batch_norm(f"{name}.bn2", outputs)
            if inputs != outputs:
                add_convolution(f"{name}.downsample.0", outputs, inputs, 1)
                add_batch_norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    tensors["fc.weight"] = random.normal(0, 0.05, (num_classes, 512))
    tensors["fc.bias"] = random.normal(0, 0.05, num_classes)
    return {
        name: tensor.astype("float32" if tensor.ndim else "int64")
        for name, tensor in tensors.items()
    }


def windows(images, size, stride, padding, fill=0.0):
    """(B, C, H, W) -> (B, C, h, w, size, size)."""
    pad = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(images, pad, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    return view[:, :, ::stride, ::stride]


def convolve(images, kernel, stride=1, padding=0):
    view = windows(images, kernel.shape[-1], stride, padding)
    return np.tensordot(view, kernel, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def reference_forward(tensors, frames, num_units):
    """Torchvision's ResNet.forward: the last sum before its ReLU, and the scores."""

    def batch_norm(x, name):
        weight, bias, mean, variance = (
            tensors[f"{name}.{tensor}"].astype("float64")[:, None, None]
            for tensor in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def relu(x):
        return np.maximum(x, 0)

    x = ((frames / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2)
    x = relu(batch_norm(convolve(x, tensors["conv1.weight"], 2, 3), "bn1"))
    x = windows(x, 3, 2, 1, fill=-np.inf).max(axis=(4, 5))
    for block, units in enumerate(num_units, start=1):
        for unit in range(units):
            name = f"layer{block}.{unit}"
            stride = 2 if block > 1 and unit == 0 else 1
            shortcut = x
            if f"{name}.downsample.0.weight" in tensors:
                shortcut = convolve(x, tensors[f"{name}.downsample.0.weight"], stride)
                shortcut = batch_norm(shortcut, f"{name}.downsample.1")
            x = convolve(x, tensors[f"{name}.conv1.weight"], stride, 1)
            x = relu(batch_norm(x, f"{name}.bn1"))
            x = convolve(x, tensors[f"{name}.conv2.weight"], 1, 1)
            pre_activation = batch_norm(x, f"{name}.bn2") + shortcut
            x = relu(pre_activation)
    scores = x.mean((2, 3)) @ tensors["fc.weight"].T + tensors["fc.bias"]
    return pre_activation.transpose(0, 2, 3, 1), scores


@pytest.fixture(scope="module")
def tensors():
    return published_tensors(resnet18)


@pytest.fixture
def weights(tensors, tmp_path):
    """Writes tensors that differ from those of ResNet-18 as told, and returns the path."""

    def write(changes=()):
        changed = {**tensors, **dict(changes)}
        path = tmp_path / "resnet.safetensors"
        save_file({name: value for name, value in changed.items() if value is not None}, path)
        return path

    return write


@pytest.mark.parametrize(
    ("make_backbone", "image_size"), [(resnet18, (47, 75)), (resnet34, (32, 64))]
)
def test_equals_torchvision_definition(make_backbone, image_size, tmp_path, zeros_for_weights):
    tensors = published_tensors(make_backbone)
    save_file(tensors, tmp_path / "model.safetensors")
    backbone = make_backbone(weights=tmp_path / "model.safetensors", image_size=image_size)
    frames = np.random.randint(0, 256, (2, *image_size, 3)).astype("uint8")
    expected, expected_scores = reference_forward(tensors, frames, NUM_UNITS[make_backbone])

    pre_activation = backbone.model(frames)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(pre_activation / scale, expected / scale, atol=1e-5)
    features = np.asarray(backbone.activation_layer()(pre_activation))
    scores = features.mean((1, 2)) @ backbone.classifier_kernel + backbone.classifier_bias
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def backbone():
    return resnet18(weights=None, image_size=64)


def test_attributes(backbone):
    assert backbone.name == "resnet18"
    assert backbone.activation == "relu"
    assert backbone.model.output_shape == (None, 2, 2, 512)
    assert backbone.classifier_kernel.shape == (512, 1000)
    assert list(backbone.blocks) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    listed = [name for block in backbone.blocks.values() for name in block]
    assert listed == [layer.name for layer in backbone.model.layers[2:]]
    assert backbone.model.layers[-1].name == "layer4.1.add"


@pytest.mark.parametrize("block", ["stem", "layer1", "layer2", "layer3", "layer4"])
def test_split(backbone, block):
    frames = np.random.randint(0, 256, (2, 64, 64, 3)).astype("float32")
    frozen_part, freed_part = backbone.split_at(block)
    np.testing.assert_allclose(
        freed_part(frozen_part(frames)), backbone.model(frames), rtol=1e-4, atol=1e-4
    )


def test_freed_block(backbone):
    backbone.set_trainable("layer4")
    names = {"0.conv1", "0.conv2", "0.downsample.0", "1.conv1", "1.conv2"}
    expected = {id(backbone.model.get_layer(f"layer4.{name}").weights[0]) for name in names}
    variables = backbone.model.trainable_variables
    assert {id(variable) for variable in variables} == expected
    assert len(variables) == len(expected)


def test_save_and_load(backbone, tmp_path):
    backbone.model.save(tmp_path / "resnet.keras")
    loaded = keras.models.load_model(tmp_path / "resnet.keras")
    frames = np.random.randint(0, 256, (2, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(frames), backbone.model(frames))


def test_missing_tensors(weights, zeros_for_weights):
    path = weights({"layer3.1.bn2.running_var": None, "fc.bias": None})
    with pytest.raises(ValueError, match=r"missing: fc.bias, layer3.1.bn2.running_var"):
        resnet18(weights=path, image_size=32)


def test_tensors_of_another_network(weights, zeros_for_weights):
    units = ("layer1.2", "layer2.2", "layer2.3")  # of ResNet-34
    names = [f"{unit}.{part}" for unit in units for part in ("conv1.weight", "bn1.bias")]
    path = weights({name: np.zeros(1, "float32") for name in names})
    with pytest.raises(
        ValueError, match=r"not expected: layer1\.2\.bn1\.bias, layer1.*, and \d+ more"
    ):
        resnet18(weights=path, image_size=32)


def test_tensors_of_another_shape(weights, zeros_for_weights):
    path = weights({"conv1.weight": np.zeros((64, 1, 7, 7), "float32")})
    message = r"of another shape: conv1.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)"
    with pytest.raises(ValueError, match=message):
        resnet18(weights=path, image_size=32)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no weights file 'nowhere\.safetensors'"):
        read_torch_tensors("nowhere.safetensors")
    for name, message in [
        ("broken.safetensors", "is not a readable .safetensors file"),
        ("model.onnx", "must be a .safetensors, .pth, .pt, .bin or .pickle file"),
    ]:
        (tmp_path / name).write_bytes(b"broken")
        with pytest.raises(ValueError, match=message):
            read_torch_tensors(tmp_path / name)


def test_half_precision_file(tmp_path):
    save_file({"weight": np.array([0.5, 2.0], "float16")}, tmp_path / "half.safetensors")
    weight = read_torch_tensors(tmp_path / "half.safetensors")["weight"]
    assert weight.dtype == "float32"
    np.testing.assert_array_equal(weight, [0.5, 2.0])


def test_pytorch_file_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ImportError, match=r"needs PyTorch. Install it .* or use the .safetensors"):
        read_torch_tensors(tmp_path / "model.pth")


def test_pytorch_file(tensors, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    torch.save(state, tmp_path / "resnet18.pth")
    read = read_torch_tensors(tmp_path / "resnet18.pth")
    assert read.keys() == {name for name in tensors if not name.endswith("num_batches_tracked")}
    for name, tensor in read.items():
        np.testing.assert_array_equal(tensor, tensors[name])
    assert resnet18(weights=tmp_path / "resnet18.pth").classifier_kernel.shape == (512, 10)


def test_pytorch_file_that_is_not_a_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="must hold a state dict"):
        read_torch_tensors(tmp_path / "checkpoint.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is not a readable file of PyTorch weights"):
        read_torch_tensors(tmp_path / "broken.pth")
