"""Pictures that were sent as text: every line feed became two bytes, or two became one, or one became another.

Decoders make garbage of such files as often as they refuse them. PNG's signature is there to tell; of the others the
bytes do. Compressed data are as good as random, so that one byte in 256 is a line feed, one line feed in 256 stands
behind a carriage return, and two bytes in 65,536 are such a pair. What is asked first ends at the first byte, or pair,
that speaks for an intact file: behind some hundred bytes, or 64 KiB.
"""

from __future__ import annotations

import re

import numpy as np

from selfie.data.codecs.errors import BROKEN

CONVERTED = "its line ends were converted, as by a transfer of text: copy it again, in binary mode"
LIKELY = "broken, most likely as its line ends were converted by a transfer of text: copy it again, in binary mode"
AS_TEXT = "it was read and written as text (UTF-8), which destroys pictures: copy it again, in binary mode"
COMPRESSED = ("JPEG", "WEBP", "GIF", "HEIC", "AVIF")
CR, LF = ord("\r"), ord("\n")
_LONE = re.compile(rb"(?<!\r)\n")
_KINDS = 4  # of bytes behind the pairs, at least: flat pictures repeat a few bytes
_LARGE = 8192  # bytes in which each of 256 is there: one is missing in one of 10^13 files of random ones
_CERTAIN, _PROBABLE, _POSSIBLE = 12, 5, 1  # pairs that should be there, where there is none


def converted(kind: str, data: bytes) -> bool:
    """Tell whether the line ends of a file were certainly converted."""
    if kind == "BMP" and int.from_bytes(data[2:6], "little") != len(data):
        return _only_pairs(data)
    if kind not in COMPRESSED:
        return False
    return _only_pairs(data) or _without_one(data) or _without_pairs(data)


def suspect(data: bytes) -> bool:
    """Tell whether pairs may have become line feeds in a JPEG: its decoder's smallest complaint is damage, then.

    That is bytes too many before the last marker. Some cameras write such, but alike ones, or in files so large that
    there are pairs.
    """
    end = data.rfind(b"\xff\xd9")
    return b"\r\n" not in data and _expected(data) >= _POSSIBLE and len(set(data[max(0, end - 8) : end])) > 2


def cause(reason: str, kind: str, data: bytes) -> str:
    """Return why a picture is broken, if that can be told; else the `reason` why it is refused."""
    if reason != BROKEN:
        return reason
    if _is_utf8(data[:_LARGE]):
        return AS_TEXT
    if _only_pairs(data) or _without_one(data):
        return CONVERTED
    likely = kind in COMPRESSED and b"\r\n" not in data and _expected(data) >= _PROBABLE
    return LIKELY if likely else reason


def _only_pairs(data: bytes) -> bool:
    """Whether every line feed stands behind a carriage return: where lines ended so, or each got one more."""
    if _LONE.search(data) or data.count(b"\r\n") < _KINDS:
        return False
    return len({match[1] for match in re.finditer(rb"\r\n(.)", data, re.DOTALL)}) >= _KINDS


def _without_one(data: bytes) -> bool:
    """Whether all bytes are there but a line feed, or a carriage return: one became the other."""
    if len(data) < _LARGE or (LF in data and CR in data):
        return False
    return np.count_nonzero(np.bincount(np.frombuffer(data, np.uint8), minlength=256)) == 255


def _without_pairs(data: bytes) -> bool:
    """Whether each byte but a line feed stands behind some carriage return, and there are so many of these."""
    if b"\r\n" in data or _expected(data) < _CERTAIN:
        return False
    values = np.frombuffer(data, np.uint8)
    behind = values[1:][values[:-1] == CR]
    return np.count_nonzero(np.bincount(behind, minlength=256)) == 255


def _expected(data: bytes) -> float:
    """Return how many pairs there should be by the numbers of both bytes."""
    return data.count(b"\r") * data.count(b"\n") / len(data)


def _is_utf8(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode()
    return sum(not each.isascii() for each in text) > len(text) // 8
