"""Chains of convolutions and dense layers in numpy, and their weights in the published layouts."""

import h5py
import numpy as np


def random_tensors(shapes):
    """Random weights under PyTorch's names, from the shapes of the kernels `(O, I, ...)`."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]), dtype="float32")
        tensors[f"{name}.weight"] = scale * random.standard_normal(shape, "float32")
        tensors[f"{name}.bias"] = 0.1 * random.standard_normal(shape[0], "float32")
    return tensors


def channels_last_rows(kernel, map_shape):
    """A dense kernel of PyTorch, `(O, C * ...)`, as Keras has it for maps `(..., C)`."""
    *sides, channels = map_shape
    positions = np.indices(map_shape).reshape(len(map_shape), -1)
    rows = np.ravel_multi_index((positions[-1], *positions[:-1]), (channels, *sides))
    return kernel[:, rows].T


def write_keras_file(path, tensors, *, map_shape, first_dense="fc6", keras=2, group=None):
    """Writes PyTorch's tensors into an `.h5` file as Keras 1 or 2 does."""
    modules = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in tensors))
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        # Layers without weights are listed too.
        root.attrs["layer_names"] = [name.encode() for name in (*modules, "pool1")]
        root.create_group("pool1").attrs["weight_names"] = []
        for module in modules:
            kernel, bias = tensors.get(f"{module}.weight"), tensors.get(f"{module}.bias")
            if module == first_dense:
                kernel = channels_last_rows(kernel, map_shape)
            elif kernel.ndim == 2:
                kernel = kernel.T
            else:
                kernel = np.einsum("oi...->...io", kernel)
            suffixes = ("_W", "_b") if keras == 1 else ("/kernel:0", "/bias:0")
            names = [f"{module}{suffix}" for suffix in suffixes]
            layer = root.create_group(module)
            layer.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, (kernel, bias), strict=True):
                layer[name] = value


def relu(x):
    return np.maximum(x, 0)


def convolve(x, tensors, name):
    """A convolution with zeros around `(C, H, W)` or `(C, T, H, W)`, and the ReLU."""
    kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    ndim = x.ndim - 1
    padded = np.pad(x, ((0, 0), *[(1, 1)] * ndim))
    axes = tuple(range(1, ndim + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3,) * ndim, axes)
    result = np.empty((len(kernel), *x.shape[1:]), "float32")
    for row in range(x.shape[1]):  # all at once takes 27 times the memory of the map
        patches = np.moveaxis(windows[:, row], 0, ndim - 1).reshape(-1, kernel[0].size)
        result[:, row] = (kernel.reshape(len(kernel), -1) @ patches.T).reshape(
            len(kernel), *x.shape[2:]
        )
    return relu(result + bias.reshape(-1, *[1] * ndim))


def max_pool(x, sizes, padding=0):
    """The largest of every `sizes` positions; `padding` zeros go around height and width."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(padding, padding)] * 2)
    for axis, size in enumerate(sizes, start=1):
        count = x.shape[axis] // size
        x = np.take(x, range(count * size), axis)
        x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]).max(axis + 1)
    return x


def dense(x, tensors, name):
    return tensors[f"{name}.weight"] @ x.ravel() + tensors[f"{name}.bias"]
