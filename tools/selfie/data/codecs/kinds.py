"""Formats by the first bytes of a file: those that are read, and what others are called."""

from __future__ import annotations

import re

from selfie.data.codecs import lines

READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".jxl"),
)
PICTURES = (*READ, "JPEG XL")  # pictures to a user, though the last cannot be read: it is named
FIRST = 64  # bytes that tell a format

RAW = "raw picture"  # of a camera
AS_TEXT, BASE64 = "picture spoilt as text", "picture as base64"
JPEG_XL = "JPEG XL is not read: convert it to JPEG or PNG, with djxl for example"
UNKNOWN = "unknown format"
_WHAT_TO_DO = {  # kind -> what is said of it; of any other kind that is known: how it becomes a picture that is read
    "JPEG XL": JPEG_XL,
    RAW: "raw pictures of cameras are not read: convert them to JPEG or TIFF, with darktable or dcraw for example",
    "SVG": "SVG is not read: save the drawing as PNG",
    "XML": "this is XML, not a picture: if it is an SVG, save the drawing as PNG",
    "web page (HTML)": "this is a web page (HTML), not a picture: download the picture itself",
    "pointer of Git LFS": "this is a pointer of Git LFS, not the picture: run 'git lfs pull'",
    "ZIP": "this is a ZIP archive, not a picture: unpack it",
    "SQLite": "this is a SQLite database, not a picture",
    AS_TEXT: lines.AS_TEXT,
    BASE64: "this is a picture written as text (base64): decode it, with 'base64 -d' for example",
}

_FIRST_BYTES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
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
    (b"II\xbc", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"\0\0\1\0", "icon (ICO)"),
    (b"\0\0\2\0\1\0", "icon (CUR)"),
    (b"icns", "icon (ICNS)"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"v/1\1", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"AT&TFORM", "DjVu"),
    (b"\xd7\xcd\xc6\x9a", "Windows metafile"),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIU\0", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"FOVb", RAW),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1a\x45\xdf\xa3", "Matroska video"),
    (b"\0\0\1\xba", "MPEG video"),
    (b"\0\0\1\xb3", "MPEG video"),
    (b"FLV\1", "Flash video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows video"),
    (b"SQLite format 3\0", "SQLite"),
    (b"version https://git-lfs.github.com/spec/", "pointer of Git LFS"),
    (b"\xc3\xbf\xc3\x98\xc3\xbf", AS_TEXT),  # JPEG and PNG, whose bytes were taken for Latin-1
    (b"\xc2\x89PNG", AS_TEXT),
    (b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", AS_TEXT),  # for UTF-8
    (b"\xef\xbf\xbdPNG", AS_TEXT),
    (b"data:image/", BASE64),
    (b"/9j/", BASE64),  # JPEG and PNG
    (b"iVBORw0KGgo", BASE64),
)
_TEXTS = (  # of drawings and pages, behind what may stand before them
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE), "web page (HTML)"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:svg\b|!DOCTYPE svg|!-- .*<svg)", re.DOTALL), "SVG"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\b"), "XML"),
    (re.compile(rb"P[1-7][\s#]"), "Netpbm"),
)
_QUICKTIME = (b"wide", b"mdat", b"moov", b"free", b"skip", b"pnot")  # boxes that begin films without a brand
_WEAK = {"BMP", "TIFF"}  # their first bytes begin other files, too: raw pictures of cameras are TIFF to look at
_BRANDS = {  # of ISO base media files: HEIF and its relatives, films
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"},
}
_FILMS = {b"qt  ": "QuickTime video", b"crx ": RAW}
_OTHERS = {b"mif1", b"msf1", b"mif2"}  # say only that it is HEIF; another brand says of what


def kind(data: bytes) -> str:
    """Name the format by a file's first bytes (FIRST of them are enough): one of READ, or another, or ""."""
    if data[4:8] == b"ftyp":
        return _brand(data)
    if data[4:8] in _QUICKTIME and data[:2] == b"\0\0":
        return "QuickTime video"
    if data.startswith(b"RIFF"):
        return {b"WEBP": "WEBP", b"AVI ": "AVI video"}.get(data[8:12], "")
    if data[:4] in (b"II*\0", b"MM\0*") and data[8:10] == b"CR":
        return RAW  # Canon's CR2, otherwise a TIFF
    known = next((name for first, name in _FIRST_BYTES if data.startswith(first)), "")
    return known or next((name for form, name in _TEXTS if form.match(data)), "")


def unread(kind: str) -> str:
    """Say that a kind is not read, and what to do; UNKNOWN for "" and kinds that nobody knows."""
    if kind.endswith("video"):
        return f"this is a film ({kind}), not a picture: take one out of it, with ffmpeg for example"
    named = f"{kind} is not read: save it as JPEG or PNG" if kind in NAMED else UNKNOWN
    return _WHAT_TO_DO.get(kind, named)


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


NAMED = frozenset(name for _, name in (*_FIRST_BYTES, *_TEXTS)) | {*_FILMS.values(), "AVI video", "MP4 video"}
