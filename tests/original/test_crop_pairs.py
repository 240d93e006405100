"""The published pairs of original and best crop: rectangles recovered, and how they overlap."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.experiments import crop_space, crops
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
    pair = {"iou_of_random_crops": 0.4, "iou_of_our_size": 0.3, "their_gain": 10.0, "figure": "x"}
    pairs = [
        {**pair, "iou": iou, "our_gain": gain, "their_percentile": rank, "our_scores": [60.0, 90.0]}
        for iou, gain, rank in ((0.2, 1.0, 10.0), (0.6, 5.0, 90.0))
    ]
    pairs = [{**one, "our_score_of_their_crop": score} for one, score in zip(pairs, (50.0, 61.0))]
    averages = {"iou": 0.4, "iou_of_random_crops": 0.4, "iou_of_our_size": 0.3, "their_percentile": 50}
    expected = {**averages, "their_gain": 10, "our_gain": 3, "theirs_above_original": 1, "pairs": 2}
    assert crop_pairs.means(pairs) == pytest.approx(expected)


def test_crops_of_one_size_lie_anywhere():
    """Of that size, all inside, and spread over the whole room."""
    allowed = crop_space.Space(500, 400)
    windows = crop_pairs.placed(allowed, 0.5)
    assert {(window.width, window.height) for window in windows} == {(200, 200)}
    assert np.ptp([window.left for window in windows]) > 280 and np.ptp([window.top for window in windows]) > 180
    assert all(window.corners[2] <= 500 and window.corners[3] <= 400 for window in windows)


def test_a_published_crop_is_ranked_among_random_ones(tiny_run, skimage_data, monkeypatch):
    """By our net's scores alone: the crop that the net likes best is above nearly all, the one it likes least below."""
    photo = cv2.resize(image.read(skimage_data / "astronaut.png"), (200, 200), interpolation=cv2.INTER_AREA)
    searcher = crops.Searcher(tiny_run)
    big = cv2.resize(photo, (crop_pairs.ENLARGED,) * 2, interpolation=cv2.INTER_CUBIC)
    windows = crop_space.random(crop_space.space(big, searcher.preprocessing.crop), 60, seed=9)
    order = np.argsort(searcher.exact(big, windows))
    monkeypatch.setattr(crop_pairs, "SCORED", 60)
    for place, (low, high) in ((order[0], (0, 12)), (order[-1], (88, 100))):
        window = crop_pairs.scaled(windows[place], 200 / 512, 200 / 512)
        crop = cv2.resize(window.cut(photo), (200, 200), interpolation=cv2.INTER_CUBIC)
        monkeypatch.setattr(crop_pairs, "pictures", lambda _, crop=crop: (photo, crop))
        compared = crop_pairs.compare(searcher, crop_pairs.PAIRS[0], "grid")
        assert low <= compared["their_percentile"] <= high
        assert 0 < compared["iou_of_our_size"] < 1
