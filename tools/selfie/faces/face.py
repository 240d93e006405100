"""A detected face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass(frozen=True)
class Face:
    """One face: upper left corner, width and height in pixels; score, higher is surer (mtcnn: a probability, lbp: the
    number of hits); landmarks (x, y) of eyes, nose and corners of the mouth, from mtcnn only."""

    x: float
    y: float
    w: float
    h: float
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()


Detector = Callable[[np.ndarray], list[Face]]
