"""Pictures reduced to few pixels, each the mean of what it covers: the same from a photo and from any copy of it.

A pixel of a picture is a mean already, over its own extent. To average r of them, r being hardly above 1, would be to
average twice: a copy of 38 pixels would come out softer at 32 than the photo that it was made of. So the window is
narrower than r, sqrt(r^2 - 1) pixels, and slides over a cubic interpolation: variances of windows add up, and that of
one pixel and of this window is that of r pixels. At r = 1 nothing is changed; from FAR on it is the plain mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from selfie.common.late import cv2

FAR = 4  # pixels to one, from which the narrower window makes no difference
SAMPLES = 32  # places of the window at which the interpolation is read
CUBIC = -0.75  # of Keys' kernel, as OpenCV has it


def reduce(bgr: np.ndarray, width: int, height: int) -> np.ndarray:
    """Reduce an H x W x 3 uint8 picture to height x width x 3; a side that is not larger stays as it is."""
    if bgr.shape[0] <= height and bgr.shape[1] <= width:
        return bgr
    pixels: np.ndarray = bgr.astype(np.float32)
    for axis, count in enumerate((height, width)):
        side = bgr.shape[axis]
        if side >= FAR * count:
            sides = (pixels.shape[1], count) if axis == 0 else (count, pixels.shape[0])
            pixels = cv2.resize(pixels, sides, interpolation=cv2.INTER_AREA)
        elif side > count:
            pixels = np.moveaxis(np.tensordot(_weights(side, count), pixels, (1, axis)), 0, axis)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@lru_cache(64)
def _weights(side: int, count: int) -> np.ndarray:
    """Return what each of `count` pixels takes of `side` ones, a row of it each: count x side float32."""
    ratio = side / count
    window = ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5) * np.sqrt(ratio**2 - 1)
    places = (np.arange(count)[:, None] + 0.5) * ratio - 0.5 + window
    first = np.floor(places).astype(int)
    weights = np.zeros((count, side))
    for neighbour in (first - 1, first, first + 1, first + 2):
        shares = _cubic(np.abs(places - neighbour)) / SAMPLES
        np.add.at(weights, (np.arange(count)[:, None], neighbour.clip(0, side - 1)), shares)
    return weights.astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Weigh neighbours at distances of 0 to 2 pixels (Keys 1981)."""
    near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
    far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)
