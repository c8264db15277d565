"""Layers: VLAD pooling, attention and temporal aggregation."""

from tfvlad import compat as _compat  # noqa: F401  (checks the backend first)
from tfvlad.layers.action_vlad import ActionVLAD
from tfvlad.layers.attention_lstm import AttentionLSTM
from tfvlad.layers.bahdanau_lstm_cell import BahdanauLSTMCell
from tfvlad.layers.channel_slice import ChannelSlice
from tfvlad.layers.descriptor_normalization import DescriptorNormalization
from tfvlad.layers.framewise_backbone import FramewiseBackbone
from tfvlad.layers.image_normalization import ImageNormalization
from tfvlad.layers.mean_score import MeanScore
from tfvlad.layers.net_vlad import NetVLAD
from tfvlad.layers.segment_pooling import SegmentPooling
from tfvlad.layers.separate_gru import SeparateGRUs
from tfvlad.layers.shared_gru import SharedGRU
from tfvlad.layers.top_down_attention import TopDownAttention

__all__ = [
    "ActionVLAD",
    "AttentionLSTM",
    "BahdanauLSTMCell",
    "ChannelSlice",
    "DescriptorNormalization",
    "FramewiseBackbone",
    "ImageNormalization",
    "MeanScore",
    "NetVLAD",
    "SegmentPooling",
    "SeparateGRUs",
    "SharedGRU",
    "TopDownAttention",
]
