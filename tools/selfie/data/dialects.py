"""Dialects of CSV: how a file of text is encoded, what separates its fields, and what stands before its header."""

from __future__ import annotations

import codecs
import csv
import io
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from selfie.common.errors import SelfieError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
SAMPLE = 1 << 16  # bytes that are looked at
SAMPLE_ROWS = 50
ENCODINGS = {"utf-8": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "cp1252": "Latin-1"}


@dataclass(frozen=True)
class Dialect:
    """How to read a file of text.

    encoding   of Python: utf-8, utf-16, utf-16-le, utf-16-be, cp1252 (Windows' superset of Latin-1)
    separator  of fields
    prelude    lines before the header that are none: comments, 'sep=;', blank ones
    comments   how many of them are comments
    damaged    whether a file of UTF-8 holds bytes that are none, which are read as U+FFFD
    """

    encoding: str = "utf-8"
    separator: str = ","
    prelude: int = 0
    comments: int = 0
    damaged: bool = False

    @property
    def notes(self) -> list[str]:
        """What differs from plain CSV, in words: 'semicolons between the fields', 'Latin-1'."""
        notes = []
        if self.separator != ",":
            notes.append(f"fields separated by {SEPARATORS.get(self.separator, repr(self.separator))}")
        if self.encoding != "utf-8":
            notes.append(ENCODINGS[self.encoding])
        if self.comments:
            notes.append(f"{self.comments} comment line{'s' * (self.comments > 1)} before the header left out")
        return notes


def recognise(path: Path, names: Collection[str] = ()) -> Dialect:
    """Recognise a file's dialect from its beginning; `names` that headers hold, in small letters, help."""
    with open(path, "rb") as file:
        start = file.read(SAMPLE)
    encoding = _encoding(start)
    text = start.decode("cp1252" if encoding == "cp1252" else encoding, errors="replace").lstrip("\ufeff")
    lines = text.splitlines(keepends=True)
    if len(start) == SAMPLE and len(lines) > 1:
        lines.pop()  # it is cut
    given, prelude, comments = None, 0, 0
    for line in lines:
        if match := re.fullmatch(r"\"?sep=(.)\"?\s*", line, re.IGNORECASE):
            given = match[1]
        elif re.match(r"\s*#(\s|[^,;\t|]*$)", line):
            comments += 1
        elif line.strip():
            break
        prelude += 1
    separator = given or _separator(lines[prelude : prelude + SAMPLE_ROWS], names)
    return Dialect(encoding, separator, prelude, comments)


@contextmanager
def straightened(path: Path, dialect: Dialect) -> Iterator[Path]:
    """Yield a file of plain UTF-8 that begins with the header: `path` if it is that, else a temporary one.

    SelfieError for text that its encoding cannot be.
    """
    if dialect.encoding == "utf-8" and not dialect.prelude and not dialect.damaged:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="selfie-table-") as folder:
        target = Path(folder, path.name)
        try:
            with (
                open(path, encoding=_decoder(dialect), errors=_errors(dialect), newline="") as source,
                open(target, "w", encoding="utf-8", newline="", errors="surrogatepass") as file,
            ):
                _copy(source, file, dialect.prelude)
        except UnicodeError as error:
            raise SelfieError(f"cannot read {path}: it is not {ENCODINGS[dialect.encoding]} text ({error})") from error
        yield target


def _copy(source: IO[str], file: IO[str], prelude: int) -> None:
    for _ in range(prelude):
        source.readline()
    while block := source.read(1 << 20):
        file.write(block)


def _decoder(dialect: Dialect) -> str:
    return "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding


def _errors(dialect: Dialect) -> str:
    """Windows leaves five bytes of its code page free; what is not UTF-8 in UTF-8 is damage of a few characters."""
    return "replace" if dialect.encoding in ("utf-8", "cp1252") else "strict"


def _encoding(start: bytes) -> str:
    """Tell UTF-16 by its mark, or by the zero bytes beside Latin letters; else it is UTF-8 until shown wrong."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) >= 4:
        for encoding, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
            if zeros.count(0) > 0.4 * len(zeros) and others.count(0) < 0.1 * len(others):
                return encoding
    return "utf-8"


def _separator(lines: list[str], names: Collection[str]) -> str:
    """Choose the separator by which the header has most known names, and then most rows have its number of fields."""
    best, found = ((-1, -1.0, -1), ",")
    for separator in SEPARATORS:
        rows = [row for row in csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator) if row]
        if not rows or len(rows[0]) < 2:
            continue
        header = [re.sub(r"[\s_-]", "", name.casefold()) for name in rows[0]]
        known = sum(name in names for name in header)
        alike = sum(len(row) == len(header) for row in rows) / len(rows)
        if (score := (known, alike, len(header))) > best:
            best, found = score, separator
    return found
