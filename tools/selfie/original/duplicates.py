"""The same selfie found in two figures, by its content."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SAME = 0.93  # correlation from which two tiles show the same selfie, see near_duplicates


def near_duplicates(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray] | None = None, threshold: float = SAME
) -> list[tuple[int, int]]:
    """Find the pairs (i, j), sorted, whose first[i] and second[j] show the same selfie; i < j within `first` if alone.

    Pictures are H x W x 3 uint8 BGR of any size. Compared are 32 x 32 grey thumbnails by normalised correlation, each
    whole picture of one side with the whole and with slightly smaller windows of the other, so that another size, JPEG
    quality, brightness, contrast, or a crop of 5 % does not hide a pair. Between the published best, worst and
    continuum, true pairs reach 0.99 and false ones at most 0.89; planted copies of 340 tiles (48 pixels, JPEG quality
    30, 5 % cut off at random) all reach 0.96.
    """
    others = first if second is None else second
    if not len(first) or not len(others):
        return []
    windows = [(1.0, 0.0, 0.0), *((scale, y, x) for scale in (0.95, 0.9) for y in (0, 0.5, 1) for x in (0, 0.5, 1))]
    whole_first, whole_second = _thumbnails(first, *windows[0]), _thumbnails(others, *windows[0])
    best = whole_first @ whole_second.T
    for window in windows[1:]:
        np.maximum(best, whole_first @ _thumbnails(others, *window).T, out=best)
        np.maximum(best, _thumbnails(first, *window) @ whole_second.T, out=best)
    if second is None:
        best[np.tril_indices(len(best))] = -1
    return [(int(i), int(j)) for i, j in np.argwhere(best >= threshold)]


def _thumbnails(pictures: Sequence[np.ndarray], scale: float, y: float, x: float) -> np.ndarray:
    """Cut a window out of each picture, in grey: N x 1024 float32, each row of mean 0 and length 1.

    scale   side of the window relative to the picture's
    y, x    its place in [0, 1], from the upper left to the lower right corner
    """
    side, thumb = 48, 32
    step = scale * side / thumb
    middle = [(1 - scale) * side * shift + (step - 1) / 2 for shift in (x, y)]
    window = np.array([[step, 0, middle[0]], [0, step, middle[1]]], np.float32)
    vectors = np.empty((len(pictures), thumb * thumb), np.float32)
    for vector, bgr in zip(vectors, pictures):
        gray = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (side, side), interpolation=cv2.INTER_AREA)
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1)
        vector[:] = cv2.warpAffine(
            gray, window, (thumb, thumb), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        ).ravel()
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
