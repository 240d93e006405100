"""Compressed tables: gzip, bzip2, xz, Zstandard, and a zip archive with one file, unpacked within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Callable

from selfie.common.errors import SelfieError

# What comes out may be this many times as large as what went in, and this large in any case. Tables compress to a
# twentieth, seldom to a fiftieth; files that were made to fill a disk, to a thousandth and less.
RATIO, ALWAYS = 100, 64 << 20
BLOCK = 1 << 20
_NOISE = re.compile(r"__MACOSX|(?:^|/)\.DS_Store$|(?:^|/)Thumbs\.db$")  # which systems put beside the files
_SHEETS = {  # a file inside of other programs' workbooks -> what they are
    "xl/workbook.bin": "a binary Excel workbook (.xlsb)",
    "content.xml": "an OpenDocument sheet (.ods)",
    "Index/Document.iwa": "a Numbers document",
}
_EMPTY_ZIP = b"PK\x05\x06"  # how an archive of no files begins
SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")


def kind(path: Path) -> str | None:
    """Name the compression of a file by its first bytes: gzip, bzip2, xz, Zstandard, zip; None for no such file."""
    with open(path, "rb") as file:
        start = file.read(6)
    for name, (magic, _) in _READERS.items():
        if start.startswith(magic):
            return name
    return "zip" if start.startswith((b"PK\x03\x04", _EMPTY_ZIP)) and not is_workbook(path) else None


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook (.xlsx), which is a zip archive too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):  # a version, a name that is no UTF-8
        return False


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a plain file with the content of `path`: itself if it is not compressed, else a temporary one.

    The temporary file has the name of the original without its last suffix, if that names the compression; what comes
    out of a zip archive has the suffix that it has there. SelfieError for a damaged file, one that becomes more than
    RATIO times as large, and a zip archive of no file or of more than one.
    """
    compression = kind(path)
    if compression is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="selfie-table-") as folder:
        name = path.stem if path.suffix.lower() in SUFFIXES else path.name
        try:
            if compression == "zip":
                with zipfile.ZipFile(path) as archive:
                    member = _only_member(archive, path)
                    target = Path(folder, f"table{Path(member.filename).suffix}")  # its name may be '..', or too long
                    with archive.open(member) as source:
                        _copy(source, target, path)
            else:
                target = Path(folder, name)
                with _READERS[compression][1](path) as source:
                    _copy(source, target, path)
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, _zstd_error()) as error:
            raise SelfieError(f"cannot read {path}: its {compression} data are damaged or cut off ({error})") from error
        except (
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:  # zipfile: a method or version; a password; names
            raise SelfieError(f"cannot read {path}: {error}") from error
        yield target


def _copy(source: IO[bytes], target: Path, packed: Path) -> None:
    """Write what `source` gives into `target`; SelfieError when it becomes too much for the size of `packed`."""
    most, size = max(ALWAYS, RATIO * packed.stat().st_size), 0
    with open(target, "wb") as file:
        while block := source.read(BLOCK):
            size += len(block)
            if size > most:
                raise SelfieError(
                    f"{packed} becomes more than {most >> 20} MB when it is unpacked, over {RATIO} times its own size: "
                    "if that is right, unpack it yourself"
                )
            file.write(block)


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    names = set(archive.namelist())
    for name, what in _SHEETS.items():
        if name in names:
            raise SelfieError(f"{path} is {what}: save it as .xlsx or CSV")
    members = [member for member in archive.infolist() if not member.is_dir() and not _NOISE.search(member.filename)]
    if not members:
        raise SelfieError(f"{path} is an empty zip archive: pack the table again")
    if len(members) != 1:
        raise SelfieError(f"{path} is a zip archive of {len(members)} files: unpack it and name the table")
    return members[0]


def _zstandard(path: Path) -> IO[bytes]:
    import zstandard

    return zstandard.open(path, "rb")


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


_READERS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "gzip": (b"\x1f\x8b", gzip.GzipFile),
    "bzip2": (b"BZh", bz2.BZ2File),
    "xz": (b"\xfd7zXZ\x00", lzma.LZMAFile),
    "Zstandard": (b"\x28\xb5\x2f\xfd", _zstandard),
}
