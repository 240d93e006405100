"""The orientation in EXIF data, read by itself: no broken tag beside it and no prefix hides it."""

from __future__ import annotations

import re
import struct

_ORIENTATION = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I"}  # types that a tag may have -> how struct reads them
_PREFIX = b"Exif\0"  # of JPEG's segment, with one more byte; some writers put it before WebP's and PNG's, too
_RAW_PROFILE = re.compile(rb"\s*(?:exif|APP1)\s+\d+\s+([0-9a-fA-F\s]+)")


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 (upright) to 8, of EXIF data with or without the prefix; 1 where it says none."""
    if data.startswith(_PREFIX):
        data = data[len(_PREFIX) + 1 :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 10:
        return 1
    start = struct.unpack_from(order + "I", data, 4)[0]
    if not 8 <= start <= len(data) - 2:
        return 1
    count = struct.unpack_from(order + "H", data, start)[0]
    for place in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, place)
        if tag == _ORIENTATION:
            value = struct.unpack_from(order + _FORMATS[kind], data, place + 8)[0] if kind in _FORMATS else 1
            return value if 1 <= value <= 8 else 1
    return 1


def of_raw_profile(text: bytes) -> int:
    """Return the orientation of EXIF data as ImageMagick writes it into a PNG's text: a name, a length, and hex."""
    match = _RAW_PROFILE.match(text)
    digits = b"".join(match[1].split()) if match else b""
    return orientation(bytes.fromhex(digits[: len(digits) // 2 * 2].decode()))
