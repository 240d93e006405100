"""The header of a GIF, up to its first frame: size, and whether that frame lets what is behind it be seen."""

from __future__ import annotations

import struct

from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_EXTENSION, _FRAME, _CONTROL = 0x21, 0x2C, 0xF9
_MAX_BLOCKS = 1000  # of extensions before the first frame, and of parts in each: 255 kB of text


def read(data: bytes) -> Header:
    """Read the header of a GIF. BadImage for one without a frame."""
    if len(data) < 13:
        raise BadImage(BROKEN)
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place, transparent = 13 + _table(flags), False
    for _ in range(_MAX_BLOCKS):
        if place + 10 > len(data):
            break
        if data[place] == _FRAME:
            left, top, wide, high = struct.unpack_from("<4H", data, place + 1)
            right, bottom = left + wide, top + high
            frame = None if (left, top, right, bottom) == (0, 0, width, height) else (left, top, right, bottom)
            return Header("GIF", max(width, right), max(height, bottom), alpha=transparent, frame=frame)
        if data[place] != _EXTENSION:
            break
        if data[place + 1] == _CONTROL and data[place + 2] >= 4:
            transparent = bool(data[place + 3] & 1)
        place += 2
        for _ in range(_MAX_BLOCKS):
            if place >= len(data) or not data[place]:
                break
            place += 1 + data[place]
        place += 1
    raise BadImage(BROKEN)


def _table(flags: int) -> int:
    """Return the length of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
