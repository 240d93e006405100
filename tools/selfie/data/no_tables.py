"""Files that are no tables, whatever their names say: what they are, by their first bytes, and what to do."""

from __future__ import annotations

import re

from selfie.data.codecs import kinds

_UNPACK = "unpack it, and name the table in it"
_SAVE = "save the table as CSV, Parquet or .xlsx"
_FIRST_BYTES = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the file itself: run 'git lfs pull'"),
    (b"ARROW1", f"an Arrow (Feather) file: {_SAVE}"),
    (b"\x93NUMPY", f"a file of NumPy: {_SAVE}"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file: {_SAVE}"),
    (b"ORC", f"an ORC file: {_SAVE}"),
    (b"Obj\x01", f"an Avro file: {_SAVE}"),
    (b"RDX", f"a file of R: {_SAVE}"),
    (b"PARE", "a Parquet file that is encrypted: save it without"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive: {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive: {_UNPACK}"),
    (b"\x04\x22\x4d\x18", f"packed by LZ4: {_UNPACK}"),
    (b"\x1f\x9d", f"packed by compress: {_UNPACK}"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or one with a password: save it as .xlsx or CSV, without one"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\]c(]", re.DOTALL)
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|table|script|meta|div)\b", re.IGNORECASE)
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\b")
_WEAK = ("", "BMP", "TIFF", "WEBP", "ZIP")  # whose first bytes a table may begin with


def named(start: bytes) -> str | None:
    """Say what a file is that begins with these bytes (4096 are enough), and what to do; None if it may be a table."""
    for magic, what in _FIRST_BYTES:
        if start.startswith(magic):
            return what
    if _HTML.match(start):
        return "a web page (HTML), such as one that asks for a login: download the table itself, or save it as CSV"
    if _XML.match(start):
        return f"XML: {_SAVE}"
    if _PICKLE.match(start):
        return f"a pickle of Python: {_SAVE}"
    if start[257:262] == b"ustar":
        return f"a TAR archive: {_UNPACK}"
    kind = kinds.kind(start[: kinds.FIRST])
    return None if kind in _WEAK else f"{kind}, not a table"
