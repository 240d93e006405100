"""The header of a WebP: a RIFF file whose chunks say size, alpha and orientation."""

from __future__ import annotations

import struct

from selfie.data.codecs import exif
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_MAX_CHUNKS = 10_000
_ALPHA = 0x10


def read(data: bytes) -> Header:
    """Read the header of a WebP. BadImage for what is none."""
    if data[8:12] != b"WEBP":
        raise BadImage(BROKEN)
    size, alpha, turned, place = None, False, 1, 12
    for _ in range(_MAX_CHUNKS):
        if place + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + min(length, 1 << 20)]
        if kind == b"VP8X" and len(body) >= 10:
            alpha = bool(body[0] & _ALPHA)
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"VP8 " and size is None and len(body) >= 10:
            width, height = struct.unpack_from("<HH", body, 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and len(body) >= 5:
            bits = int.from_bytes(body[1:5], "little")
            alpha = alpha or bool(bits >> 28 & 1)
            size = size or (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif kind == b"EXIF":
            turned = exif.orientation(body)
        place += 8 + length + length % 2
    if size is None:
        raise BadImage(BROKEN)
    return Header("WEBP", *size, turned, alpha)
