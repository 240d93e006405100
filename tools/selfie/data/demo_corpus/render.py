"""Draw the pictures of the demo corpus: the cut-out portrait before a background, lit, filtered and framed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.demo_corpus.rules import SUITS
from selfie.data.image import IMAGE_SIZE

FACELESS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "moon.png", "brick.png", "grass.png")
FACE_CENTRE, FACE_SIDE = (225.0, 115.0), 100.0  # where the LBP cascade of scikit-image sees the portrait's face
# Outline (x, y) of the portrait's head and shoulders, without the helmet under her arm: traced once with GrabCut.
_OUTLINE = """
    196 26, 156 58, 153 68, 154 92, 157 104, 169 117, 174 128, 181 133, 182 147, 153 151, 140 158, 131 167, 121 183,
    122 201, 113 204, 90 227, 76 235, 65 246, 46 278, 40 294, 39 306, 34 315, 26 342, 25 374, 19 390, 20 419,
    24 432, 23 460, 25 478, 29 493, 37 502, 39 511, 392 511, 386 440, 374 385, 362 346, 360 328, 357 323, 356 302,
    352 286, 347 282, 340 262, 319 243, 303 233, 291 199, 273 178, 257 166, 257 160, 264 149, 266 139, 275 134, 290 117,
    299 96, 299 72, 296 66, 296 58, 288 43, 276 31, 248 18, 227 16, 213 21, 205 21
"""
OUTLINE = np.array([point.split() for point in _OUTLINE.split(",")], np.int32)


def _picture(name: str) -> np.ndarray:
    """Read a picture of scikit-image's wheel as H x W x 3 uint8 BGR, straight from its folder: no pooch, no network.

    SelfieError if this version of scikit-image does not have it.
    """
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise SelfieError(f"this scikit-image has no {name} in its package: install the version in requirements.txt")
    return image.read(path)


@lru_cache(maxsize=64)
def bundled(name: str) -> np.ndarray:
    """Picture of scikit-image's wheel, reduced to at most 640 px on its longer side and kept for reuse."""
    picture = _picture(name)
    scale = min(1.0, 640 / max(picture.shape[:2]))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=64)
