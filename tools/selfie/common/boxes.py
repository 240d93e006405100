"""Axis-aligned boxes as N x 4 arrays (x1, y1, x2, y2): overlap and non-maximum suppression."""

from __future__ import annotations

import numpy as np


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `first` (N x 4) with every box of `second` (M x 4): N x M, in [0, 1].

    Boxes without area overlap nothing.
    """
    return _share(first, second, False)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """Greedy non-maximum suppression: indices of the boxes (N x 4) that are kept, best score (N) first.

    A box is dropped when its overlap with a better box that is kept exceeds `threshold`. The overlap is the
    intersection over the union, or, `of_smaller`, over the area of the smaller box. Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        order = rest[_share(boxes[best, None], boxes[rest], of_smaller)[0] <= threshold]
    return np.array(keep, int)


def _share(first: np.ndarray, second: np.ndarray, of_smaller: bool) -> np.ndarray:
    """N x M: intersection of each pair over its union, or over the smaller of the two."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    one, other = np.prod(first[:, 2:] - first[:, :2], axis=1)[:, None], np.prod(second[:, 2:] - second[:, :2], axis=1)
    whole = np.minimum(one, other) if of_smaller else one + other - common
    return np.divide(common, whole, out=np.zeros(common.shape), where=whole > 0)
