"""The names of the package, for the interpreter as for editors and type checkers."""

from .clips.augmentation import (
    augment_clip as augment_clip,
    crop_clip as crop_clip,
    draw_color_matrix as draw_color_matrix,
    draw_crop as draw_crop,
    fixed_crops as fixed_crops,
)
from .clips.sampling import (
    chunk_indices as chunk_indices,
    dense_windows as dense_windows,
    segment_indices as segment_indices,
    spread_clips as spread_clips,
    uniform_indices as uniform_indices,
)
from .clips.tensorflow_datasets import (
    TfdsClipSource as TfdsClipSource,
    prepare_tfds as prepare_tfds,
)
from .clips.video_clips import (
    VideoClipSource as VideoClipSource,
    clip_dataset as clip_dataset,
)
from .features.arrays import read_array as read_array
from .features.clips import FeatureClipSource as FeatureClipSource
from .features.extraction import (
    FeatureExtraction as FeatureExtraction,
    extract_features as extract_features,
)
from .features.feature_set import (
    FeatureFileInfo as FeatureFileInfo,
    FeatureSet as FeatureSet,
)
from .features.files import (
    read_features as read_features,
    read_info as read_info,
    write_features as write_features,
)
from .features.importing import import_features as import_features
from .features.row_dataset import feature_dataset as feature_dataset
from .flow.extraction import (
    FlowExtraction as FlowExtraction,
    extract_flow as extract_flow,
)
from .flow.optical_flow import (
    compute_flow as compute_flow,
    dequantize_flow as dequantize_flow,
    flow_methods as flow_methods,
    quantize_flow as quantize_flow,
)
from .lists.annotations import (
    read_csv as read_csv,
    read_folder as read_folder,
)
from .lists.broken import drop_broken as drop_broken
from .lists.charades import (
    read_charades as read_charades,
    read_charades_labels as read_charades_labels,
)
from .lists.class_lists import (
    read_class_list as read_class_list,
    read_class_names as read_class_names,
)
from .lists.listing import source_group as source_group
from .lists.official_lists import (
    read_activitynet as read_activitynet,
    read_hmdb51 as read_hmdb51,
    read_hollywood2 as read_hollywood2,
    read_ucf101 as read_ucf101,
)
from .lists.records import (
    Annotations as Annotations,
    Split as Split,
    VideoRecord as VideoRecord,
    split_validation as split_validation,
)
from .synthetic.videos import (
    make_still_images as make_still_images,
    make_synthetic_videos as make_synthetic_videos,
)
from .video.codec.decoding import (
    check_video as check_video,
    iterate_frames as iterate_frames,
    read_frames as read_frames,
)
from .video.codec.editing import (
    cut_video as cut_video,
    join_videos as join_videos,
    repeat_video as repeat_video,
)
from .video.codec.encoding import write_video as write_video
from .video.codec.live import LiveFrames as LiveFrames
from .video.codec.streaming import (
    WindowBatch as WindowBatch,
    WindowStream as WindowStream,
    estimate_num_frames as estimate_num_frames,
)
from .video.crops import Crop as Crop
from .video.frame_folders import (
    check_frame_folder as check_frame_folder,
    read_flow as read_flow,
)
from .video.index import (
    BrokenVideo as BrokenVideo,
    index_videos as index_videos,
)
from .video.info import (
    BrokenVideoError as BrokenVideoError,
    VideoInfo as VideoInfo,
)
from .video.verification import Verification as Verification, verify as verify
