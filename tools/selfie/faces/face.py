"""Detected faces: what every detector returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    x, y        upper left corner, pixels;   w, h   width and height, pixels
    score       higher is surer; from mtcnn a probability, from lbp the number of hits
    landmarks   (x, y) in pixels of left eye, right eye, nose, corners of the mouth; from mtcnn only
    """

    x: float
    y: float
    w: float
    h: float
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()


# From an H x W x 3 uint8 BGR picture to its faces, surest first.
Detector = Callable[[np.ndarray], list[Face]]
# The same of many pictures, each of which is asked for, and may be forgotten, one after the other.
ManyDetector = Callable[[Iterable[np.ndarray]], list[list[Face]]]
