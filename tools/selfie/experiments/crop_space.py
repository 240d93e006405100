"""Crops of a picture as rectangles: which are allowed, and the ways to go through them.

Crops have one aspect; `scale` is their side relative to the largest crop of that aspect in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np

from selfie.common import parallel
from selfie.common.boxes import suppress
from selfie.common.errors import SelfieError
from selfie.data import detail as details
from selfie.data import image
from selfie.data.image import Preprocessing
from selfie.faces.face import Detector

MIN_SCALE = 0.4
PASS_SIDE = 768  # pixels of the largest network input: VGG16 fills 4.2 GB with it, beside its weights


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, bgr: np.ndarray) -> np.ndarray:
        """Return the window's pixels of an H x W x 3 picture (a view)."""
        return bgr[self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2; the last two just outside."""
        return self.left, self.top, self.left + self.width, self.top + self.height


@dataclass(frozen=True)
class Space:
    """The crops of one picture that are allowed; make it with `space`, which checks it.

    width, height   of the picture, pixels
    aspect          width / height of the crops
    min_scale       of the smallest crops, in (0, 1]
    keep            part of the picture that each crop must hold, or None
    """

    width: int
    height: int
    aspect: float = 1.0
    min_scale: float = MIN_SCALE
    keep: Window | None = None

    @property
    def largest(self) -> tuple[float, float]:
        """Width and height of a crop of scale 1, pixels."""
        return min(self.width, self.height * self.aspect), min(self.height, self.width / self.aspect)

    @property
    def smallest(self) -> float:
        """The smallest scale: min_scale, unless what must be kept needs more."""
        kept = (self.keep.width, self.keep.height) if self.keep else (0, 0)
        return max(self.min_scale, *(part / whole for part, whole in zip(kept, self.largest)))

    def room(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last left, first and last top of crops of that size; first > last where there are none."""
        first, last = (0, 0), (self.width - width, self.height - height)
        if self.keep:
            x1, y1, x2, y2 = self.keep.corners
            first = max(0, x2 - width), max(0, y2 - height)
            last = min(last[0], x1), min(last[1], y1)
        return (first[0], last[0]), (first[1], last[1])

    def window(self, x: float, y: float, scale: float) -> Window:
        """Return the crop of a scale at x, y in [0, 1]: shares of the room that its left and top have."""
        width, height = (max(1, round(scale * side)) for side in self.largest)
        return self._placed(width, height, lambda first, last, share: first + share * (last - first), x, y)

    def near(self, window: Window, x: float, y: float, growth: float) -> Window:
        """Return a crop beside `window`: its centre moved by shares of its sides, its scale multiplied, inside."""
        scale = np.clip(window.width / self.largest[0] * growth, self.smallest, 1)
        width, height = (max(1, round(scale * side)) for side in self.largest)
        left = window.left + x * window.width + (window.width - width) / 2
        top = window.top + y * window.height + (window.height - height) / 2
        return self._placed(width, height, lambda first, last, wanted: float(np.clip(wanted, first, last)), left, top)

    def _placed(self, width: int, height: int, place: Callable[[int, int, float], float], x: float, y: float) -> Window:
        """Place a crop; place(first, last, x) gives its left from the first and the last possible one."""
        (left, right), (top, bottom) = self.room(width, height)
        return Window(round(place(left, right, x)), round(place(top, bottom, y)), width, height)

    def relative(self, window: Window) -> dict[str, float]:
        """x, y of the window's corner as shares of the picture, and its scale."""
        return {"x": window.left / self.width, "y": window.top / self.height, "scale": window.width / self.largest[0]}


def space(
    bgr: np.ndarray, crop: int, aspect: float = 1.0, min_scale: float = MIN_SCALE, keep: Window | None = None
) -> Space:
    """Make the space of a picture's crops for a net whose input is crop x crop pixels.

    SelfieError if the picture is smaller than that, or what must be kept leaves no crop.
    """
    height, width = bgr.shape[:2]
    if min(width, height) < crop:
        raise SelfieError(
            f"the picture has {width} x {height} pixels, less than the net's input of {crop} x "
            f"{crop}: take a larger one"
        )
    allowed = Space(width, height, aspect, min_scale, keep)
    if allowed.smallest > 1:
        raise SelfieError("the face is too large for a crop of this aspect: leave --keep-face out, or change --aspect")
    return allowed


def face(bgr: np.ndarray, detect: Detector) -> Window:
    """Find the largest face, in whole pixels. SelfieError if there is none."""
    faces = detect(bgr)
    if not faces:
        raise SelfieError("no face was found: leave --keep-face out")
    largest = max(faces, key=lambda each: each.w * each.h)
    left, top = max(0, int(largest.x)), max(0, int(largest.y))
    right = min(bgr.shape[1], int(np.ceil(largest.x + largest.w)))
    bottom = min(bgr.shape[0], int(np.ceil(largest.y + largest.h)))
    return Window(left, top, right - left, bottom - top)


# --- ways through a space --------------------------------------------------------------------------------------------


def random(allowed: Space, count: int, seed: int = 0) -> list[Window]:
    """Draw `count` crops: uniform scale, then uniform position."""
    shares = np.random.default_rng(seed).random((count, 3))
    return [allowed.window(x, y, allowed.smallest + share * (1 - allowed.smallest)) for x, y, share in shares]


def grid(allowed: Space, steps: int) -> list[Window]:
    """List all combinations of `steps` scales, lefts and tops, equally spaced; those that coincide are there once."""
    shares = np.linspace(0, 1, steps) if steps > 1 else np.array([0.5])
    return list(
        dict.fromkeys(
            allowed.window(x, y, scale)
            for scale in np.linspace(1, allowed.smallest, steps)
            for y in shares
            for x in shares
        )
    )


def distinct(windows: list[Window], scores: np.ndarray, count: int, overlap: float) -> np.ndarray:
    """Indices of the best `count` windows of which no two overlap by more than `overlap` (intersection over union)."""
    return suppress(np.array([window.corners for window in windows], float), scores, overlap)[:count]


@dataclass(frozen=True)
class Pass:
    """Windows that one forward pass of the convolutional net scores: `rows` x `columns`, one step apart."""

    first: Window  # top left
    rows: int
    columns: int
    step: tuple[int, int]  # pixels to the right, pixels down

    @property
    def windows(self) -> list[Window]:
        """The windows, row by row."""
        return [
            Window(
                self.first.left + column * self.step[0],
                self.first.top + row * self.step[1],
                self.first.width,
                self.first.height,
            )
            for row in range(self.rows)
            for column in range(self.columns)
        ]

    @property
    def region(self) -> Window:
        """All the pixels that they cover."""
        return Window(
            self.first.left,
            self.first.top,
            self.first.width + (self.columns - 1) * self.step[0],
            self.first.height + (self.rows - 1) * self.step[1],
        )


def passes(allowed: Space, width: int, height: int, steps: int, preprocessing: Preprocessing) -> list[Pass]:
    """Spread windows of one size (see level_size), `steps` to a side, over the room; none where it is empty.

    What the last step leaves over is left free on both sides: every allowed position is at most half a step away. Large
    levels are cut into several forward passes, so that memory does not depend on the picture.
    """
    step = width // steps, height // steps
    most = 1 + (PASS_SIDE - preprocessing.crop) * steps // preprocessing.size
    lefts, tops = (
        [first + (last - first) % stride // 2 + number * stride for number in range((last - first) // stride + 1)]
        for (first, last), stride in zip(allowed.room(width, height), step)
    )
    return [
        Pass(Window(left[0], top[0], width, height), len(top), len(left), step)
        for top in parallel.batches(tops, most)
        for left in parallel.batches(lefts, most)
    ]


def level_size(width: float, height: float, steps: int, size: int) -> tuple[int, int]:
    """Find the largest windows of at most that size whose steps are whole pixels, also after image.square's halving."""
    unit = steps * image.halving(int(min(width, height)), size)
    return max(1, int(width) // unit) * unit, max(1, int(height) // unit) * unit


def level(bgr: np.ndarray, part: Pass, steps: int, preprocessing: Preprocessing) -> np.ndarray:
    """Resize the picture so that each window of a pass is the square that the net's crop is cut out of.

    These are size x size pixels, with as much detail as a single window has, and size / steps pixels apart.
    """
    size, detail, region = preprocessing.size, preprocessing.detail, part.region.cut(bgr)
    sides = [size + size // steps * (count - 1) for count in (part.columns, part.rows)]
    if detail and detail <= min(part.first.width, part.first.height):
        region = details.reduce(region, *(side * detail // size for side in sides))
    else:
        region = image.reduced(region, image.halving(min(part.first.width, part.first.height), size))
    return cv2.resize(region, sides, interpolation=cv2.INTER_LINEAR)
