"""The boxes of HEIC and AVIF files, as far as they say how large pictures are, and of how many tiles.

ISO/IEC 14496-12 (boxes) and 23008-12 (ispe: a picture's size; ipma: whose it is; iref and dimg: a picture's tiles).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from selfie.data.codecs.errors import BROKEN, BadImage

_HOLDERS = {b"meta": 4, b"iref": 4, b"iprp": 0, b"ipco": 0}  # boxes that hold boxes -> bytes before these
_MAX_BOXES = 20_000
_MAX_BODY = 1 << 18  # bytes of a box that are looked at
_MAX_LISTED = 1 << 22  # bytes of all boxes that are lists: each is walked through


class Items(NamedTuple):
    """The pictures in a file.

    largest   width, height of the largest
    areas     item's number -> its pixels
    tiles     item's number -> the numbers of those that it is made of
    """

    largest: tuple[int, int]
    areas: dict[int, int]
    tiles: dict[int, tuple[int, ...]]


def items(data: bytes) -> Items:
    """Read which pictures a file holds. BadImage where its boxes are none."""
    sizes: list[tuple[int, int]] = []  # of all properties, in order; (0, 0) for those that are no size
    owned: dict[int, list[int]] = {}
    tiles: dict[int, tuple[int, ...]] = {}
    listed = 0
    wide = False  # whether items' numbers have 4 bytes in references
    try:
        for parent, name, body in _boxes(data):
            if parent == b"ipco":
                sizes.append(struct.unpack_from(">II", body, 4) if name == b"ispe" else (0, 0))
            elif name == b"ipma":
                listed += len(body)
                owned.update(_associations(body))
            elif name == b"iref":
                wide = body[0] > 0
            elif name == b"dimg":
                listed += len(body)
                item, count = struct.unpack_from(">IH" if wide else ">HH", body)
                tiles[item] = struct.unpack_from(f">{count}{'I' if wide else 'H'}", body, 6 if wide else 4)
            if listed > _MAX_LISTED:
                raise BadImage(BROKEN)
    except (struct.error, IndexError) as error:
        raise BadImage(BROKEN) from error
    areas = {
        item: max((sizes[number][0] * sizes[number][1] for number in numbers if number < len(sizes)), default=0)
        for item, numbers in owned.items()
    }
    return Items(max(sizes, key=lambda size: size[0] * size[1], default=(0, 0)), areas, tiles)


def _associations(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield (item's number, its properties' numbers from 0 on) of an ipma box."""
    number, wide = ("I" if body[0] else "H"), body[3] & 1
    place = 8
    for _ in range(struct.unpack_from(">I", body, 4)[0]):
        item, count = struct.unpack_from(f">{number}B", body, place)
        place += struct.calcsize(f">{number}B")
        values = struct.unpack_from(f">{count}{'H' if wide else 'B'}", body, place)
        place += count * (2 if wide else 1)
        yield item, [(value & (0x7FFF if wide else 0x7F)) - 1 for value in values if value & (0x7FFF if wide else 0x7F)]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (the holder's name, name, content) of all boxes, those in boxes, too. BadImage where lengths are none."""
    pending, count = [(b"", 0, len(data))], 0
    while pending:
        parent, place, end = pending.pop()
        while place + 8 <= end:
            length, name = struct.unpack_from(">I4s", data, place)
            start = place + 8
            if length == 1:
                length, start = struct.unpack_from(">Q", data, start)[0], place + 16
            elif length == 0:  # to the end
                length = end - place
            count += 1
            if length < start - place or count > _MAX_BOXES:
                raise BadImage(BROKEN)
            stop = min(end, place + length)
            yield parent, name, data[start : min(stop, start + _MAX_BODY)]
            if name in _HOLDERS:
                pending.append((name, start + _HOLDERS[name], stop))
            place = stop
