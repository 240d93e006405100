"""Axis-aligned boxes as N x 4 arrays (x1, y1, x2, y2): overlap and non-maximum suppression."""

from __future__ import annotations

import numpy as np

BLOCK = 128  # boxes that are compared with each other at once


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
    if len(scores) < 2:
        return np.arange(len(scores))
    order = np.argsort(-scores, kind="stable")
    boxes, left = boxes[order], np.arange(len(order))
    keep = [left[:0]]
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        fine = _share(boxes[block], boxes[block], of_smaller) <= threshold
        free, chosen = np.ones(len(block), bool), []
        for place in range(len(block)):
            if free[place]:
                chosen.append(place)
                free &= fine[place]
        keep.append(block[chosen])
        if len(left):
            left = left[(_share(boxes[block[chosen]], boxes[left], of_smaller) <= threshold).all(0)]
    return order[np.concatenate(keep)]


def _share(first: np.ndarray, second: np.ndarray, of_smaller: bool) -> np.ndarray:
    """N x M: intersection of each pair over its union, or over the smaller of the two."""
    sides = [
        np.minimum(first[:, None, axis + 2], second[:, axis + 2]) - np.maximum(first[:, None, axis], second[:, axis])
        for axis in (0, 1)
    ]
    common = np.clip(sides[0], 0, None) * np.clip(sides[1], 0, None)
    one, other = np.prod(first[:, 2:] - first[:, :2], axis=1)[:, None], np.prod(second[:, 2:] - second[:, :2], axis=1)
    whole = np.minimum(one, other) if of_smaller else one + other - common
    return np.divide(common, whole, out=np.zeros(common.shape), where=whole > 0)
