"""The published pairs of original and best crop: rectangles recovered, and how they overlap."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.experiments.crop_space import Window
from selfie.original import crop_pairs


@pytest.mark.parametrize("window", [Window(12, 30, 120, 120), Window(0, 0, 90, 90), Window(60, 41, 131, 125)])
def test_a_planted_crop_is_found_again(skimage_data, window):
    """Enlarged to the size of the original, as a JPEG, at other quality: to within two pixels on each side."""
    photo = cv2.resize(image.read(skimage_data / "astronaut.png"), (200, 200), interpolation=cv2.INTER_AREA)
    crop = cv2.resize(window.cut(photo), (200, 200), interpolation=cv2.INTER_CUBIC)
    crop = cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    recovered, correlation = crop_pairs.recover(photo, crop)
    assert correlation > 0.97 and crop_pairs.overlap(recovered, window) > 0.93
    assert np.abs(np.subtract(recovered.corners, window.corners)).max() <= 2


def test_a_crop_of_another_picture_is_refused(skimage_data):
    """Better no rectangle than an invented one."""
    photo, other = (cv2.resize(image.read(skimage_data / name), (200, 200)) for name in ("astronaut.png", "coffee.png"))
    with pytest.raises(SelfieError, match="not found"):
        crop_pairs.recover(photo, other)


def test_overlap_is_intersection_over_union():
    """1 for the same, 0 for none, and a hand-computed one in between."""
    square = Window(0, 0, 10, 10)
    assert crop_pairs.overlap(square, square) == 1 and crop_pairs.overlap(square, Window(10, 0, 5, 5)) == 0
    assert crop_pairs.overlap(square, Window(5, 0, 10, 10)) == pytest.approx(50 / 150)


def test_all_published_crops_are_found_in_their_originals(published):
    """Six pairs; each crop matches its original nearly perfectly, and is smaller than it."""
    for pair in crop_pairs.PAIRS:
        original, crop = crop_pairs.pictures(pair)
        window, correlation = crop_pairs.recover(original, crop)
        assert correlation > 0.98 and window.width < 0.85 * original.shape[1]


def test_means_are_over_the_pairs():
    """Of what both sides gain and overlap, and how many pairs."""
    pairs = [
        {"iou": iou, "iou_of_random_crops": 0.4, "their_gain": 10.0, "our_gain": gain, "figure": "x"}
        for iou, gain in ((0.2, 1.0), (0.6, 5.0))
    ]
    means = crop_pairs.means(pairs)
    assert means == pytest.approx({"iou": 0.4, "iou_of_random_crops": 0.4, "their_gain": 10, "our_gain": 3, "pairs": 2})
