"""Overlap of boxes and non-maximum suppression, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from selfie.common.boxes import iou, suppress


def some_boxes(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + generator.uniform(5, 40, (count, 2))], 1)


def shared(one: np.ndarray, other: np.ndarray, of_smaller: bool = False) -> float:
    """Intersection of two boxes over their union, or over the smaller one, from the definition."""
    side = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    area = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    inside = np.prod(side) if (side > 0).all() else 0
    return inside / (min(area) if of_smaller else sum(area) - inside)


def test_iou_is_intersection_over_union_of_each_pair():
    """N x M values; whole numbers come out exact."""
    first, second = some_boxes(7, 0), some_boxes(5, 1)
    expected = [[shared(one, other) for other in second] for one in first]
    np.testing.assert_allclose(iou(first, second), expected, rtol=1e-12)
    square = np.array([[0, 0, 10, 10]])
    assert iou(square, np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]])).tolist() == [[1, 50 / 150, 0]]


@pytest.mark.parametrize("one", [[3, 3, 3, 3], [20, 20, 30, 20]])
def test_boxes_without_area_overlap_nothing(one):
    """No division by zero."""
    assert iou(np.array([one]), np.array([one, [0, 0, 9, 9]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("of_smaller", [False, True])
def test_suppression_is_the_textbook_one(of_smaller):
    """Equal to the loop over pairs, for both measures of overlap."""
    boxes, scores = some_boxes(80, 3), np.random.default_rng(4).random(80)
    keep: list[int] = []
    for one in np.argsort(-scores):
        if all(shared(boxes[one], boxes[other], of_smaller) <= 0.4 for other in keep):
            keep.append(int(one))
    assert 10 < len(keep) < 80
    assert suppress(boxes, scores, 0.4, of_smaller).tolist() == keep
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5, of_smaller).tolist() == []


def test_equal_scores_keep_their_order():
    """The first of two equal boxes stays."""
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]], float)
    assert suppress(boxes, np.ones(3), 0.5).tolist() == [0, 2]
