"""What a model makes of a live video up to now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tfvlad.evaluation import ClassScore, top_classes

# Smaller pictures leave no room for words.
_PICTURE_SIDE = 448
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, eq=False, repr=False)
class Moment:
    """What a model makes of a live video up to now.

    Args:
        seconds: time of the frame from the first one.
        frame: that the model has just seen, RGB, uint8 `(H, W, 3)`.
        class_names: of the C classes.
        probabilities: of the classes, `(C,)`.
        attention: where it looked, `(h, w)`; None if the model does not tell it.
        frames_per_second: that the model looks at, lately.
        num_dropped: frames that came while it was busy.
    """

    seconds: float
    frame: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    attention: np.ndarray | None
    frames_per_second: float
    num_dropped: int

    def __repr__(self) -> str:
        name, probability = self.top(1)[0]
        return f"<Moment at {self.seconds:.1f} s: {name} {100 * probability:.1f} %>"

    def top(self, k: int = 5) -> list[ClassScore]:
        """The k most probable classes, the most probable one first."""
        return top_classes(self.class_names, self.probabilities, k)

    def to_dict(self) -> dict[str, Any]:
        """The time, the most probable classes and the pace, as JSON values."""
        return {
            "seconds": round(self.seconds, 3),
            "top": [
                {"class": name, "probability": round(probability, 6)}
                for name, probability in self.top()
            ],
            "frames_per_second": round(self.frames_per_second, 2),
            "num_dropped": self.num_dropped,
        }

    def annotated(self) -> np.ndarray:
        """The frame under its attention, enlarged, and the most probable class, RGB, uint8."""
        height, width = self.frame.shape[:2]
        factor = -(-_PICTURE_SIDE // min(height, width))
        size = width * factor, height * factor
        picture = cv2.resize(self.frame, size, interpolation=cv2.INTER_LINEAR)
        if self.attention is not None:
            weights = self.attention / max(float(self.attention.max()), 1e-12)
            grey = cv2.resize((255 * weights).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
            heat = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]
            picture = cv2.addWeighted(picture, 0.6, heat, 0.4, 0)
        ((name, probability),) = self.top(1)
        text = f"{name} {100 * probability:.0f} %"
        (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        scale = min(1.0, (size[0] - 20) / text_width)
        band = round(scale * (text_height + below)) + 20
        cv2.rectangle(picture, (0, 0), (size[0], band), _BLACK, cv2.FILLED)
        place = (10, 10 + round(scale * text_height))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, 2, cv2.LINE_AA)
        return picture
