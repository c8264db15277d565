"""Files on disk -> batches of labelled clips.

Names are imported on first use; only the clip sources bring TensorFlow.
The function `clip_dataset` is imported from its module, which has the same name.
"""

import lazy_loader

_MODULES = {
    "annotations": ("read_csv", "read_folder"),
    "augmentation": (
        "Crop",
        "augment_clip",
        "crop_clip",
        "draw_color_matrix",
        "draw_crop",
        "fixed_crops",
    ),
    "charades": ("read_charades", "read_charades_labels"),
    "class_lists": ("read_class_list", "read_class_names"),
    "clip_dataset": ("VideoClipSource",),
    "clip_sampling": (
        "chunk_indices",
        "dense_windows",
        "segment_indices",
        "spread_clips",
        "uniform_indices",
    ),
    "decoding": ("check_video", "iterate_frames", "read_frames"),
    "encoding": ("cut_video", "join_videos", "repeat_video", "write_video"),
    "features.clips": ("FeatureClipSource",),
    "features.extraction": ("extract_features",),
    "features.files": ("feature_dataset", "read_features", "read_info", "write_features"),
    "features.feature_set": ("FeatureFileInfo", "FeatureSet"),
    "flow_extraction": ("extract_flow",),
    "frame_folders": ("check_frame_folder", "read_flow"),
    "listing": ("source_group",),
    "live": ("LiveFrames",),
    "official_lists": ("read_activitynet", "read_hmdb51", "read_hollywood2", "read_ucf101"),
    "optical_flow": ("compute_flow", "dequantize_flow", "flow_methods", "quantize_flow"),
    "records": ("Annotations", "Split", "VideoRecord", "split_validation"),
    "streaming": ("WindowBatch", "WindowStream", "estimate_num_frames"),
    "synthetic": ("make_still_images", "make_synthetic_videos"),
    "tensorflow_datasets": ("TfdsClipSource", "prepare_tfds"),
    "video_index": ("BrokenVideo", "drop_broken", "index_videos"),
    "video_info": ("BrokenVideoError", "VideoInfo"),
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_MODULES)
