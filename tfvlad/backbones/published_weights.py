"""Reading of weights published for PyTorch into Keras models, without PyTorch where possible."""

from os import PathLike
from pathlib import Path

import keras
import numpy as np

_BATCH_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


def read_torch_tensors(path: str | PathLike) -> dict[str, np.ndarray]:
    """Reads a file of named tensors.

    Args:
        path: A `.safetensors` file, or a `.pth`, `.pt` or `.bin` file of PyTorch, which is read
            with `torch.load(weights_only=True)`.

    Returns:
        The tensors as float32 arrays under their names; integers (counters) are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the file needs PyTorch and PyTorch is not installed.
        ValueError: If the file's format is unknown or the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file '{path}'.")
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin"):
        tensors = _read_torch(path)
    else:
        raise ValueError(
            f"Weights must be a .safetensors, .pth, .pt or .bin file. Received: '{path}'."
        )
    return {
        name: tensor.astype("float32")
        for name, tensor in tensors.items()
        if not np.issubdtype(tensor.dtype, np.integer)
    }


def load_torch_weights(model: keras.Model, path: str | PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Sets the weights of a model whose layers are named as the modules of the published one.

    Args:
        model: A model of convolutions without bias and batch norms.
        path: See `read_torch_tensors`.

    Returns:
        The kernel of the published dense layer `fc`, `(D, O)`, and its bias, `(O,)`.

    Raises:
        ValueError: If a tensor is missing, not expected or of another shape. Nothing is set then.
    """
    tensors = read_torch_tensors(path)
    expected: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width, inputs, outputs = layer.get_weights()[0].shape
            expected[f"{layer.name}.weight"] = (outputs, inputs, height, width)
        elif isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.get_weights()[0].shape
            expected |= {f"{layer.name}.{tensor}": shape for tensor in _BATCH_NORM_TENSORS}
    num_classes = len(tensors.get("fc.weight", tensors.get("fc.bias", ())))
    expected["fc.weight"] = (num_classes, model.output_shape[-1])
    expected["fc.bias"] = (num_classes,)
    _check(tensors, expected, path)

    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([tensors[f"{layer.name}.weight"].transpose(2, 3, 1, 0)])  # OIHW->HWIO
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([tensors[f"{layer.name}.{tensor}"] for tensor in _BATCH_NORM_TENSORS])
    return tensors["fc.weight"].T.copy(), tensors["fc.bias"]


def _check(tensors, expected, path):
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "not expected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tensors[name].shape} instead of {shape}"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    found = "; ".join(f"{kind}: {_first(names)}" for kind, names in problems.items() if names)
    if found:
        raise ValueError(
            f"The weights in '{path}' are not of this network. Tensors {found}. "
            "Torchvision's and timm's files of the network fit."
        )


def _first(names, limit=5):
    more = [f"and {len(names) - limit} more"] if len(names) > limit else []
    return ", ".join(names[:limit] + more)


def _read_safetensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not a readable .safetensors file: {error}.") from error


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading '{path}' needs PyTorch. Install it (pip install torch), or use the "
            ".safetensors file of the same weights, which does not need it."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes the unpickler raise almost anything
        raise ValueError(f"'{path}' is not a readable file of PyTorch weights: {error}.") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ValueError(
            f"'{path}' must hold a state dict, a mapping of names to tensors. "
            f"Received: {type(state).__name__}."
        )
    return {
        name: tensor.float().numpy() for name, tensor in state.items() if tensor.is_floating_point()
    }
