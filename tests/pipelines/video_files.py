"""Small videos and trees of files that the tests of this folder write for themselves."""

import os
from pathlib import Path

import av
import cv2
import numpy as np


def write_video(
    path,
    num_frames=30,
    size=(96, 64),
    codec="libx264",
    pix_fmt="yuv420p",
    gop=10,
    rate=25,
    pts=None,
):
    """Encodes a grey ramp: frame i is as bright as 20 + 3 i and a coloured corner."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": str(gop), "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for i in range(num_frames):
            image = np.full((height, width, 3), 20 + 3 * i, np.uint8)
            image[: height // 2, : width // 2] = (200, 60, 30)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if pts is None else pts[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def write_tree(root, names):
    """Makes empty files, for readers of lists, which open no video."""
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_images(folder, images, kind="img", suffix=".png"):
    """Writes numbered images of a frame folder: RGB `(H, W, 3)` or grey `(H, W)`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=1):
        path = os.path.join(folder, f"{kind}_{number:05d}{suffix}")
        cv2.imwrite(path, image if image.ndim == 2 else image[..., ::-1])
    return str(folder)


def write_flow(folder, x, y, suffix=".png"):
    """Writes the flow images of a frame folder."""
    write_images(folder, x, "flow_x", suffix)
    return write_images(folder, y, "flow_y", suffix)
