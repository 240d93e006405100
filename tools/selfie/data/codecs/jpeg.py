"""The header of a JPEG: size, orientation, and what decoding it will take."""

from __future__ import annotations

import re

from selfie.data.codecs import exif
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

# A scan passes over the whole picture, however little it says: thousands of them in a small file decode for minutes.
# Encoders write about 10 for progressive pictures; those that search for the smallest file, up to some dozens.
MAX_SCANS = 100
MAX_SCANNED = 3_000_000_000  # scans x pixels: 3 to 8 seconds
# Bytes in which a picture of several scans is kept till the last one: 200 megapixels with colours at half the size.
MAX_COEFFICIENTS = 650_000_000
TOO_MANY_SCANS = "JPEG of too many scans"
TOO_LARGE_PROGRESSIVE = "progressive JPEG that needs over 650 MB"

DEEP = "JPEG of more than 8 bits is not read: convert it to JPEG or PNG of 8 bits"
RARE = "JPEG of a rare kind (lossless, hierarchical or JPEG-LS) is not read: convert it to JPEG or PNG"

_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_LOSSLESS, _JPEG_LS = 0xC3, 0xF7
_HIERARCHICAL = {0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]", re.DOTALL)  # of a segment, or of the end; libjpeg skips others
_MAX_SEGMENTS = 100_000  # 1000 times as many as the largest profiles and notes take


def read(data: bytes) -> Header:
    """Read the header of a JPEG, without its pixels. BadImage for a broken one and for one that takes too long."""
    place, frame, orientation = 2, None, None
    for _ in range(_MAX_SEGMENTS):
        marker, place = _marker(data, place)
        if marker in (_SOI, _EOI):
            raise BadImage(BROKEN)
        end = _end(data, place)
        if marker == _APP1 and orientation is None and data[place + 2 : place + 7] == b"Exif\0":
            orientation = exif.orientation(data[place + 2 : end])
        elif marker in _HIERARCHICAL or marker == _JPEG_LS:
            raise BadImage(RARE)
        elif marker in _FRAMES and frame is None:
            frame = marker, data[place + 2 : end]
        elif marker == _SOS:
            break
        place = end
    if marker != _SOS or end - place < 3 or frame is None or len(frame[1]) < 6:
        raise BadImage(BROKEN)
    kind, body = frame
    if body[0] > 8:
        raise BadImage(DEEP)
    if kind == _LOSSLESS and body[5] == 1:  # in gray; in colour libjpeg reads them
        raise BadImage(RARE)
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    header = Header("JPEG", width, height, orientation or 1)
    if kind in _PROGRESSIVE or data[place + 2] < body[5]:
        _check_scans(data, place, header, body)
    return header


def _marker(data: bytes, place: int) -> tuple[int, int]:
    """Return the next marker from `place` on and where its segment begins. BadImage where there is none."""
    match = _MARKER.search(data, place)
    if match is None:
        raise BadImage(BROKEN)
    return match[0][1], match.end()


def _end(data: bytes, place: int) -> int:
    """Return where the segment ends whose length stands at `place`; BadImage for one that ends beyond the file."""
    length = int.from_bytes(data[place : place + 2], "big")
    if length < 2 or place + length > len(data):
        raise BadImage(BROKEN)
    return place + length


def _check_scans(data: bytes, first: int, header: Header, frame: bytes) -> None:
    """Raise BadImage for a picture of several scans that takes too much memory or time; `first` is in its first one."""
    components = [frame[6 + 3 * number : 9 + 3 * number] for number in range(frame[5])]
    sampling = [(each[1] >> 4) * (each[1] & 15) for each in components if len(each) == 3]
    samples = header.pixels * sum(sampling) / max([1, *sampling])
    if 2 * samples > MAX_COEFFICIENTS:
        raise BadImage(TOO_LARGE_PROGRESSIVE)
    most = min(MAX_SCANS, max(20, MAX_SCANNED // max(1, header.pixels)))
    # Counting bytes is quick, but other segments, and what follows the picture, can hold the same two.
    if data.count(b"\xff\xda", first) >= most and _scans(data, first, most) > most:
        raise BadImage(TOO_MANY_SCANS)


def _scans(data: bytes, place: int, most: int) -> int:
    """Count the scans from the first one's segment at `place` on, up to `most` and one more."""
    count = 1
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, place)
        if match is None or match[0][1] == _EOI or count > most:
            return count
        place = match.end()
        count += match[0][1] == _SOS
        length = int.from_bytes(data[place : place + 2], "big")
        place += length if length >= 2 else 0
    raise BadImage(TOO_MANY_SCANS)
