"""Features and descriptors as points in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

_PCA_CHANNELS = 50
_MAX_LEGEND = 30


def embed(vectors: np.ndarray, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Embeds vectors in the plane by t-SNE, after PCA to 50 channels.

    Args:
        vectors: such as local features of feature maps, fc features, or descriptors, `(n, D)`.
        perplexity: about how many neighbours a point has; at most a third of the points are used.
        seed: of t-SNE.

    Returns:
        float32 `(n, 2)`.

    Raises:
        ValueError: when there are fewer than 4 vectors, or a value is not finite.

    Reference:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008.
    """
    vectors = np.asarray(vectors, "float32")
    if vectors.ndim != 2 or len(vectors) < 4:
        raise ValueError(
            "`vectors` must have shape (n, D) with n of 4 or more. "
            f"Received: shape={vectors.shape}."
        )
    if not np.isfinite(vectors).all():
        raise ValueError("`vectors` must be finite. Received: NaN or infinity.")
    num_channels = min(_PCA_CHANNELS, *vectors.shape)
    reduced = PCA(num_channels, svd_solver="full", random_state=seed).fit_transform(vectors)
    # PCA's own start would divide by zero where all vectors are the same.
    tsne = TSNE(
        perplexity=min(perplexity, (len(vectors) - 1) / 3), init="random", random_state=seed
    )
    return tsne.fit_transform(reduced)


def embedding_figure(points: np.ndarray, labels: Sequence[str], *, title: str = "") -> Figure:
    """Points in the plane, coloured by class or by video.

    Args:
        points: `(n, 2)`, such as `embed` returns.
        labels: name of each point's class or video, `(n,)`; the legend has up to 30 names.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the lengths differ.

    Reference:
        Girdhar et al., "ActionVLAD", poster: features coloured by video.
    """
    if points.ndim != 2 or points.shape != (len(labels), 2):
        raise ValueError(
            "`points` must have shape (n, 2) and `labels` n names. "
            f"Received: points of shape {points.shape}, {len(labels)} labels."
        )
    names = sorted(set(labels))
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    colormap = matplotlib.colormaps["tab10" if len(names) <= 10 else "gist_ncar"]
    own = np.asarray(labels)
    for number, name in enumerate(names):
        color = colormap(number if len(names) <= 10 else number / len(names))
        x, y = points[own == name].T
        axis.scatter(x, y, s=12, color=color, label=name, linewidths=0)
    axis.set(xticks=[], yticks=[], aspect="equal")
    if len(names) <= _MAX_LEGEND:
        figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure
