"""The header of a PNG: its chunks are walked through before a decoder believes their lengths."""

from __future__ import annotations

import re
import struct
import zlib

from selfie.data.codecs import exif, lines
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

DEPTH, COLOUR_TYPE = 24, 25  # places of the bytes that say how many bits a sample has, and what samples are
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CONVERTED = re.compile(rb"\x89PNG[\r\n]+\x1a?[\r\n]+")  # what the signature becomes where line ends do
MAX_CHUNKS = 100_000  # of the smallest size that encoders write, 4096 bytes, twice as many as in the largest file
TOO_MANY_CHUNKS = "PNG of too many chunks"
OF_APPS = "PNG of an iOS app (CgBI) is not read: convert it to PNG, with Xcode's pngcrush for example"
_LARGEST_EXIF = 1 << 20
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_NO_PIXELS = {*_TEXTS, b"iCCP", b"eXIf"}  # chunks of any length
_RAW_EXIF = re.compile(rb"Raw profile type (?:exif|APP1)\0")
_WITH_ALPHA = {4, 6}


def read(data: bytes) -> tuple[Header, bytes]:
    """Read the header of a PNG; return the file without text, profile and EXIF, too: on large ones decoders give up.

    BadImage unless all its chunks are there to the last, IEND, behind a signature that no transfer has changed.
    """
    if not data.startswith(SIGNATURE):
        raise BadImage(lines.CONVERTED if _CONVERTED.match(data) else BROKEN)
    place, count, kept, cut = len(SIGNATURE), 0, 0, []
    size: tuple[int, int] | None = None
    alpha, turned, old_turned = False, None, 1
    while True:
        if place + 12 > len(data):
            raise BadImage(BROKEN)
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        count += 1
        if count == 1 and kind == b"CgBI":
            raise BadImage(OF_APPS)
        if end > len(data) or (count == 1) != (kind == b"IHDR"):
            raise BadImage(BROKEN)
        if count > MAX_CHUNKS:
            raise BadImage(TOO_MANY_CHUNKS)
        if kind == b"IHDR":
            if length != 13:
                raise BadImage(BROKEN)
            size = struct.unpack_from(">II", data, place + 8)
            alpha = data[place + 17] in _WITH_ALPHA
        elif kind == b"tRNS":
            alpha = True
        elif kind == b"IEND":
            break
        elif kind in _NO_PIXELS:
            body = data[place + 8 : min(end - 4, place + 8 + 2 * _LARGEST_EXIF)]
            if kind == b"eXIf" and turned is None:
                turned = exif.orientation(body)
            elif kind in _TEXTS and old_turned == 1:
                old_turned = _raw_profile(kind, body)
            cut.append(data[kept:place])
            kept = end
        place = end
    assert size is not None
    header = Header("PNG", size[0], size[1], turned or old_turned, alpha)
    return header, b"".join([*cut, data[kept:]]) if cut else data


def transparent_shade(data: bytes) -> int | None:
    """Return the sample that is transparent in a gray PNG without alpha (tRNS), as it is stored; None for no such."""
    place = len(SIGNATURE)
    if data[COLOUR_TYPE] != 0:
        return None
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"tRNS" and length >= 2:
            return struct.unpack_from(">H", data, place + 8)[0] & ((1 << data[DEPTH]) - 1)
        place += 12 + length
    return None


def _raw_profile(kind: bytes, body: bytes) -> int:
    """Return the orientation in a chunk of text where that is a profile of EXIF data; 1 for any other text."""
    match = _RAW_EXIF.match(body)
    if match is None:
        return 1
    text = body[match.end() :]
    if kind == b"iTXt":  # whether it is compressed, how; then a language and a translated keyword
        packed, fields = text[:1] == b"\1", text[2:].split(b"\0", 2)
        text = fields[-1]
    else:
        packed, text = kind == b"zTXt", text[1:] if kind == b"zTXt" else text
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, 2 * _LARGEST_EXIF)
        except zlib.error:
            return 1
    return exif.of_raw_profile(text)
