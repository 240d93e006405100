"""Axis-aligned boxes: overlap and non-maximum suppression."""

from __future__ import annotations

import numpy as np


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Indices of the boxes (N x 4: x1, y1, x2, y2) that non-maximum suppression keeps, best score first.

    A box goes when it overlaps a better one that is kept by more than `threshold`: intersection over union, or over the
    smaller of the two. Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = []
    while len(order):
        first, rest = order[0], order[1:]
        keep.append(first)
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        whole = np.minimum(area[first], area[rest]) if of_smaller else area[first] + area[rest] - common
        order = rest[common <= threshold * whole]
    return np.array(keep, int)
