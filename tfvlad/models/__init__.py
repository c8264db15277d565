"""Functional models from frames and optical flow, or from features of them, to logits."""

from tfvlad.models.action_vlad import action_vlad
from tfvlad.models.assembly import head_of, intermediate_outputs, with_num_frames
from tfvlad.models.attention_lstm import attention_lstm, feature_softmax, plain_lstm
from tfvlad.models.attributions import check_attributable, frame_attributions
from tfvlad.models.clip_model import ClipModel
from tfvlad.models.end_to_end import end_to_end
from tfvlad.models.ensemble import ensemble, is_multi_label, late_fusion
from tfvlad.models.parts import ModelParts, StreamParts, parts_of
from tfvlad.models.pooling import average_pooling, max_pooling
from tfvlad.models.ta_vlad import ta_vlad
from tfvlad.models.two_stream import two_stream

__all__ = [
    "ClipModel",
    "ModelParts",
    "StreamParts",
    "action_vlad",
    "attention_lstm",
    "average_pooling",
    "check_attributable",
    "end_to_end",
    "ensemble",
    "feature_softmax",
    "frame_attributions",
    "head_of",
    "intermediate_outputs",
    "is_multi_label",
    "late_fusion",
    "max_pooling",
    "parts_of",
    "plain_lstm",
    "ta_vlad",
    "two_stream",
    "with_num_frames",
]
