"""Small videos and trees of files that the tests of this folder write for themselves."""

from pathlib import Path

import av
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
