"""Tables that were joined as files (cat a.csv b.csv): what stands once more in the middle, a mark or a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import columns

MARK = "\ufeff"  # the byte order mark, which begins files
BLOCK = 1 << 20
LONGEST = 1 << 16  # bytes of a header
MOST_NAMES = 50  # of a header, by which lines are found
_AROUND = rb"[ \"']*"
_NUMBER = re.compile(r"\s*[+-]?\d")
_MARKS = r"""[\s_.\-/:#'"`\[\]]+"""  # as columns.plain takes them out of a name


class Line(NamedTuple):
    """A line that is a header, too: its number, from 1, and its fields."""

    number: int
    fields: list[str]


def marks_told(count: int) -> list[str]:
    """Tell of byte order marks at the beginning of other lines than the first."""
    return [f"{count} byte order mark{'s' * (count > 1)} inside of the file left out"] if count else []


def check(lines: Iterable[Line], header: Sequence[str], where: str, shown: Path) -> bool:
    """Tell whether one of a file's `lines_of` or `rows_of` is its header once more.

    SelfieError, which says `where` ("line", "row"), for another header, of the same names in another order, of less or
    more: what follows it would be taken for something else.
    """
    said, again = _plain(header), False
    for line in lines:
        if _plain(line.fields) != said:
            raise SelfieError(
                f"cannot read {shown}: {where} {line.number} is another header ({columns.listed(line.fields)}), and "
                "what follows it would be taken for something else: give the files that were joined here one by one"
            )
        again = True
    return again


def without_headers(frame: pl.DataFrame, header: Sequence[str], names: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Leave out the rows that are the header once more; returns the table, and what is to be told.

    frame   some of a file's columns; a row with a number in it is none
    header  what the file's header says of each of its columns; names: what they are called in `frame` and elsewhere
    """
    if not frame.width or any(dtype != pl.String for dtype in frame.dtypes):
        return frame, []
    said = dict(zip(names, _plain(header)))
    first = frame.to_series(0)
    alike = first.str.to_lowercase().str.replace_all(_MARKS, "") == said[first.name]
    rows = [
        number
        for number in alike.fill_null(False).arg_true()
        if all(columns.plain(value or "") == said[name] for name, value in zip(frame.columns, frame.row(number)))
    ]
    if not rows:
        return frame, []
    which = "1 row repeats" if len(rows) == 1 else f"{len(rows)} rows repeat"
    place = "it is" if len(rows) == 1 else "the first is"
    kept = pl.Series([True]).new_from_index(0, frame.height).scatter(rows, False)
    return frame.filter(kept), [f"{which} the header ({place} row {rows[0] + 1}): left out"]


def _plain(header: Sequence[str]) -> list[str]:
    return [columns.plain(name) for name in header]


def rows_of(rows: Iterable[Sequence[str]], header: Sequence[str]) -> Iterator[Line]:
    """Yield the rows that may be headers, numbered from 1: they begin with two of its names and have half of them."""
    known = set(_plain(header)) - {""}
    for number, row in enumerate(rows, 1):
        if len(row) > 1 and columns.plain(row[0]) in known and columns.plain(row[1]) in known:
            last = max((place for place, field in enumerate(row, 1) if field), default=0)
            fields = list(row[: max(last, len(header))])
            if any(_NUMBER.match(field) for field in fields):
                continue
            if 2 * sum(columns.plain(field) in known for field in fields) >= len(header):
                yield Line(number, fields)


def lines_of(path: Path, header: Sequence[str], separator: str, prelude: int) -> Iterator[Line]:
    """Yield the lines of a CSV file after its header that may be headers as well; `prelude` lines were before it."""
    names = [re.escape(name.strip().encode()) for name in header if name.strip()][:MOST_NAMES]
    if len(names) < 2:
        return
    mark = re.escape(separator.encode())
    name = _AROUND + b"(?:" + b"|".join(names) + b")" + _AROUND
    form = re.compile(b"\n(?=" + name + mark + name + b"[\r\n" + mark + b"])", re.IGNORECASE)
    lines, rest = prelude, b""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            block = rest + block
            cut = max(0, block.rfind(b"\n"))
            yield from _lines_in(block, cut, form, header, separator, lines)
            lines, rest = lines + block.count(b"\n", 0, cut), block[cut:]
        yield from _lines_in(rest + b"\n", len(rest), form, header, separator, lines)


def _lines_in(
    block: bytes, end: int, form: re.Pattern[bytes], header: Sequence[str], separator: str, before: int
) -> Iterator[Line]:
    """Yield the lines of a block, up to a line feed at `end`, that may be headers; `before` lines were before it."""
    for match in form.finditer(block, 0, end):
        stop = block.index(b"\n", match.end())
        if stop - match.end() > LONGEST:
            continue
        text = block[match.end() : stop].decode(errors="replace").replace("\0", " ")  # Python 3.9's csv knows no NUL
        fields = [field.strip(" \r") for field in next(csv.reader([text], delimiter=separator), [])]
        number = before + block.count(b"\n", 0, match.end()) + 1
        yield from (Line(number, line.fields) for line in rows_of([fields], header))
