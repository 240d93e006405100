"""Levels of an image pyramid, each pixel the mean of the area that it covers: OpenCV's INTER_AREA, many sizes at once.

INTER_AREA takes a picture number by number, and the whole of it for each level. The mean of an area is a mean of rows
and then of columns: here the rows of all levels are one product with a sparse matrix, and INTER_AREA reduces what is
left of them. That takes a third of the time, and the sums have another order: a mean halfway between two whole numbers
may become the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def levels(picture: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Reduce an H x W x 3 uint8 picture to each of the sizes (height, width), none of them larger: uint8 as well."""
    height, width = picture.shape[:2]
    means = _means(height, tuple(rows for rows, _ in sizes))
    reduced = means @ picture.reshape(height, width * 3).astype(np.float32)
    ends = np.cumsum([rows for rows, _ in sizes])
    return [
        cv2.convertScaleAbs(  # rounds
            cv2.resize(part.reshape(len(part), width, 3), (columns, rows), interpolation=cv2.INTER_AREA)
        )
        for part, (rows, columns) in zip(np.split(reduced, ends[:-1]), sizes)
    ]


@lru_cache(512)  # as many as there are shapes of pictures
def _means(height: int, lengths: tuple[int, ...]) -> csr_matrix:
    """The matrix that reduces `height` rows to each of the lengths, one below the other: float32, with INTER_AREA's own
    weights."""
    from scipy import sparse  # a tenth of a second, which only those shall wait who look for faces

    unit = np.eye(height, dtype=np.float32)
    return sparse.csr_matrix(
        np.concatenate([cv2.resize(unit, (height, length), interpolation=cv2.INTER_AREA) for length in lengths])
    )
