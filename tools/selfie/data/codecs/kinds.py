"""Formats by the first bytes of a file: those that are read, and what others are called."""

from __future__ import annotations

import re

READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".jxl"),
)
PICTURES = (*READ, "JPEG XL")  # pictures to a user, though the last cannot be read: it is named
FIRST = 64  # bytes that tell a format

JPEG_XL = "JPEG XL is not read: convert it to JPEG or PNG, with djxl for example"
UNKNOWN = "unknown format"

_FIRST_BYTES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # with 64-bit offsets: BigTIFF
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF-", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1a\x45\xdf\xa3", "Matroska video"),
    (b"SQLite format 3\0", "SQLite"),
)
_WEAK = {"BMP", "TIFF"}  # their first bytes begin other files, too: raw pictures of cameras are TIFF to look at
_BRANDS = {  # of ISO base media files: HEIF and its relatives, films
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"},
}
_FILMS = {b"qt  ": "QuickTime video", b"crx ": "raw picture"}
_OTHERS = {b"mif1", b"msf1", b"mif2"}  # say only that it is HEIF; another brand says of what


def kind(data: bytes) -> str:
    """Name the format by a file's first bytes (FIRST of them are enough): one of READ, or another, or ""."""
    if data[4:8] == b"ftyp":
        return _brand(data)
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "AVI video"
    return next((name for first, name in _FIRST_BYTES if data.startswith(first)), "")


def of_file(name: str, data: bytes) -> str:
    """Name the format of a file with this name and these first bytes; its suffix in capitals where they tell none.

    A file with the suffix of another program is BMP or TIFF by neither: that takes more than the first bytes.
    """
    suffix = re.search(r"[^./]\.([^./]+)$", name)
    known = kind(data)
    if known and not (known in _WEAK and suffix):
        return known
    return suffix[1].upper() if suffix else "without suffix"


def _brand(data: bytes) -> str:
    length = min(int.from_bytes(data[:4], "big"), FIRST)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, length - 3, 4))]
    if brands[0] in _FILMS:
        return _FILMS[brands[0]]
    for name, known in _BRANDS.items():  # AVIF's say mif1, too, and HEIC's decoder reads none
        if brands[0] in known or (brands[0] in _OTHERS and known & set(brands)):
            return name
    return "HEIC" if brands[0] in _OTHERS else "MP4 video"
