"""Dialects of CSV: how a file of text is encoded, what separates its fields, and what stands before its header."""

from __future__ import annotations

import codecs
import csv
import io
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from selfie.common.errors import SelfieError
from selfie.data import columns, joined

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
RARE = {"^": "carets", "~": "tildes", "\x01": "control characters (01)", "\x1f": "control characters (1f)"}
SAMPLE = 1 << 16  # bytes that are looked at
SAMPLE_ROWS = 50
TITLE_LINES = 20  # that may stand before a header
HEADER_NAMES = 3  # known names that make a line a header
ENCODINGS = {
    "utf-8": "UTF-8",
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "UTF-16"),
    **dict.fromkeys(("utf-32", "utf-32-le", "utf-32-be"), "UTF-32"),
    "cp1252": "Latin-1",
}


@dataclass(frozen=True)
class Dialect:
    """How to read a file of text.

    encoding   of Python: utf-8, utf-16, utf-16-le, utf-32 ..., cp1252 (Windows' superset of Latin-1)
    separator  of fields
    prelude    lines before the header that are none: comments, titles, 'sep=;', blank ones
    comments   how many of them are comments, and titles: how many are other text
    padded     whether spaces stand around the separators that are no part of the fields
    quote      what stands around fields: " or '
    escape     what stands before a quote inside of a field: a backslash, or None where it is doubled
    damaged    whether a file of UTF-8 holds bytes that are none, which are read as U+FFFD
    marks      byte order marks at the beginning of other lines than the first, which are left out
    """

    encoding: str = "utf-8"
    separator: str = ","
    prelude: int = 0
    comments: int = 0
    titles: int = 0
    padded: bool = False
    quote: str = '"'
    escape: str | None = None
    damaged: bool = False
    marks: int = 0

    @property
    def plain(self) -> bool:
        """Whether its quotes and spaces are those of RFC 4180."""
        return not self.padded and self.quote == '"' and self.escape is None

    @property
    def notes(self) -> list[str]:
        """What differs from plain CSV, in words: 'semicolons between the fields', 'Latin-1'."""
        notes = []
        if self.separator != ",":
            known = {**SEPARATORS, **RARE}
            notes.append(f"fields separated by {known.get(self.separator, repr(self.separator))}")
        if self.padded:
            notes.append("spaces around the fields left out")
        if self.quote != '"':
            notes.append(f"fields quoted by {self.quote}")
        if self.escape:
            notes.append("quotes inside of fields are escaped by backslashes")
        if self.encoding != "utf-8":
            notes.append(ENCODINGS[self.encoding])
        if self.comments:
            notes.append(f"{self.comments} comment line{'s' * (self.comments > 1)} before the header left out")
        if self.titles:
            notes.append(f"{self.titles} line{'s' * (self.titles > 1)} of other text before the header left out")
        return notes + joined.marks_told(self.marks)


def encoding_of(path: Path) -> str:
    """Recognise how a file of text is encoded, as Python calls it; utf-8 where nothing speaks for another."""
    with open(path, "rb") as file:
        return _encoding(file.read(SAMPLE))


def recognise(path: Path, names: Collection[str] = ()) -> Dialect:
    """Recognise a file's dialect from its beginning; `names` that headers hold, in small letters, help."""
    with open(path, "rb") as file:
        start = file.read(SAMPLE)
    encoding = _encoding(start)
    text = (
        start.decode("cp1252" if encoding == "cp1252" else encoding, errors="replace")
        .lstrip("\ufeff")
        .replace("\0", " ")
    )
    lines = list(
        io.StringIO(text, newline="")
    )  # as they are read later: U+2028 ends none (Python 3.9's csv knows no NUL)
    if len(start) == SAMPLE and len(lines) > 1:
        lines.pop()  # it is cut
    given, prelude, comments = _prelude(lines, names)
    header = _header_line(lines[prelude:], names)
    titles = sum(bool(line.strip()) for line in lines[prelude : prelude + header])
    prelude += header
    sample = lines[prelude : prelude + SAMPLE_ROWS]
    separator = given or _separator(sample, names)
    fields = (sample[0] if sample else "").strip().split(separator)
    quote = "'" if len(fields) > 1 and all(re.fullmatch(r"\s*'[^']*'\s*", field) for field in fields) else '"'
    return Dialect(encoding, separator, prelude, comments, titles, _is_padded(sample, separator), quote)


@contextmanager
def straightened(path: Path, dialect: Dialect) -> Iterator[Path]:
    """Yield a file of plain UTF-8 that begins with the header: `path` if it is that, else a temporary one.

    SelfieError for text that its encoding cannot be.
    """
    if dialect.encoding == "utf-8" and not (dialect.prelude or dialect.damaged or dialect.marks):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="selfie-table-") as folder:
        target = Path(folder, path.name)
        try:
            with (
                open(path, encoding=_decoder(dialect), errors=_errors(dialect), newline="") as source,
                open(target, "w", encoding="utf-8", newline="", errors=_written(dialect)) as file,
            ):
                _copy(source, file, dialect)
        except UnicodeError as error:
            if dialect.encoding == "cp1252":
                raise SelfieError(
                    f"cannot read {path}: it is neither UTF-8 nor Latin-1, but of another alphabet's encoding, such as "
                    "Shift-JIS: save it as UTF-8 (in Excel, 'CSV UTF-8')"
                ) from error
            raise SelfieError(f"cannot read {path}: it is not {ENCODINGS[dialect.encoding]} text ({error})") from error
        yield target


