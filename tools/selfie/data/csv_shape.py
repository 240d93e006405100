"""The shape of a CSV file, counted without a CSV library: how many records it has, and which are not as the header.

A reader of tables that loses or shifts rows gives no error, so its result is held against this count. One pass over the
bytes, vectorised by numpy: where no quote is open, a line feed ends a record and a separator a field. A quote opens a
field if it is the field's first byte, and closes it if a separator, the end of the line or of the file follows, or
another quote, with which it stands for one quote (RFC 4180). In a file whose quotes are all of that kind, a quote is
open exactly where an odd number of quotes has gone by. A file with any other quote (5'10" tall) is irregular, and one
with carriage returns alone as line ends too: here its records are not counted, and only Python's csv module says what
they are.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BLOCK = 1 << 20  # bytes read at a time; a line may be longer
QUOTE, NEWLINE, RETURN = ord('"'), ord("\n"), ord("\r")
ROWS_IN_A_FIELD = 2  # so many lines in a row inside of one quoted field that look like rows: a quote is missing


@dataclass
class Shape:
    """What was counted. Lines are numbered from 1, and are physical ones: a quoted field may go over several.

    records     after the header; of an irregular file the number is not known
    fields      of the header
    long, short (line, fields) of the first record with more or fewer fields than the header; shorts: how many
    blank       lines without a byte
    irregular   line of the first quote, or carriage return, that is not of RFC 4180's kind
    open_quote  line of the last field that was opened, where the file ends inside it
    swallowed   line from which on a quoted field holds lines that look like rows
    bad_utf8    line of the first byte that is not UTF-8; good_utf8: whether there are non-ASCII characters before it
    marks       lines after the first that begin with a byte order mark
    """

    records: int = 0
    fields: int = 0
    long: tuple[int, int] | None = None
    short: tuple[int, int] | None = None
    shorts: int = 0
    blank: int = 0
    irregular: int | None = None
    open_quote: int | None = None
    swallowed: int | None = None
    bad_utf8: int | None = None
    good_utf8: bool = False
    marks: int = 0
    lines: int = field(default=0, repr=False)


def measure(path: Path, separator: str) -> Shape:
    """Count the records of a CSV file (UTF-8, with or without its mark) and compare their fields with the header's."""
    counter = _Counter(separator)
    with open(path, "rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        rest = b""
        while block := file.read(BLOCK):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            counter.take(block[:cut])
        counter.take(rest + b"\n" if rest else b"", last=True)
    return counter.shape


def holds(path: Path, what: bytes) -> bool:
    """Whether a file holds these bytes somewhere."""
    return count(path, what, 1) > 0


def count(path: Path, what: bytes, most: int | None = None) -> int:
    """Count how often a file holds these bytes, which do not overlap; up to about `most`."""
    found, end = 0, b""
    with open(path, "rb") as file:
        while (block := file.read(BLOCK)) and (most is None or found < most):
            found += (end + block).count(what)
            end = (end + block)[1 - len(what) :] if len(what) > 1 else b""
    return found


class _Counter:
    """The state between two blocks, which end with a line feed each."""

    def __init__(self, separator: str) -> None:
        self.shape = Shape()
        self.separator = ord(separator)
        self.fields_so_far = 0  # separators of the record that the block before has begun
        self.opened = 0  # quotes before this block: odd where it begins inside of a quoted field
        self.opened_at = 0  # line of the last opening quote
        self.rows_inside = 0  # lines that look like rows at the end of the block before, in one quoted field
        self.header = False  # whether the header was seen

    def take(self, block: bytes, last: bool = False) -> None:
        """Count one block. The last one may be empty."""
        if block:
            self._check_utf8(block)
            self._count(block)
        if last and self.opened % 2:
            self.shape.open_quote = self.opened_at

    def _check_utf8(self, block: bytes) -> None:
        shape = self.shape
        if block.isascii():
            return
        shape.marks += block.count(b"\n" + codecs.BOM_UTF8) + (shape.lines > 0 and block.startswith(codecs.BOM_UTF8))
        if shape.bad_utf8 is not None:
            return
        try:
            block.decode()  # a line feed is never a part of a character, so blocks are whole
            shape.good_utf8 = True
        except UnicodeDecodeError as error:
            shape.bad_utf8 = shape.lines + block.count(b"\n", 0, error.start) + 1
            shape.good_utf8 |= not block[: error.start].isascii()

    def _count(self, block: bytes) -> None:
        shape, data = self.shape, np.frombuffer(block, np.uint8)
        marks = (data == self.separator) | (data == NEWLINE)
        quoted = b'"' in block
        if quoted:
            marks |= data == QUOTE
        places = np.flatnonzero(marks)
        kinds = data[places]
        newline = kinds == NEWLINE
        if b"\r" in block:
            self._check_returns(block)
        if quoted or self.opened % 2:
            quote = kinds == QUOTE
            inside = (np.cumsum(quote) + self.opened) % 2 == 1  # after a quote itself: whether it opens
            self._check_quotes(data, places[quote], inside[quote])
            keep = ~quote & ~inside
            line_of = np.cumsum(newline)[keep] + shape.lines
            self._count_records(data, places[keep], newline[keep], line_of)
            self._check_swallowed(newline, quote, inside)
            self.opened += int(quote.sum())
        else:
            self._count_records(data, places, newline, None)
        shape.lines += block.count(b"\n")

    def _count_records(
        self, data: np.ndarray, places: np.ndarray, newline: np.ndarray, line_of: np.ndarray | None
    ) -> None:
        """Compare each record's fields with the header's; `places` of separators and line ends outside of quotes."""
        shape = self.shape
        ends = np.flatnonzero(newline)
        if not len(ends):
            self.fields_so_far += len(places)
            return
        fields = np.diff(ends, prepend=-1)
        fields[0] += self.fields_so_far
        alone = fields == 1  # nothing but a line end, or a single field
        if alone.any():
            at = places[ends[alone]]
            before = np.where(at > 0, data[at - 1], NEWLINE)
            before = np.where(
                (before == RETURN) & (at > 0), np.where(at > 1, data[np.maximum(at - 2, 0)], NEWLINE), before
            )
            empty = np.zeros(len(fields), bool)
            empty[alone] = before == NEWLINE
            shape.blank += int(empty.sum())
        else:
            empty = alone
        self.fields_so_far = len(places) - 1 - int(ends[-1])
        lines = np.arange(1, len(ends) + 1) + shape.lines if line_of is None else line_of[ends]
        fields, lines = fields[~empty], lines[~empty]
        if not self.header and len(fields):
            self.header, shape.fields = True, int(fields[0])
            fields, lines = fields[1:], lines[1:]
        shape.records += len(fields)
        for name, wrong in (("long", fields > shape.fields), ("short", fields < shape.fields)):
            if wrong.any():
                first = int(wrong.argmax())
                if getattr(shape, name) is None:
                    setattr(shape, name, (int(lines[first]), int(fields[first])))
                if name == "short":
                    shape.shorts += int(wrong.sum())

    def _check_returns(self, block: bytes) -> None:
        """Note a carriage return without its line feed: csv takes it as the end of a line, others do not."""
        if self.shape.irregular is None and block.count(b"\r") != block.count(b"\r\n"):
            place = next(i for i in _finds(block, b"\r") if block[i + 1 : i + 2] != b"\n")
            self.shape.irregular = self.shape.lines + block.count(b"\n", 0, place) + 1

    def _check_quotes(self, data: np.ndarray, places: np.ndarray, opens: np.ndarray) -> None:
        """Note the first quote that neither opens nor closes a field by RFC 4180, and where the last one opens."""
        if not len(places):
            return
        before = np.where(places > 0, data[places - 1], NEWLINE)
        neighbours = np.where(opens, before, data[np.minimum(places + 1, len(data) - 1)])
        fine = np.isin(neighbours, (self.separator, NEWLINE, RETURN, QUOTE))
        if self.shape.irregular is None and not fine.all():
            self.shape.irregular = self._line(data, int(places[int(fine.argmin())]))
        if opens.any():
            self.opened_at = self._line(data, int(places[opens][-1]))

    def _check_swallowed(self, newline: np.ndarray, quote: np.ndarray, inside: np.ndarray) -> None:
        """Note the first quoted field with lines in a row that have a row's number of separators, and no quote."""
        shape = self.shape
        if shape.swallowed is not None or shape.fields < 4 or not (newline & inside).any():
            return
        ends = np.flatnonzero(newline)
        marks = np.diff(ends, prepend=-1) - 1  # separators and quotes of each line
        quotes = np.diff(np.cumsum(quote)[ends], prepend=0)
        rows = (marks == shape.fields - 1) & (quotes == 0) & inside[ends]
        run = 0
        for number in np.flatnonzero(rows) if rows.any() else ():
            run = run + 1 if number and rows[number - 1] else 1 + (self.rows_inside if not number else 0)
            if run >= ROWS_IN_A_FIELD:
                shape.swallowed = shape.lines + int(number) - run + 2
                return
        self.rows_inside = run if len(rows) and rows[-1] else 0

    def _line(self, data: np.ndarray, place: int) -> int:
        return self.shape.lines + int(np.count_nonzero(data[:place] == NEWLINE)) + 1


def _finds(block: bytes, what: bytes) -> Iterator[int]:
    """Yield the places of `what` in a block."""
    place = block.find(what)
    while place >= 0:
        yield place
        place = block.find(what, place + 1)