def _sprites() -> list[tuple[np.ndarray, np.ndarray]]:
    """The portrait in each of the SUITS colours, as (full size, half size).

    Each is H x W x 4 float32: BGR already multiplied by alpha, and alpha in [0, 1] last.
    """
    portrait, alpha = _cut_out()
    hsv = cv2.cvtColor(portrait, cv2.COLOR_BGR2HSV)
    mask = ((hsv[..., 0] < 16) & (hsv[..., 1] > 110) & (np.arange(len(hsv))[:, None] > 190)).astype(np.float32)
    orange = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
    sprites = []
    for suit in range(SUITS):
        dyed = hsv.copy()
        dyed[..., 0] = (dyed[..., 0].astype(int) + 180 * suit // SUITS) % 180
        dyed[..., 1] = np.rint(dyed[..., 1] * (0.85, 0.35)[suit % 3 == 2])  # every third suit is a pale one
        person = portrait + orange * (cv2.cvtColor(dyed, cv2.COLOR_HSV2BGR).astype(np.float32) - portrait)
        full = np.dstack([person * alpha[..., None], alpha]).astype(np.float32)
        sprites.append((full, cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    return sprites


def _cut_out() -> tuple[np.ndarray, np.ndarray]:
    """Cut the portrait out: (672 x 512 x 3 uint8 BGR, alpha 672 x 512 float32 in [0, 1]).

    The helmet under her arm is replaced by a sleeve, and the suit is made longer.
    """
    portrait = _picture("astronaut.png")
    sleeve = np.zeros_like(portrait)
    sleeve[:, :420] = portrait[:, 419::-1]  # her other arm, mirrored
    helmet = np.zeros(portrait.shape[:2], np.float32)
    cv2.circle(helmet, (390, 455), 116, 1.0, -1)
    covered = cv2.GaussianBlur(helmet, (0, 0), 2)[..., None]
    portrait = np.rint(portrait + covered * (sleeve.astype(np.float32) - portrait)).astype(np.uint8)
    alpha = np.zeros(portrait.shape[:2], np.float32)
    cv2.fillPoly(alpha, [OUTLINE], 1.0)
    # Small heads leave more of the picture below them than the portrait is long. Extend before feathering, so that no
    # soft edge runs across the suit.
    portrait, alpha = (cv2.copyMakeBorder(array, 0, 160, 0, 0, cv2.BORDER_REFLECT) for array in (portrait, alpha))
    return portrait, cv2.GaussianBlur(cv2.erode(alpha, np.ones((3, 3), np.uint8)), (0, 0), 1.4)


@lru_cache(maxsize=64)
def _noise() -> np.ndarray:
    """Standard normal noise, 512 x 512 x 3 float32; drawing it again for every picture would dominate the run time."""
    return np.random.default_rng(0).standard_normal((512, 512, 3), dtype=np.float32)


def _backdrop(name: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Background, H x W x 3 float32 BGR: part of a bundled picture or soft colours, blurred, of even brightness."""
    if name in ("gradient", "clouds"):
        cells = 2 if name == "gradient" else 6
        colours = rng.uniform(40, 215, (cells, cells, 3)).astype(np.float32)
        backdrop = cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        backdrop = _part(bundled(name), width, height, rng.uniform(0.55, 1.0), rng).astype(np.float32)
        backdrop = _times(backdrop, rng.uniform(0.75, 1.25, 3))
        backdrop = cv2.GaussianBlur(backdrop, (0, 0), rng.uniform(0.6, 3.5))
    if rng.random() < 0.5:
        backdrop = backdrop[:, ::-1]
    return rng.uniform(95, 135) + (backdrop - backdrop.mean()) * np.float32(min(1.0, 45 / max(1e-3, backdrop.std())))


def _part(picture: np.ndarray, width: int, height: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut a random window of that aspect, `share` of the largest possible size, and resize it to height x width."""
    rows, columns = picture.shape[:2]
    scale = share * min(columns / width, rows / height)
    wide, high = max(2, round(width * scale)), max(2, round(height * scale))
    left, top = rng.integers(0, columns - wide + 1), rng.integers(0, rows - high + 1)
    return cv2.resize(
        picture[top : top + high, left : left + wide],
        (width, height),
        interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR,
    )


def _paste(
    canvas: np.ndarray, x: float, y: float, face: float, tilt: float, mirror: float, suit: float, gain: float
) -> np.ndarray:
    """Paste a person into the canvas (H x W x 3 float32): face centre x, y and side in pixels, tilt in degrees.

    mirror: 0 or 1; suit: index of its colour; gain: factor of the person's brightness.
    """
    scale = face / FACE_SIDE
    half = int(scale < 0.6)  # which sprite: a large reduction by interpolation would alias
    sprite = _sprites()[int(suit)][half]
    turn = np.deg2rad(tilt)
    a, b = scale * (1 + half) * np.cos(turn), scale * (1 + half) * np.sin(turn)
    flip = -1 if mirror else 1
    matrix = np.array([[a * flip, b, 0], [-b * flip, a, 0]])
    matrix[:, 2] = (x, y) - matrix[:, :2] @ (np.array(FACE_CENTRE) / (1 + half))
    person = cv2.warpAffine(sprite, matrix, canvas.shape[1::-1], flags=cv2.INTER_LINEAR)
    uncovered = 1 - person[..., 3]
    pasted = cv2.cvtColor(person, cv2.COLOR_BGRA2BGR)
    return np.add(canvas * cv2.merge([uncovered] * 3), pasted * np.float32(gain))


def _times(picture: np.ndarray, colour: Sequence[float] | np.ndarray) -> np.ndarray:
    """Multiply a picture (H x W x 3 float32) by a colour: in whole rows, since NumPy takes long for three values."""
    height, width = picture.shape[:2]
    row = np.tile(np.array(colour, np.float32), width)
    return (picture.reshape(height, -1) * row).reshape(picture.shape)


def render(row: dict, seed: int) -> np.ndarray:
    """Draw the picture of one row of the plan, H x W x 3 uint8 BGR.

    Jitter that no column of the plan holds is drawn from (seed, number in the id).
    """
    rng = np.random.default_rng([seed, 2, int(row["id"][1:])])
    width, height = row["width"], row["height"]
    side = np.sqrt(width * height)
    if row["kind"] == "no_face":
        faceless = FACELESS[rng.integers(len(FACELESS))]
        picture = _part(bundled(faceless), width, height, rng.uniform(0.6, 1.0), rng).astype(np.float32)
    else:
        picture = _backdrop(row["background"], width, height, rng)
        main = [row["x"], row["y"], row["face"], row["tilt"], row["mirror"], row["suit"], rng.uniform(0.92, 1.08)]
        for x, y, face, *how in [*row["others"], main]:  # friends stand behind
            picture = _paste(picture, x * width, y * height, face * side, *how)
    picture = _times(picture, (1 - row["warmth"], 1, 1 + row["warmth"]))
    picture = _filter(_light(picture, row["stops"], rng), row["filter"], rng)
    if row["border"]:
        edge = round(row["border"] * min(width, height))
        picture[:edge], picture[-edge:], picture[:, :edge], picture[:, -edge:] = (rng.uniform(247, 255),) * 4
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _light(picture: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """Change the exposure by `stops` (pixel values grow as the 1/2.2 power of light); less light brings more noise."""
    height, width = picture.shape[:2]
    top, left = rng.integers(0, 512 - height + 1), rng.integers(0, 512 - width + 1)
    grain = _noise()[top : top + height, left : left + width]
    return np.clip(picture * np.float32(2 ** (stops / 2.2)) + grain * np.float32(1.5 + 3.0 * max(0.0, -stops)), 0, 255)


def _filter(picture: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """Apply one of the four kinds of filter that the post's best selfies show; 'none' changes nothing."""
    if name == "none":
        return picture
    mean = picture.mean()
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[..., None]
    if name == "faded":
        return 62 + picture * np.float32(rng.uniform(0.55, 0.65)) + np.array([6, 0, 4], np.float32)
    if name == "low_contrast":
        return mean + (picture - mean) * np.float32(rng.uniform(0.4, 0.5))
    if name == "washed_out":
        return 35 + 0.8 * (gray + (picture - gray) * np.float32(rng.uniform(0.2, 0.3)))
    return np.repeat(12 + gray * np.float32(0.95), 3, axis=2)  # black_and_white


def random_crop(picture: np.ndarray, rng: np.random.Generator, size: int = IMAGE_SIZE) -> np.ndarray:
    """Cut a turned, mirrored and recoloured window out of a picture: size x size x 3 uint8 BGR, edges reflected."""
    side = min(picture.shape[:2]) * rng.uniform(0.4, 0.95)
    angle = np.deg2rad(rng.normal(0, 15))
    centre = [rng.uniform(0.35 * side, max(0.36 * side, length - 0.35 * side)) for length in picture.shape[1::-1]]
    a, b = side / size * np.cos(angle), side / size * np.sin(angle)
    flip = rng.choice((-1, 1))
    matrix = np.array([[a * flip, -b, 0], [b * flip, a, 0]])  # from the crop to the picture
    matrix[:, 2] = centre - matrix[:, :2] @ (size / 2, size / 2)
    window = cv2.warpAffine(
        picture, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)
    if rng.random() < 0.3:
        window = np.repeat(cv2.cvtColor(window, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    window = window * rng.uniform(0.5, 1.15) * rng.uniform(0.8, 1.2, 3).astype(np.float32) + rng.uniform(-15, 25)
    return np.clip(np.rint(window), 0, 255).astype(np.uint8)