def _copy(source: IO[str], file: IO[str], dialect: Dialect) -> None:
    for _ in range(dialect.prelude):
        source.readline()
    rest = ""
    while block := source.read(1 << 20):
        block = rest + block
        rest = "\n" if dialect.marks and block.endswith("\n") else ""  # a mark may follow it
        block = block[: len(block) - len(rest)]
        file.write(block.replace("\n" + joined.MARK, "\n") if dialect.marks else block)
    file.write(rest)


def _decoder(dialect: Dialect) -> str:
    return "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding


def _errors(dialect: Dialect) -> str:
    """Windows leaves five bytes of its code page free: a file with one of them is of another alphabet's code page.

    What is not UTF-8 in UTF-8 is damage of a few characters. Unless that is known to be so, such bytes stay as they
    are: they may be Latin-1.
    """
    if dialect.encoding == "utf-8":
        return "replace" if dialect.damaged else "surrogateescape"
    return "strict"


def _written(dialect: Dialect) -> str:
    return "surrogateescape" if _errors(dialect) == "surrogateescape" else "surrogatepass"


def _encoding(start: bytes) -> str:
    """Tell UTF-16 and UTF-32 by their marks, or by zero bytes beside the header's Latin letters; else it is UTF-8."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins as UTF-16's
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    line = start[: start.find(b"\n") + 1 or None]
    header = line[: len(line) // 4 * 4]
    if len(header) < 4:
        return "utf-8"
    zeros = [header[place::4].count(0) / (len(header) // 4) for place in range(4)]
    empty = tuple(share > 0.4 for share in zeros)
    for encoding, places in _ZEROS.items():
        if empty == places:
            return encoding
    return "utf-8"


# Which of four bytes in a row are zero where Latin letters are written in them.
_ZEROS = {
    "utf-16-le": (False, True, False, True),
    "utf-16-be": (True, False, True, False),
    "utf-32-le": (False, True, True, True),
    "utf-32-be": (True, True, True, False),
}


def _prelude(lines: Sequence[str], names: Collection[str]) -> tuple[str | None, int, int]:
    """Find what stands before the header: (the separator that it names, its lines, how many are comments)."""
    given, prelude, comments = None, 0, 0
    for place, line in enumerate(lines):
        if match := re.fullmatch(r"\"?sep=(.)\"?\s*", line, re.IGNORECASE):
            given = match[1] if match[1].isascii() else None  # no reader takes others
        elif re.match(r"\s*#(\s|[^,;\t|]*$)", line):
            after = next((each for each in lines[place + 1 :] if each.strip() and each.lstrip()[0] != "#"), "")
            if _known(after, names) < HEADER_NAMES and _is_header(line, after, names):
                break  # '# id,path,user': the names themselves, as NumPy writes them
            comments += 1
        elif line.strip():
            break
        prelude += 1
    return given, prelude, comments


def _header_line(lines: Sequence[str], names: Collection[str]) -> int:
    """Find the header: the first line, or the first of known names where titles, of few fields, stand before it."""
    if not lines or _known(lines[0], names) > 1:
        return 0
    for place, line in enumerate(lines[1 : TITLE_LINES + 1], 1):
        after = next((each for each in lines[place + 1 :] if each.strip()), "")
        if not line.startswith("#") and _is_header(line, after, names, title=lines[0]):
            return place
    return 0


def _is_header(line: str, after: str, names: Collection[str], title: str = "") -> bool:
    """Whether a line has known names, as many fields as the one after it, and a title before it only few."""
    for separator in (*SEPARATORS, *RARE):
        fields = _fields(line, separator)
        known = sum(columns.plain(name) in names for name in fields)
        filled = sum(bool(field.strip()) for field in _fields(title, separator))
        hashtags = any(field.lstrip().startswith("#") for field in fields[1:])
        if known >= HEADER_NAMES > filled and not hashtags and len(_fields(after or line, separator)) == len(fields):
            return True
    return False


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _known(line: str, names: Collection[str]) -> int:
    """Count the known names in a line, by the separator that gives most of them."""
    return max(sum(name in names for name in map(columns.plain, line.split(each))) for each in (*SEPARATORS, *RARE))


def _is_padded(lines: Sequence[str], separator: str) -> bool:
    """Tell whether spaces follow the separators: all of the header's, and nine of ten others."""
    header, *rows = [line.rstrip("\r\n").split(separator)[1:] for line in lines if line.strip()] or [[]]
    fields = [field for row in rows for field in row if field]
    spaces = sum(field[0] == " " for field in fields)
    return any(header) and all(field[0] == " " for field in header if field) and spaces >= 0.9 * len(fields)


def _separator(lines: Sequence[str], names: Collection[str]) -> str:
    """Choose the separator by which the header has most known names, and then most rows have its number of fields."""
    best, found = ((-1, -1.0, -1), ",")
    for separator in (*SEPARATORS, *RARE):
        rows = [row for row in csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator) if row]
        if not rows or len(rows[0]) < 2:
            continue
        header = [columns.plain(name) for name in rows[0]]
        known = sum(name in names for name in header)
        if separator in RARE and known < 2:
            continue
        alike = sum(len(row) == len(header) for row in rows) / len(rows)
        if (score := (known, alike, len(header))) > best:
            best, found = score, separator
    return found
