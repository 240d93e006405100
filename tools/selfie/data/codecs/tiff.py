"""The header of a TIFF, and its pixels where samples have 2, 4, 12 or other bits than decoders read.

Such a picture is read as another: as grey bytes, as many in a row as the samples take. So libtiff undoes the
compression, whichever it is, and the bits are taken apart here. (TIFF 6.0; BigTIFF has wider numbers.)
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_PLANES, _PREDICTOR, _COLOURS, _TILE_WIDTH, _EXTRA = 284, 317, 320, 322, 338
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_READ_BY_OPENCV = {1, 8, 16, 32, 64}
_MAX_TAGS = 4096
_MAX_SAMPLES, _MAX_COLOURS = 8, 3 * 256


class _Tag(NamedTuple):
    """A tag of the first page: where it stands, and its first values."""

    place: int
    values: tuple[int, ...]


class Page:
    """The tags of a TIFF's first page. BadImage for a broken file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self.tags: dict[int, _Tag] = {}
        try:
            self._read()
        except struct.error as error:
            raise BadImage(BROKEN) from error

    def _read(self) -> None:
        start = self._numbers("Q" if self.big else "I", 8 if self.big else 4)[0]
        count = self._numbers("Q" if self.big else "H", start)[0]
        first, step, wide = (start + 8, 20, 8) if self.big else (start + 2, 12, 4)
        for place in range(first, first + step * min(count, _MAX_TAGS), step):
            tag, kind, number = self._numbers("HHQ" if self.big else "HHI", place)
            form = _TYPES.get(kind)
            if form is None or tag in self.tags or tag == 0:
                continue
            form *= max(1, min(number, _MAX_COLOURS if tag == _COLOURS else _MAX_SAMPLES))
            inside = place + step - wide
            if struct.calcsize("=" + form) > wide:
                inside = self._numbers("Q" if self.big else "I", inside)[0]
            try:
                self.tags[tag] = _Tag(place, self._numbers(form, inside))
            except struct.error:  # a bad tag is no tag; the decoder decides whether it can do without
                continue

    def _numbers(self, form: str, place: int) -> tuple[int, ...]:
        if place > len(self.data):
            raise struct.error
        return struct.unpack_from(self.order + form, self.data, place)

    def get(self, tag: int, otherwise: int) -> int:
        """Return a tag's first value."""
        return self.tags[tag].values[0] if tag in self.tags else otherwise

    @property
    def odd(self) -> bool:
        """Whether its samples have a number of bits that OpenCV does not read."""
        return self.get(_BITS, 1) not in _READ_BY_OPENCV or (self.get(_BITS, 1) == 1 and self.get(_SAMPLES, 1) > 1)

    @property
    def orientation(self) -> int:
        """Return its orientation, 1 to 8."""
        value = self.get(_ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1


def read(data: bytes) -> Header:
    """Read the header of a TIFF's first page. BadImage for a broken one."""
    page = Page(data)
    alpha = page.get(_EXTRA, 0) in (1, 2) and page.get(_SAMPLES, 1) in (2, 4)
    return Header("TIFF", page.get(_WIDTH, 0), page.get(_HEIGHT, 0), alpha=alpha)


def decode(page: Page) -> np.ndarray:
    """Decode a page of odd samples to H x W x 3 uint8 RGB, as it is stored. BadImage for what cannot be read."""
    bits, samples, kind = page.get(_BITS, 1), page.get(_SAMPLES, 1), page.get(_PHOTOMETRIC, _BLACK_IS_ZERO)
    width, height, tile = page.get(_WIDTH, 0), page.get(_HEIGHT, 0), page.get(_TILE_WIDTH, 0)
    colours = page.tags[_COLOURS].values if _COLOURS in page.tags else ()
    needed = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _PALETTE: 1, _RGB: 3}.get(kind, 99)
    if not 1 <= bits <= 16 or not needed <= samples <= _MAX_SAMPLES or (page.get(_PLANES, 1) != 1 and samples > 1):
        raise BadImage(BROKEN)
    if page.get(_PREDICTOR, 1) != 1 or (kind == _PALETTE and len(colours) != 3 << bits):
        raise BadImage(BROKEN)
    across = -(-width // tile) * tile if tile else width
    rows = _as_bytes(page, -(-tile * samples * bits // 8), -(-across * samples * bits // 8))
    if rows.shape[0] != height:
        raise BadImage(BROKEN)
    palette = np.array(colours if kind == _PALETTE else (0, 0, 0), np.uint64).reshape(3, -1).T >> np.uint64(8)
    picture = np.empty((height, width, 3), np.uint8)
    for row, packed in zip(picture, rows):
        values = _unpacked(packed, bits, width * samples).reshape(width, samples)[:, :needed]
        if kind == _PALETTE:
            row[:] = palette[values[:, 0]].astype(np.uint8)
        else:
            shades = values.astype(np.uint32) * 255 // (2**bits - 1)
            row[:] = 255 - shades if kind == _WHITE_IS_ZERO else shades
    return picture


def _as_bytes(page: Page, tile_bytes: int, row_bytes: int) -> np.ndarray:
    """Decompress a page to H x row_bytes uint8: its samples as they are packed."""
    data = bytearray(page.data)
    values = {_WIDTH: row_bytes, _BITS: 8, _SAMPLES: 1, _PHOTOMETRIC: _BLACK_IS_ZERO, _ORIENTATION: 1}
    if tile_bytes:
        values[_TILE_WIDTH] = tile_bytes
    for tag, value in values.items():
        if tag in page.tags:
            form = page.order + ("HHQQ" if page.big else "HHII")
            struct.pack_into(form[:-1], data, page.tags[tag].place, tag, 4, 1)
            struct.pack_into(page.order + "I", data, page.tags[tag].place + (12 if page.big else 8), value)
    if _EXTRA in page.tags:  # a private tag instead, of which nobody knows anything
        struct.pack_into(page.order + "H", data, page.tags[_EXTRA].place, 0xFFFE)
    try:
        rows = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadImage(BROKEN) from error
    if rows is None or rows.dtype != np.uint8 or rows.ndim != 2:
        raise BadImage(BROKEN)
    return rows


def _unpacked(row: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Take a row's samples of `bits` bits apart, the highest bit first."""
    separate = np.unpackbits(row, count=count * bits).reshape(count, bits).astype(np.uint16)
    return separate @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))
