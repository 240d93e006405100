"""Boxes, windows and landmarks of MTCNN; boxes are N x 4 (x1, y1, x2, y2), and the first axis of a picture is x."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from selfie.faces.face import Face


def moved(boxes: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Move each side of N x 4 boxes by its regression, a share of the box's width or height."""
    return boxes + move * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def square(boxes: np.ndarray) -> np.ndarray:
    """The smallest squares around the boxes, about the same centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], 1)


def window(picture: np.ndarray, box: Sequence[int], size: int) -> np.ndarray:
    """Cut a box (whole pixels) out of the picture (first axis x), black beyond its edges, and resize it."""
    x1, y1, x2, y2 = box
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    left, top = max(x1, 0), max(y1, 0)
    cut = picture[left : max(x2, 0), top : max(y2, 0)]
    if cut.shape[:2] != (x2 - x1, y2 - y1):
        inside, cut = cut, np.zeros((x2 - x1, y2 - y1, 3), np.uint8)
        cut[left - x1 : left - x1 + inside.shape[0], top - y1 : top - y1 + inside.shape[1]] = inside
    return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if x2 - x1 > size else cv2.INTER_LINEAR)


def landmarks(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Landmarks N x 5 x (x, y) in pixels from det3's ten outputs: five x, then five y, as shares of the input box."""
    relative = np.stack([points[:, :5], points[:, 5:]], 2)
    return boxes[:, None, :2] + relative * (boxes[:, 2:] - boxes[:, :2])[:, None]


def face(box: np.ndarray, score: float, points: np.ndarray, width: int, height: int) -> Face:
    """Make a Face of a box (x1, y1, x2, y2), clipped to the picture."""
    x1, y1 = np.clip(box[:2], 0, (width, height))
    x2, y2 = np.clip(box[2:], 0, (width, height))
    return Face(
        float(x1),
        float(y1),
        float(x2 - x1),
        float(y2 - y1),
        float(score),
        tuple((float(x), float(y)) for x, y in points),
    )
