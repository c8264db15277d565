"""Reading of published weights, in PyTorch's and in Keras' layout, into Keras models."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

_TORCH_TENSORS = ("weight", "bias", "running_mean", "running_var")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a published file in either layout, which its suffix tells.

    Args:
        path: an `.h5` or `.hdf5` file, see `read_keras_tensors`, or a file of PyTorch or
            safetensors, see `read_torch_tensors`.
    """
    if Path(path).suffix in (".h5", ".hdf5"):
        return read_keras_tensors(path)
    return read_torch_tensors(path)


def read_keras_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the convolutions and dense layers of an `.h5` file that Keras 1 or 2 wrote.

    Args:
        path: a file of weights or of a whole model: a group for each layer, which
            `layer_names` and `weight_names` list.

    Returns:
        Float32 arrays under the names `<layer>/kernel` and `<layer>/bias`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be read or has another layout.
    """
    path = _existing_file(path)
    try:
        with h5py.File(path) as file:
            layers = file.get("model_weights", file)
            tensors = {}
            for layer in _names(layers, "layer_names"):
                for name in _names(layers[layer], "weight_names"):
                    tensor = layers[layer][name][()]
                    # The names themselves differ: `fc6_W` of Keras 1 is `fc6/kernel:0` of Keras 2.
                    kind = "kernel" if tensor.ndim > 1 else "bias"
                    tensors[f"{layer}/{kind}"] = tensor.astype("float32")
            return tensors
    except (OSError, KeyError) as error:
        raise ValueError(
            f"'{path}' is not an .h5 file of weights as Keras 1 and 2 wrote them, with the names "
            f"of its layers: {error}."
        ) from error


def read_torch_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a file of named tensors.

    Args:
        path: a `.safetensors` file, or a `.pth`, `.pt`, `.bin` or `.pickle` file of PyTorch, which
            is read with `torch.load(weights_only=True)`.

    Returns:
        The tensors as float32 arrays under their names; integers (counters) are left out.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: when the file needs PyTorch and PyTorch is not installed.
        ValueError: when the file's format is unknown or the file cannot be read.
    """
    path = _existing_file(path)
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin", ".pickle"):
        tensors = _read_torch(path)
    else:
        raise ValueError(
            f"Weights must be a .safetensors, .pth, .pt, .bin or .pickle file. Received: '{path}'."
        )
    return {
        name: tensor.astype("float32")
        for name, tensor in tensors.items()
        if not np.issubdtype(tensor.dtype, np.integer)
    }


def is_keras_layout(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether `read_tensors` found Keras' layout: PyTorch's names have no slash."""
    return any("/" in name for name in tensors)


def load_torch_weights(
    model: keras.Model, path: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Sets the weights of a model that lacks the dense layer `fc` of the published one.

    Args:
        model: a model whose layers are named as the modules of the published one.
        path: see `read_torch_tensors`.

    Returns:
        The kernel of the published dense layer `fc`, `(D, O)`, and its bias, `(O,)`.

    Raises:
        ValueError: when a tensor is missing, not expected or of another shape. Nothing is set then.
    """
    tensors = read_torch_tensors(path)
    num_classes = len(tensors.get("fc.weight", tensors.get("fc.bias", ())))
    set_weights(
        model,
        tensors,
        path=path,
        advice="Torchvision's and timm's files of the network fit.",
        other_shapes={
            "fc.weight": (num_classes, model.output_shape[-1]),
            "fc.bias": (num_classes,),
        },
    )
    return tensors["fc.weight"].T.copy(), tensors["fc.bias"]


def set_weights(
    model: keras.Model,
    tensors: Mapping[str, np.ndarray],
    *,
    path: str | os.PathLike[str],
    advice: str,
    modules: Mapping[str, str] | None = None,
    other_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Sets all weights of a model from the tensors of a published file.

    PyTorch's kernels `(outputs, inputs, ...)` become Keras' `(..., inputs, outputs)`. A dense layer
    behind a `Flatten` layer reads a map that PyTorch flattens channels first and Keras channels
    last: the rows of its kernel change places.

    Args:
        model: a model of convolutions, dense layers and batch norms.
        tensors: what `read_tensors` returned.
        path: the file, for the messages.
        advice: a sentence on the files that fit, for the messages.
        modules: from the name of a layer to its name in the file, where the two differ.
        other_shapes: the shapes of the tensors in the file that are not the model's.

    Raises:
        ValueError: when a tensor is missing, not expected or of another shape. Nothing is set then.
    """
    from_keras = is_keras_layout(tensors)
    expected = dict(other_shapes or {})
    names = {}
    for layer in model.layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        module = (modules or {}).get(layer.name, layer.name)
        if from_keras:
            names[layer.name] = [f"{module}/{kind}" for kind in ("kernel", "bias")][: len(shapes)]
        else:
            names[layer.name] = [f"{module}.{kind}" for kind in _TORCH_TENSORS[: len(shapes)]]
            shapes = [(*shape[:-3:-1], *shape[:-2]) for shape in shapes]
        expected |= dict(zip(names[layer.name], shapes, strict=True))
    _check(tensors, expected, path, advice)

    map_shape = None
    for layer in model.layers:
        weights = [tensors[name] for name in names[layer.name]]
        if isinstance(layer, keras.layers.Flatten):
            map_shape = tuple(layer.input.shape[1:])
        elif weights:
            if not from_keras:
                weights = [_from_torch(weight, map_shape) for weight in weights]
            layer.set_weights(weights)
            map_shape = None


def _from_torch(tensor: np.ndarray, map_shape: tuple[int, ...] | None) -> np.ndarray:
    if tensor.ndim == 2 and map_shape is not None:
        *sides, channels = map_shape
        maps = tensor.reshape(len(tensor), channels, *sides)
        tensor = np.moveaxis(maps, 1, -1).reshape(tensor.shape)
    return tensor.transpose(*range(2, tensor.ndim), 1, 0) if tensor.ndim > 1 else tensor


def _existing_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file '{path}'.")
    return path


def _names(group: Any, attribute: str) -> list[str]:
    names = group.attrs[attribute]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def _check(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    path: str | os.PathLike[str],
    advice: str,
) -> None:
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
            f"The weights in '{path}' are not of this network. Tensors {found}. {advice}"
        )


def _first(names: list[str], limit: int = 5) -> str:
    more = [f"and {len(names) - limit} more"] if len(names) > limit else []
    return ", ".join(names[:limit] + more)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not a readable .safetensors file: {error}.") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
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
