"""The header of a BMP, and pixels that are given by bit masks: where in them red, green, blue and alpha stand.

OpenCV and Pillow read some masks each; the format has any.
https://learn.microsoft.com/windows/win32/gdi/bitmap-structures
"""

from __future__ import annotations

import struct

import numpy as np

from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_OS2 = 12  # bytes of the oldest header
_BITFIELDS, _ALPHA_BITFIELDS = 3, 6
_OPENCV = {  # masks that OpenCV reads by itself, of headers of 40 bytes
    16: ((0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)),
    32: ((0xFF0000, 0xFF00, 0xFF),),
}


def read(data: bytes) -> Header:
    """Read the header of a BMP. BadImage for a broken one."""
    if len(data) < 26:
        raise BadImage(BROKEN)
    length = struct.unpack_from("<I", data, 14)[0]
    width, height = struct.unpack_from("<HH" if length == _OS2 else "<ii", data, 18)
    return Header("BMP", width, abs(height))


def has_masks(data: bytes) -> bool:
    """Tell whether a BMP's pixels are given by bit masks that OpenCV does not read."""
    if len(data) < 70:
        return False
    length, _, _, _, bits, kind = struct.unpack_from("<IiiHHI", data, 14)
    if length < 40 or kind not in (_BITFIELDS, _ALPHA_BITFIELDS):
        return False
    return length > 40 or kind == _ALPHA_BITFIELDS or struct.unpack_from("<3I", data, 54) not in _OPENCV.get(bits, ())


def decode(data: bytes) -> np.ndarray:
    """Decode a BMP with bit masks to H x W x 4 uint8 BGRA. BadImage for a broken one."""
    start, length, width, height, _, bits, kind = struct.unpack_from("<IIiiHHI", data, 10)
    masks = struct.unpack_from("<4I", data, 54)
    if length < 56 and kind != _ALPHA_BITFIELDS:  # there is no fourth: the pixels begin, or another field
        masks = (*masks[:3], 0)
    stride, rows = (width * bits // 8 + 3) // 4 * 4, abs(height)
    if bits not in (16, 32) or width <= 0 or rows == 0 or start + stride * rows > len(data):
        raise BadImage(BROKEN)
    lines = np.frombuffer(data, np.uint8, stride * rows, start).reshape(rows, stride)
    pixels = np.ascontiguousarray(lines[:, : width * bits // 8]).view(f"<u{bits // 8}")
    if height > 0:  # the last row comes first
        pixels = pixels[::-1]
    red, green, blue, alpha = (_channel(pixels, mask) for mask in masks)
    if not alpha.any():  # none, or declared and never set: opaque to all viewers
        alpha = np.full_like(blue, 255)
    return np.dstack([blue, green, red, alpha])


def _channel(pixels: np.ndarray, mask: int) -> np.ndarray:
    """Return the bits of a mask as 8-bit values, their largest as 255."""
    mask &= (1 << 8 * pixels.itemsize) - 1
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    values = (pixels & pixels.dtype.type(mask)) >> pixels.dtype.type(shift)
    if largest == 255:
        return values.astype(np.uint8)
    return (values.astype(np.float32) * np.float32(255 / largest) + np.float32(0.5)).astype(np.uint8)
