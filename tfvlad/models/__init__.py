"""Functional models from RGB frames to logits."""

from tfvlad.models.action_vlad import action_vlad
from tfvlad.models.assembly import head_of, intermediate_outputs
from tfvlad.models.pooling import average_pooling, max_pooling
from tfvlad.models.ta_vlad import ta_vlad

__all__ = [
    "action_vlad",
    "average_pooling",
    "head_of",
    "intermediate_outputs",
    "max_pooling",
    "ta_vlad",
]
