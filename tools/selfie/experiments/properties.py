"""The measurable properties of one selfie: light, noise, colour, border, sharpness, and where the face is.

All of it is measured in the square picture that the net sees. A white border is located first, and pixels are measured
inside it, so that it is not mistaken for light or contrast. Contrast, saturation and the like are measured in a picture
reduced to 64 x 64, where noise is averaged away and cannot be mistaken for them either.
"""

from __future__ import annotations

import cv2
import numpy as np

from selfie.faces.face import Face

WHITE, EVEN = 236, 14  # a border's line: least mean, largest deviation; JPEG smears the innermost one
LARGEST_BORDER = 0.35  # of a side; what is white beyond that is the picture itself
SMALL = 64
GRAY = 10  # largest difference of channels that JPEG leaves in a grey picture
THIRD = 1 / 3  # side of the face in the post's best selfies
GLARE = 225  # grey value of over-lit skin
CUT = 0.02  # a forehead is cut if the face's box begins this close to the picture's upper edge

PIXELS = ("border", "brightness", "noise", "contrast", "black_point", "saturation", "gray", "sharpness")
FACE = (
    "faces",
    "face_area",
    "head_distance",
    "head_small",
    "head_large",
    "face_aside",
    "face_height",
    "tilt",
    "forehead_cut",
    "face_glare",
)


def measure(bgr: np.ndarray, face: Face | None, count: int) -> dict[str, float | None]:
    """Measure PIXELS and FACE in a square picture (S x S x 3 uint8 BGR) with `count` faces, `face` being the largest.

    Where there is no face, all about it but `faces` is None.

    border         share of the picture that a white border covers, all around or on two opposite sides
    brightness     mean grey value in [0, 1]
    noise          log of the finest grain's deviation (Immerkaer 1996, with a median) over that of the grey values: a
                   filter that lowers the contrast lowers the grain as well, which is not less noise
    contrast       log of the grey values' deviation over their mean: more or less light alone does not change it
    black_point    2nd percentile of grey values in [0, 1]: a faded picture has no black
    saturation     mean saturation (HSV) in [0, 1]
    gray           1 if there is no colour, else 0
    sharpness      log of the power of detail of 2 to 4 pixels, noise taken off, over that of 8 to 16 pixels
    faces          number of faces
    face_area      log2 of the share of the picture that the face's box covers
    head_distance  |log2(face / third)|, where face is the box's side (root of its area)
    head_small, head_large    the two sides of that: log2 by how much the face is below or above a third, else 0
    face_aside     distance of the face's centre from the vertical middle line, in widths
    face_height    height of the face's centre above the lower edge, in heights
    tilt           angle of the line through the eyes with the horizontal, degrees >= 0; None without landmarks
    forehead_cut   1 if the face's box begins at the upper edge (of what the border leaves), else 0
    face_glare     share of the face's middle that is nearly white (grey value above GLARE)
    """
    top, bottom, left, right = border(bgr)
    inside = bgr[top : len(bgr) - bottom, left : len(bgr) - right]
    values = {"border": 1 - inside.shape[0] * inside.shape[1] / (bgr.shape[0] * bgr.shape[1]), **_pixels(inside)}
    return {**values, **dict.fromkeys(FACE), "faces": float(count), **(_face(bgr, face, top) if face else {})}


def border(bgr: np.ndarray) -> tuple[int, int, int, int]:
    """Count the lines of a white border at the top, bottom, left and right; a side counts only with its opposite."""
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.float32)
    top, bottom = _white_lines(gray), _white_lines(gray[::-1])
    if not top or not bottom:
        top = bottom = 0
    between = gray[top : len(gray) - bottom].T
    left, right = _white_lines(between), _white_lines(between[::-1])
    return (top, bottom, left, right) if left and right else (top, bottom, 0, 0)


def _white_lines(gray: np.ndarray) -> int:
    """Count the lines that are white, from the first on, and two more, where the border blends into the picture."""
    lines = gray[: int(LARGEST_BORDER * len(gray))]
    white = (lines.mean(1) > WHITE) & (lines.std(1) < EVEN)
    count = int(white.argmin()) if not white.all() else len(white)
    return min(count + 2, len(lines)) if count >= 2 else 0


def _pixels(inside: np.ndarray) -> dict[str, float]:
    """Measure PIXELS but the border, of what is inside it."""
    gray = cv2.cvtColor(inside, cv2.COLOR_BGR2GRAY).astype(np.float32)
    reduced = cv2.resize(inside, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(reduced, cv2.COLOR_BGR2GRAY).astype(np.float32)
    high, low = reduced.max(2).astype(np.float32), reduced.min(2).astype(np.float32)
    noise = _noise(gray)
    return {
        "brightness": float(gray.mean() / 255),
        "noise": float(np.log(max(noise, 0.05) / max(small.std(), 0.5))),
        "contrast": float(np.log(max(small.std(), 0.5) / max(small.mean(), 1))),
        "black_point": float(np.percentile(small, 2) / 255),
        "saturation": float(((high - low) / np.maximum(high, 1)).mean()),
        "gray": float(np.percentile(high - low, 98) < GRAY),
        "sharpness": _sharpness(gray, noise),
    }


def _noise(gray: np.ndarray) -> float:
    """Estimate the deviation of the finest grain in grey values (Immerkaer 1996, with a median for the mean)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(gray, -1, mask)[1:-1, 1:-1])) / 0.6745 / 6)


def _sharpness(gray: np.ndarray, noise: float) -> float:
    """Compare fine with coarse detail, in differences of Gaussians; `noise` is the deviation of the grain."""
    blurred = [cv2.GaussianBlur(gray, (0, 0), sigma) for sigma in (1, 2, 4, 8)]
    fine, coarse = ((a - b).var() for a, b in (blurred[:2], blurred[2:]))
    return float(np.log(max(fine - 0.05 * noise**2, 0.05) / max(coarse, 0.05)))


def _face(bgr: np.ndarray, face: Face, top: int) -> dict[str, float | None]:
    """Measure FACE but the number of faces; `top` lines of the picture are border."""
    x, y, w, h = np.array([face.x, face.y, face.w, face.h]) / len(bgr)
    size = float(np.log2(max(np.sqrt(w * h), 1e-3) / THIRD))
    return {
        "face_area": float(2 * (size + np.log2(THIRD))),
        "head_distance": abs(size),
        "head_small": max(0.0, -size),
        "head_large": max(0.0, size),
        "face_aside": float(abs(x + w / 2 - 0.5)),
        "face_height": float(1 - y - h / 2),
        "tilt": _tilt(face),
        "forehead_cut": float(y < top / len(bgr) + CUT),
        "face_glare": _glare(bgr, face),
    }


def _tilt(face: Face) -> float | None:
    """Measure the angle of the line through the eyes, degrees >= 0; None without landmarks."""
    if not face.landmarks:
        return None
    (x1, y1), (x2, y2) = face.landmarks[:2]
    return float(abs(np.degrees(np.arctan2(y2 - y1, x2 - x1))))


def _glare(bgr: np.ndarray, face: Face) -> float:
    """Measure the share of the face's middle that is nearly white, in [0, 1]."""
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    x, y = int(face.x + face.w / 4), int(face.y + face.h / 4)  # the middle of the box, without hair
    skin = gray[y : max(y + 1, int(face.y + 3 * face.h / 4)), x : max(x + 1, int(face.x + 3 * face.w / 4))]
    return float((skin > GLARE).mean())
