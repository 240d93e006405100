"""The post's before-and-after pictures: the rectangles of its best crops recovered, and compared with our net's.

Six pairs were published, each as a picture and its best crop, both drawn about 200 pixels wide, with their scores. The
crop's rectangle was not published; template matching recovers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from selfie.common import boxes, stats
from selfie.common.errors import SelfieError
from selfie.experiments import crop_space, crops
from selfie.experiments.crop_space import Space, Window
from selfie.original import figures

SMALLEST = 0.25  # side of the smallest rectangle that is looked for, relative to the picture
LEAST_CORRELATION = 0.9  # from which a rectangle counts as recovered; the published six reach 0.98 and more
ENLARGED = 512  # side to which the small published pictures are brought before our search, which wants 227 pixels
CHANCE = 1000  # random crops that show which overlap is no merit
SCORED = 200  # of them, among which our net ranks the published crop


@dataclass(frozen=True)
class Pair:
    """A published picture and its best crop.

    figure           the figure that holds both
    original, crop   (top, left, height, width) in the figure, in pixels, without the frame that was drawn around it
    scores           of original and crop, in percent
    """

    figure: str
    original: tuple[int, int, int, int]
    crop: tuple[int, int, int, int]
    scores: tuple[float, float]


PAIRS = (  # crops1.jpg was cut off on its left: the two originals there miss some two pixels
    Pair("crops1", (13, 0, 200, 198), (13, 239, 200, 200), (66.5, 69.6)),
    Pair("crops1", (13, 455, 200, 200), (13, 696, 200, 200), (53.1, 67.3)),
    Pair("crops1", (236, 0, 200, 198), (236, 240, 200, 200), (44.5, 62.8)),
    Pair("crops1", (236, 455, 200, 200), (236, 696, 200, 200), (52.0, 56.3)),
    Pair("crop2", (16, 5, 199, 198), (16, 244, 199, 199), (45.0, 58.3)),
    Pair("crop2", (16, 458, 199, 199), (16, 698, 199, 199), (45.4, 52.3)),
)


def pictures(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Cut original and best crop out of their figure, uint8 BGR; errors as of figures.find."""
    sheet = figures.load(pair.figure)
    original, crop = (
        np.ascontiguousarray(sheet[y : y + height, x : x + width]) for y, x, height, width in (pair.original, pair.crop)
    )
    return original, crop


def recover(original: np.ndarray, crop: np.ndarray) -> tuple[Window, float]:
    """Find the rectangle of `original` that `crop` shows, enlarged and perhaps squashed: (it, the two's correlation).

    Both are H x W x 3 uint8 BGR. Squares of all sizes are tried first, then each side by itself around the best.
    SelfieError if nothing fits.
    """
    big, small = (cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY) for bgr in (original, crop))
    height, width = big.shape
    square = min(height, width)
    sizes = [(side, side) for side in range(round(SMALLEST * square), square + 1, 2)]
    _, _, (h, w) = max(_match(big, small, size) for size in sizes)
    near = [(y, x) for y in range(h - 6, h + 7) for x in range(w - 6, w + 7) if 8 <= y <= height and 8 <= x <= width]
    correlation, (left, top), (h, w) = max(_match(big, small, size) for size in near)
    if correlation < LEAST_CORRELATION:
        raise SelfieError(f"the crop is not found in its original (correlation {correlation:.2f} at best)")
    return Window(left, top, w, h), correlation


def _match(big: np.ndarray, small: np.ndarray, size: tuple[int, int]) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """Place `small`, resized to `size` (height, width), where it fits `big` best: (correlation, (left, top), size)."""
    template = cv2.resize(small, size[::-1], interpolation=cv2.INTER_AREA)
    _, value, _, (left, top) = cv2.minMaxLoc(cv2.matchTemplate(big, template, cv2.TM_CCOEFF_NORMED))
    return float(value), (left, top), size


def overlap(first: Window, second: Window) -> float:
    """Return the intersection over union of two rectangles, in [0, 1]."""
    return float(boxes.iou(np.array([first.corners]), np.array([second.corners]))[0, 0])


def scaled(window: Window, x: float, y: float) -> Window:
    """Return `window` in a picture that was resized by x and y."""
    return Window(round(window.left * x), round(window.top * y), round(window.width * x), round(window.height * y))


def compare(searcher: crops.Searcher, pair: Pair, method: str = "dense") -> dict:
    """Compare one pair: their rectangle, ours, how they overlap (beside random crops), and all scores in percent.

    Rectangles are shares of the picture: left, top, width, height. Large crops overlap with everything, so the overlap
    is compared with that of random crops of any size and, iou_of_our_size, of ours at random places; their_percentile
    needs none of it: the percent of random crops that our net scores lower than the published one.
    """
    original, crop = pictures(pair)
    theirs, correlation = recover(original, crop)
    big = cv2.resize(original, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
    theirs = scaled(theirs, ENLARGED / original.shape[1], ENLARGED / original.shape[0])
    allowed = crop_space.space(big, searcher.preprocessing.crop)
    result = searcher.search(big, allowed, method)
    ours, best = result.best[0]
    anywhere = crop_space.random(allowed, CHANCE)
    chance = np.array([overlap(theirs, window) for window in anywhere])
    of_our_size = [overlap(theirs, window) for window in placed(allowed, ours.width / allowed.largest[0])]
    scored, *random_scores = searcher.exact(big, [theirs, *anywhere[:SCORED]])
    return {
        "figure": pair.figure,
        "correlation": correlation,
        "their_window": _shares(theirs),
        "our_window": _shares(ours),
        "iou": overlap(theirs, ours),
        "iou_of_random_crops": float(chance.mean()),
        "iou_of_our_size": float(np.mean(of_our_size)),
        "random_crops_that_overlap_more": float((chance > overlap(theirs, ours)).mean()),
        "their_scores": list(pair.scores),
        "their_gain": round(pair.scores[1] - pair.scores[0], 1),
        "our_scores": [100 * result.original, 100 * best],
        "our_gain": 100 * (best - result.original),
        "our_score_of_their_crop": 100 * float(scored),
        "their_percentile": float(stats.percentiles(np.array([scored]), np.array(random_scores))[0]),
    }


def placed(allowed: Space, scale: float, count: int = CHANCE, seed: int = 0) -> list[Window]:
    """Draw `count` crops of one scale at uniformly random places."""
    return [allowed.window(x, y, scale) for x, y in np.random.default_rng(seed).random((count, 2))]


def means(compared: Sequence[dict]) -> dict[str, float | int]:
    """Average overlap, rank and gain over compared pairs; theirs_above_original counts those with such a score."""
    keys = ("iou", "iou_of_random_crops", "iou_of_our_size", "their_percentile", "their_gain", "our_gain")
    above = [pair["our_score_of_their_crop"] > pair["our_scores"][0] for pair in compared]
    averages = {key: float(np.mean([pair[key] for pair in compared])) for key in keys}
    return {**averages, "theirs_above_original": sum(above), "pairs": len(compared)}


def _shares(window: Window) -> list[float]:
    """Return left, top, width and height as shares of the enlarged picture."""
    return [round(value / ENLARGED, 3) for value in (window.left, window.top, window.width, window.height)]
