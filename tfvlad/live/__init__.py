"""Frames as they come -> answers: what a model makes of a live video up to now."""

from tfvlad.live.live_model import LiveModel
from tfvlad.live.moments import Moment
from tfvlad.live.streaming import initial_state, streaming_model
from tfvlad.live.watching import Watch, watch

__all__ = ["LiveModel", "Moment", "Watch", "initial_state", "streaming_model", "watch"]
