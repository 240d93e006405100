"""The header of any file that is read, and what is refused for what it says: decoding starts only after that."""

from __future__ import annotations

from typing import Callable

from selfie.data.codecs import bmp, gif, heif, jpeg, kinds, lines, png, tiff, webp
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": jpeg.read,
    "WEBP": webp.read,
    "GIF": gif.read,
    "BMP": bmp.read,
    "TIFF": tiff.read,
    "HEIC": lambda data: heif.read("HEIC", data),
    "AVIF": lambda data: heif.read("AVIF", data),
}


def read(data: bytes) -> tuple[Header, bytes]:
    """Read the header of an image file; return the bytes to decode, too.

    BadImage unless it is of a known format, was not changed as a text would be, has a size, and passes what its format
    is checked for.
    """
    kind = kinds.kind(data[: kinds.FIRST])
    if kind not in kinds.READ:
        raise BadImage(kinds.unread(kind))
    if lines.converted(kind, data):
        raise BadImage(lines.CONVERTED)
    try:
        header, pixels = png.read(data) if kind == "PNG" else (_READERS[kind](data), data)
        if header.width <= 0 or header.height <= 0:
            raise BadImage(BROKEN)
    except BadImage as error:
        raise BadImage(lines.cause(str(error), kind, data)) from error
    return header, pixels
