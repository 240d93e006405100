"""The levels of MTCNN's pyramid, beside OpenCV's INTER_AREA, whose values they have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from selfie.faces import pyramid


@pytest.mark.parametrize("shape", [(360, 360), (360, 203), (241, 360), (97, 64), (36, 13)])
def test_levels_are_those_of_inter_area(shape):
    """Of noise, in which no neighbours are alike: the mean that INTER_AREA finds in double precision, rounded; where it
    lies halfway between two whole numbers, to either."""
    picture = np.random.default_rng(2015).integers(0, 256, (*shape, 3), np.uint8)
    sizes = [(-(-shape[0] * part // 100), -(-shape[1] * part // 100)) for part in (60, 50, 43, 30, 15, 6)]
    levels = pyramid.levels(picture, sizes)
    assert [level.shape for level in levels] == [(*size, 3) for size in sizes]
    for level, (height, width) in zip(levels, sizes):
        exact = cv2.resize(picture.astype(float), (width, height), interpolation=cv2.INTER_AREA)
        assert level.dtype == np.uint8
        assert np.abs(level - exact).max() < 0.501


def test_levels_of_one_shade_keep_it():
    """Weights sum to one, at the edges as well: black stays 0 and white 255, as in every picture that was cut out."""
    for shade in (0, 7, 255):
        for level in pyramid.levels(np.full((360, 271, 3), shade, np.uint8), [(154, 116), (77, 58), (14, 11)]):
            assert (level == shade).all()
