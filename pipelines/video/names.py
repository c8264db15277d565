"""The names of video files."""

from __future__ import annotations

import os

VIDEO_SUFFIXES = frozenset(
    [".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"]
)


def without_video_suffix(path: str) -> str:
    """Returns the path, or name, of a video without the suffix that makes it a video file."""
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in VIDEO_SUFFIXES else path
