"""Pictures of what a model sees, as matplotlib figures."""

from tfvlad.visualization.attention import attention_figure

__all__ = ["attention_figure"]
