"""Decode a picture whose header is known, by OpenCV or whoever reads what it does not: upright, white under alpha."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np

from selfie.common.late import Image, ImageOps, cv2
from selfie.data.codecs import bmp, heif, lines, png, tiff
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header
from selfie.data.codecs.messages import Damaged, decoders

# Pillow speaks by other ways than stderr, too; what it says there is said by its exceptions.
warnings.filterwarnings("ignore", module=r"PIL\b")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

REDUCED = {  # OpenCV's names
    1: "IMREAD_COLOR",
    2: "IMREAD_REDUCED_COLOR_2",
    4: "IMREAD_REDUCED_COLOR_4",
    8: "IMREAD_REDUCED_COLOR_8",
}
_STRIP = 64  # rows that are blended at a time: intermediate values take four times the picture's memory
_PILLOW_8_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")
_TURNS = {  # EXIF's orientation -> whether rows and columns change places, and what is flipped then
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


def decode(header: Header, data: bytes, scale: int = 1) -> np.ndarray:
    """Decode to an upright H x W x 3 uint8 BGR picture; a JPEG at 1 / `scale` (1, 2, 4, 8) of its size.

    BadImage: broken or truncated; a library is missing.
    """
    try:
        return decoders.of(lambda: _decode(header, data, scale), strict=header.kind == "JPEG" and lines.suspect(data))
    except Damaged as error:
        raise BadImage(lines.cause(BROKEN, header.kind, data)) from error
    except BadImage as error:
        raise BadImage(lines.cause(str(error), header.kind, data)) from error


def _decode(header: Header, data: bytes, scale: int) -> np.ndarray:
    if header.kind in ("HEIC", "AVIF"):
        bgr = heif.decode(header.kind, data)
    elif header.kind == "BMP" and bmp.has_masks(data):
        bgr = bmp.decode(data)
    elif header.kind == "TIFF" and (page := tiff.Page(data)).is_ours:
        bgr = turned(tiff.decode(page)[:, :, ::-1], page.orientation)
    elif header.alpha and header.kind == "TIFF":
        bgr = _by_pillow(data)
    elif header.alpha:
        shade = png.transparent_shade(data) if header.kind == "PNG" else None
        bgr = _by_opencv(data, cv2.IMREAD_UNCHANGED) if shade is None else _gray_without(shade, data)
        bgr = turned(bgr, header.orientation)
    elif header.kind == "TIFF":
        bgr = _tiff(data)
    else:
        bgr = turned(_by_opencv(data, getattr(cv2, REDUCED[scale]) | cv2.IMREAD_IGNORE_ORIENTATION), header.orientation)
    bgr = np.ascontiguousarray(over_white(bgr))
    if header.frame:
        left, top, right, bottom = header.frame
        for outside in (bgr[:top], bgr[bottom:], bgr[:, :left], bgr[:, right:]):
            outside[:] = 255
    return bgr


def _tiff(data: bytes) -> np.ndarray:
    """Decode a TIFF without alpha, and turn it: by OpenCV, or by Pillow, which reads all tiles."""
    try:
        return _by_opencv(data, cv2.IMREAD_COLOR)
    except BadImage:
        return _by_pillow(data)


def _imdecoded(data: bytes, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadImage(BROKEN) from error
    if pixels is None:
        raise BadImage(BROKEN)
    return pixels


def _in_8_bits(pixels: np.ndarray) -> np.ndarray:
    return np.right_shift(pixels, 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels  # as OpenCV in colour


def _by_opencv(data: bytes, flags: int) -> np.ndarray:
    pixels = _in_8_bits(_imdecoded(data, flags))
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


def _gray_without(shade: int, data: bytes) -> np.ndarray:
    """Decode a gray PNG in which one shade is transparent, to H x W x 4 uint8 BGRA."""
    bits = data[png.DEPTH]
    gray = _imdecoded(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    alpha = np.where(gray == (shade if bits > 8 else shade * 255 // ((1 << bits) - 1)), 0, 255).astype(np.uint8)
    levels = _in_8_bits(gray)
    return np.dstack([levels, levels, levels, alpha])


def _by_pillow(data: bytes) -> np.ndarray:
    """Decode to upright H x W x 4 uint8 BGRA."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "TIFF"]) as picture:
            if picture.mode not in _PILLOW_8_BITS:  # it would cut deeper ones off at 255
                raise BadImage(BROKEN)
            rgba = np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))
    except Exception as error:  # hostile files make Pillow's parsers fail in every way there is
        raise BadImage(BROKEN) from error
    return rgba[:, :, [2, 1, 0, 3]]


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror a picture that is stored with an EXIF orientation, so that it is upright."""
    if orientation not in _TURNS:
        return pixels
    transposed, flip = _TURNS[orientation]
    if transposed:
        pixels = cv2.transpose(pixels)
    return pixels if flip is None else cv2.flip(pixels, flip)


def over_white(pixels: np.ndarray) -> np.ndarray:
    """Return H x W x 3 of H x W x 3 or 4 pixels: with white behind them, as viewers show what is transparent."""
    if pixels.shape[2] == 3:
        return pixels
    bgr, alpha = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), cv2.extractChannel(pixels, 3)
    if alpha.min() == 255:
        return bgr
    for top in range(0, len(bgr), _STRIP):
        part, share = bgr[top : top + _STRIP], alpha[top : top + _STRIP, :, None].astype(np.uint16)
        part[:] = (part * share + 255 * (255 - share) + 127) // 255
    return bgr
