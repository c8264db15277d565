"""Files on disk -> batches of labelled clips.

Names are imported on first use; only those of `pipelines.clip_dataset`, such as `VideoClipSource`,
bring TensorFlow. The function `clip_dataset` is imported from its module, which has the same name.
"""

import importlib

_MODULES = {
    "annotations": (
        "Annotations",
        "Split",
        "VideoRecord",
        "read_csv",
        "read_folder",
        "read_hmdb51",
        "read_ucf101",
        "source_group",
        "split_validation",
    ),
    "augmentation": (
        "Crop",
        "augment_clip",
        "crop_clip",
        "draw_color_matrix",
        "draw_crop",
        "fixed_crops",
    ),
    "clip_dataset": ("VideoClipSource",),
    "clip_sampling": ("dense_windows", "segment_indices", "uniform_indices"),
    "decoding": ("BrokenVideoError", "VideoInfo", "check_video", "read_frames"),
    "synthetic": ("make_still_images", "make_synthetic_videos"),
    "video_index": ("BrokenVideo", "drop_broken", "index_videos"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipelines.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
