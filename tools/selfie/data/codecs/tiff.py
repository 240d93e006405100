"""The header of a TIFF, and its pixels where samples have 2, 4, 12 or other bits than decoders read.

Such a picture is read as another: as grey bytes, as many in a row as the samples take. So libtiff undoes the
compression, whichever it is, and the bits are taken apart here. (TIFF 6.0; BigTIFF has wider numbers.)
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

import numpy as np

from selfie.common.late import Image, cv2
from selfie.data.codecs import kinds
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_PLANES, _PREDICTOR, _COLOURS, _TILE_WIDTH, _EXTRA, _FORMAT = 284, 317, 320, 322, 338, 339
_KIND, _PAGES_INSIDE, _DNG = 254, 330, 50706  # of page, a raw picture's first one is small; Adobe's version of raw
_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892  # photometric interpretations of raw pictures
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3  # formats of samples
SIGNED = "TIFF of signed numbers is not read: save it with 8 or 16 bits"
TOO_LARGE = "TIFF that needs over 650 MB"
BEYOND = "TIFF of floating-point numbers beyond 0 to 1: save it with 8 or 16 bits"
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)
_NEEDED = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _PALETTE: 1, _RGB: 3}  # interpretation -> its samples
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha
_COMPRESSION, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 259, 273, 279, 324, 325
_LISTS = {_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
_KEPT = _LISTS | {_COMPRESSION, 266, 278, 323}  # and the order of bits, rows of a strip, of a tile
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, LZMA, Zstandard
_STRIP = 64  # rows that are taken apart at a time
_MAX_BYTES = 650_000_000
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_READ_BY_OPENCV = {1, 8, 16, 32, 64}
_MAX_TAGS = 4096
_MAX_SAMPLES, _MAX_COLOURS = 8, 3 * 256


class _Tag(NamedTuple):
    """A tag of the first page: its type, how many values it has, where they stand, and the first of them."""

    kind: int
    number: int
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
            inside = place + step - wide
            if number * struct.calcsize("=" + form) > wide:
                inside = self._numbers("Q" if self.big else "I", inside)[0]
            form *= max(1, min(number, _MAX_COLOURS if tag == _COLOURS else _MAX_SAMPLES))
            try:
                self.tags[tag] = _Tag(kind, number, inside, self._numbers(form, inside))
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
    def is_ours(self) -> bool:
        """Whether it is read here: its samples have a number of bits, a type or an order that OpenCV misreads."""
        bits, samples = self.get(_BITS, 1), self.get(_SAMPLES, 1)
        if bits not in _READ_BY_OPENCV or (bits == 1 and samples > 1):
            return True
        kind = self.get(_PHOTOMETRIC, _BLACK_IS_ZERO)
        apart = self.get(_PLANES, 1) != 1 and samples > _NEEDED.get(kind, 99)  # OpenCV and Pillow lose alpha
        return (bits >= 16 or apart) and kind in _NEEDED and self.get(_COMPRESSION, 1) in _LOSSLESS

    @property
    def is_raw(self) -> bool:
        """Whether it is a camera's raw picture, whose first page is small, or no picture yet."""
        small = self.get(_KIND, 0) & 1 and _PAGES_INSIDE in self.tags
        return bool(small) or _DNG in self.tags or self.get(_PHOTOMETRIC, 0) in (_FILTER_ARRAY, _LINEAR_RAW)

    @property
    def orientation(self) -> int:
        """Return its orientation, 1 to 8."""
        value = self.get(_ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1


def read(data: bytes) -> Header:
    """Read the header of a TIFF's first page. BadImage for a broken one."""
    page = Page(data)
    if page.is_raw:
        raise BadImage(kinds.unread(kinds.RAW))
    if page.get(_FORMAT, _UNSIGNED) == _SIGNED:
        raise BadImage(SIGNED)
    alpha = page.get(_EXTRA, 0) in (1, 2) and page.get(_SAMPLES, 1) in (2, 4)
    return Header("TIFF", page.get(_WIDTH, 0), page.get(_HEIGHT, 0), alpha=alpha)


def decode(page: Page) -> np.ndarray:
    """Decode a page that `is_ours` to H x W x 3 uint8 RGB, white under alpha, as it is stored.

    The whole range of integers, and floating-point numbers from 0 to 1, are from black to white. BadImage for what
    cannot be read.
    """
    bits, samples, kind = page.get(_BITS, 1), page.get(_SAMPLES, 1), page.get(_PHOTOMETRIC, _BLACK_IS_ZERO)
    width, height = page.get(_WIDTH, 0), page.get(_HEIGHT, 0)
    colours = page.tags[_COLOURS].values if _COLOURS in page.tags else ()
    needed, same = (
        _NEEDED.get(kind, 99),
        len(set(page.tags[_BITS].values[:samples])) < 2 if _BITS in page.tags else True,
    )
    if not (1 <= bits <= 16 or bits in (32, 64)) or not needed <= samples <= _MAX_SAMPLES or not same:
        raise BadImage(BROKEN)
    if kind == _PALETTE and len(colours) != 3 << bits:
        raise BadImage(BROKEN)
    if samples * width * height * bits > 8 * _MAX_BYTES:
        raise BadImage(TOO_LARGE)
    apart = page.get(_PLANES, 1) != 1 and samples > 1
    alpha = page.get(_EXTRA, 0) if samples > needed and kind != _PALETTE else 0
    used = needed + (alpha in (_ASSOCIATED, _UNASSOCIATED))
    planes = [_as_bytes(page, number, 1 if apart else samples) for number in range(used if apart else 1)]
    palette = np.array(colours if kind == _PALETTE else (0, 0, 0), np.uint64).reshape(3, -1).T >> np.uint64(8)
    picture = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        parts = [_samples(page, plane[top : top + _STRIP], 1 if apart else samples) for plane in planes]
        values = np.dstack(parts)[:, :, :used]
        if kind == _PALETTE:
            picture[top : top + _STRIP] = palette[values[:, :, 0]].astype(np.uint8)
            continue
        levels = _levels(values, bits)
        shades = 255 - levels[:, :, :needed] if kind == _WHITE_IS_ZERO else levels[:, :, :needed]
        picture[top : top + _STRIP] = _over_white(shades, levels[:, :, needed:], alpha)
    return picture


def _levels(values: np.ndarray, bits: int) -> np.ndarray:
    """Bring samples to 0 to 255; wide integers by their highest byte, as OpenCV does."""
    if values.dtype.kind == "f":
        if not (values.min() >= 0 and values.max() <= 1):  # or not a number
            raise BadImage(BEYOND)
        return (values * 255 + 0.5).astype(np.uint8)
    if bits >= 16:
        return (values >> (bits - 8)).astype(np.uint8)
    return (values.astype(np.uint32) * 255 // (2**bits - 1)).astype(np.uint8)


def _over_white(shades: np.ndarray, alpha: np.ndarray, kind: int) -> np.ndarray:
    """Put white behind shades, whose alpha may be multiplied into them."""
    if not alpha.shape[2]:
        return shades
    share = alpha.astype(np.uint16)
    if kind == _ASSOCIATED:
        return np.minimum(shades + (255 - share), 255).astype(np.uint8)
    return ((shades * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def _samples(page: Page, rows: np.ndarray, samples: int) -> np.ndarray:
    """Take rows x bytes apart into rows x W x samples: unsigned integers or floating-point numbers."""
    bits, width, predictor = page.get(_BITS, 1), page.get(_WIDTH, 0), page.get(_PREDICTOR, 1)
    if predictor != 1:
        rows = _without_predictor(page, rows, samples)
    if bits in (8, 16, 32, 64):
        kind = "f" if page.get(_FORMAT, _UNSIGNED) == _FLOAT else "u"
        if (kind == "f" and bits == 8) or (kind == "u" and bits == 64):
            raise BadImage(BROKEN)
        used = np.ascontiguousarray(rows[:, : width * samples * bits // 8])
        return used.view(f"{page.order}{kind}{bits // 8}").reshape(len(rows), width, samples)
    count = width * samples  # the highest bit first
    separate = np.unpackbits(rows, axis=1, count=count * bits).reshape(len(rows), count, bits).astype(np.uint16)
    return (separate @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))).reshape(len(rows), width, samples)


def _without_predictor(page: Page, rows: np.ndarray, samples: int) -> np.ndarray:
    """Add up what is stored as differences (TIFF 6.0, section 14; floating-point: Adobe's technical note 3)."""
    size, predictor = page.get(_BITS, 1) // 8, page.get(_PREDICTOR, 1)
    tile = page.get(_TILE_WIDTH, 0) or page.get(_WIDTH, 0)
    if predictor not in (2, 3) or size * 8 != page.get(_BITS, 1):
        raise BadImage(BROKEN)
    parts = np.ascontiguousarray(rows).reshape(len(rows), -1, tile * samples * size)  # each tile begins anew
    if predictor == 2:
        numbers = parts.view(f"{page.order}u{size}").reshape(*parts.shape[:2], tile, samples)
        added = np.cumsum(numbers, axis=2, dtype=f"u{size}").astype(f"{page.order}u{size}")
        return added.view(np.uint8).reshape(len(rows), -1)
    added = np.cumsum(parts.reshape(*parts.shape[:2], tile * size, samples), axis=2, dtype=np.uint8)
    planes = added.reshape(*parts.shape[:2], size, tile * samples)  # all first bytes, all second ones ...
    planes = planes if page.order == ">" else planes[:, :, ::-1]
    return np.ascontiguousarray(planes.transpose(0, 1, 3, 2)).reshape(len(rows), -1)


def _as_bytes(page: Page, plane: int, samples: int) -> np.ndarray:
    """Decompress one plane of a page to H x B uint8, its samples as they are packed: libtiff does it, as grey bytes.

    It is given the file with another directory at its end.
    """
    bits, tile, height = page.get(_BITS, 1), page.get(_TILE_WIDTH, 0), page.get(_HEIGHT, 0)
    across = -(-page.get(_WIDTH, 0) // tile) * tile if tile else page.get(_WIDTH, 0)
    row_bytes = -(-across * samples * bits // 8)
    new = {_WIDTH: row_bytes, _HEIGHT: height, _BITS: 8, _PHOTOMETRIC: _BLACK_IS_ZERO, _SAMPLES: 1, _PLANES: 1}
    new |= {_TILE_WIDTH: -(-tile * samples * bits // 8)} if tile else {}
    planes = page.get(_SAMPLES, 1) if page.get(_PLANES, 1) != 1 else 1
    wide = 8 if page.big else 4
    entries = {
        tag: struct.pack(page.order + ("HHQQ" if page.big else "HHII"), tag, 4, 1, value) for tag, value in new.items()
    }
    if page.big:  # of type 4, in the first half of 8 bytes
        entries = {tag: struct.pack(page.order + "HHQII", tag, 4, 1, value, 0) for tag, value in new.items()}
    for tag in _KEPT & set(page.tags):
        kind, count, place, _ = page.tags[tag]
        size = struct.calcsize("=" + _TYPES[kind])
        if tag in _LISTS:  # of strips or tiles: those of one plane after those of the other
            count, place = count // planes, place + plane * (count // planes) * size
        inside = page.data[place : place + count * size].ljust(wide, b"\0")
        if count * size > wide:
            inside = struct.pack(page.order + ("Q" if page.big else "I"), place)
        entries[tag] = struct.pack(page.order + ("HHQ" if page.big else "HHI"), tag, kind, count) + inside
    start = len(page.data) + len(page.data) % 2
    directory = struct.pack(page.order + ("Q" if page.big else "H"), len(entries))
    directory += b"".join(entries[tag] for tag in sorted(entries)) + bytes(wide)
    head = 8 if page.big else 4
    where = struct.pack(page.order + ("Q" if page.big else "I"), start)
    data = page.data[:head] + where + page.data[head + wide :].ljust(start - head - wide, b"\0") + directory
    rows = _gray(data)
    if rows is None or rows.shape != (height, row_bytes):
        raise BadImage(BROKEN)
    return rows


def _gray(data: bytes) -> np.ndarray | None:
    """Decode an 8-bit gray TIFF: by OpenCV, or by Pillow, which reads small tiles; None if neither can."""
    try:
        rows = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if rows is not None and rows.dtype == np.uint8:
            return rows
    except cv2.error:
        pass
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as picture:
            return np.asarray(picture) if picture.mode == "L" else None
    except Exception:  # hostile files make Pillow's parsers fail in every way there is
        return None
