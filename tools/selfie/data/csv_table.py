"""Read CSV: by polars where that is safe, by Python's csv module where it is not, and never a row less than there is.

polars is fast, but it has lost rows without a word (a quote inside of a field, and a selection of columns). So the file
is measured first by csv_shape, which knows nothing of polars: a file with irregular quotes, lone carriage returns,
spaces around its fields or blank lines goes to the csv module, and so does one of which polars read another number of
rows than were counted.
"""

from __future__ import annotations

import csv
import logging
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Callable, NamedTuple

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import cells, csv_shape, dialects, joined
from selfie.data import columns as column_names
from selfie.data.nested import Pick

log = logging.getLogger(__name__)
LONGEST = 30  # characters of a word that a message has
CHUNK = 50_000  # rows of ten columns at a time from the csv module


class Text(NamedTuple):
    """A table of text (but see `read`): the chosen columns, the names of all, and what the user should know of it."""

    frame: pl.DataFrame
    names: list[str]
    notes: list[str]


Whole = Callable[[str], bool]


def read(
    path: Path,
    choose: Pick | None,
    shown: Path,
    known: Collection[str] = (),
    whole: Whole = lambda name: False,
) -> Text:
    """Read a CSV file of any dialect as text; an empty field is null.

    choose   is given the names of all columns and returns those that are wanted; None: all
    shown    the name for messages
    known    names that a header is likely to hold, in small letters without spaces
    whole    says of a column by its name, once `choose` was asked, whether it may be Int64 in place of text, which is
             half the memory; it is if all its values are plain whole numbers
    SelfieError for a record with more fields than the header, a quote that is opened and never closed, a quoted field
    that holds rows, and an empty file.
    """
    dialect = dialects.recognise(path, known)
    with dialects.straightened(path, dialect) as plain:
        shape = csv_shape.measure(plain, dialect.separator)
        better, notes = _better(plain, dialect, shape)
        if better == dialect:
            return _read(plain, dialect, shape, choose, shown, whole)
    with dialects.straightened(path, better) as plain:
        text = _read(plain, better, csv_shape.measure(plain, better.separator), choose, shown, whole)
    return text._replace(notes=text.notes + notes)


def _better(path: Path, dialect: dialects.Dialect, shape: csv_shape.Shape) -> tuple[dialects.Dialect, list[str]]:
    """Return the dialect that a whole file turned out to have, and what is to be told of it."""
    dialect, notes = replace(dialect, marks=shape.marks), []
    if shape.bad_utf8 is not None and dialect.encoding == "utf-8":
        if shape.good_utf8:
            notes = [f"line {shape.bad_utf8 + dialect.prelude} holds bytes that are not UTF-8: read as \ufffd"]
            dialect = replace(dialect, damaged=True)
        else:
            dialect = replace(dialect, encoding="cp1252")
            notes = [f"'{_foreign(path, shape.bad_utf8)}' is read so: if that is wrong, save it as UTF-8"]
    return dialect, notes


def _foreign(path: Path, number: int) -> str:
    """Return the first word with a letter beyond ASCII in a line, by its number, of Latin-1."""
    with open(path, "rb") as file:
        line = next(islice(file, number - 1, None), b"").decode("cp1252", errors="replace")
    match = re.search(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*", line)
    return match[0][:LONGEST] if match else ""


def _read(
    path: Path,
    dialect: dialects.Dialect,
    shape: csv_shape.Shape,
    choose: Pick | None,
    shown: Path,
    whole: Whole,
) -> Text:
    r"""Read a plain file of UTF-8 whose shape is known.

    One that cannot be read, but has quotes inside of fields as \", as Spark and MySQL write them, is read so, if every
    record is whole then.
    """
    try:
        return _read_as(path, dialect, shape, choose, shown, whole)[0]
    except SelfieError:
        if csv_shape.holds(path, b'\\"'):
            with suppress(SelfieError):
                text, found = _read_as(path, replace(dialect, escape="\\"), shape, choose, shown, whole)
                if found.short is None:
                    return text
        raise


def _read_as(
    path: Path,
    dialect: dialects.Dialect,
    shape: csv_shape.Shape,
    choose: Pick | None,
    shown: Path,
    whole: Whole,
) -> tuple[Text, csv_shape.Shape]:
    """Read a plain file of one dialect; returns the shape that was found on the way, too."""
    header = _header(path, dialect)
    if not header:
        raise SelfieError(f"cannot read {shown}: it is empty, not even a header")
    names, notes = column_names.unique(header), column_names.repeated(header)
    notes = dialect.notes + notes
    chosen = set(names if choose is None else choose(names))
    wanted = [name for name in names if name in chosen]
    regular = dialect.plain and shape.irregular is None and not shape.blank
    if regular:
        _check(shape, dialect, shown)
        cells.check(shape.records, len(wanted), path.stat().st_size, shown)
    counted = shape.records
    frame = _by_polars(path, dialect, names, wanted, whole) if regular else None
    if frame is not None and wanted and frame.height != counted:
        log.info("%s: polars read %d of %d rows, so Python's csv module reads it", shown, frame.height, counted)
        frame = None
    if frame is None:
        frame, shape = _by_csv(path, dialect, names, wanted, shown)
    if regular and shape.records != counted:
        raise SelfieError(f"cannot read {shown}: {counted} rows were counted, but {shape.records} read")
    if shape.swallowed is not None:
        raise SelfieError(
            f"cannot read {shown}: the lines from line {shape.swallowed + dialect.prelude} on look like rows, but "
            "stand inside of a quoted field: a quote before them is not closed"
        )
    if joined.check(joined.lines_of(path, header, dialect.separator, dialect.prelude), header, "line", shown):
        frame, of_headers = joined.without_headers(frame, header, names)
        notes += of_headers
    if shape.short is not None:
        line, fields = shape.short
        notes.append(
            f"{shape.shorts} row{'s' * (shape.shorts > 1)} with fewer fields than the header's {len(names)} (the "
            f"first, line {line + dialect.prelude}, has {fields}): the missing ones are empty"
        )
    return Text(frame, names, notes), shape


def _check(shape: csv_shape.Shape, dialect: dialects.Dialect, shown: Path) -> None:
    """SelfieError, with its line, for what no reader can mend."""
    if shape.open_quote is not None:
        line = shape.open_quote + dialect.prelude
        raise SelfieError(f"cannot read {shown}: line {line} opens a quote that is never closed")
    if shape.long is not None:
        line, fields = shape.long
        raise SelfieError(
            f"cannot read {shown}: line {line + dialect.prelude} has {fields} fields, the header {shape.fields}: a "
            "field with a separator in it must stand in quotes (or the header lacks a name)"
        )


def _header(path: Path, dialect: dialects.Dialect) -> list[str]:
    """Read the names of the columns: the first record that is not blank."""
    with _records(path, dialect) as records:
        return _unpadded(next((row for row in records if row), []), dialect)


def _by_polars(
    path: Path, dialect: dialects.Dialect, names: list[str], wanted: list[str], whole: Whole
) -> pl.DataFrame | None:
    """Read by polars; None where it gives up, and the csv module may say why, or read on."""
    numbers = {name for name in wanted if whole(name)}
    for integers in [numbers, set()] if numbers else [set()]:  # a value that is none: all columns as text, once more
        schema = {name: pl.Int64 if name in integers else pl.String for name in names}
        with suppress(pl.exceptions.PolarsError, OSError):
            table = pl.scan_csv(path, schema=schema, glob=False, separator=dialect.separator)
            return table.select(wanted).collect()
    return None


def _by_csv(
    path: Path, dialect: dialects.Dialect, names: list[str], wanted: list[str], shown: Path
) -> tuple[pl.DataFrame, csv_shape.Shape]:
    """Read by Python's csv module, and find the shape on the way."""
    shape = csv_shape.Shape(fields=len(names))
    place_of = {name: place for place, name in enumerate(names)}
    places = [place_of[name] for name in wanted]
    schema = dict.fromkeys(wanted, pl.String)
    chunks, columns = [pl.DataFrame(schema=schema)], _columns(wanted)
    size, at_a_time = path.stat().st_size, min(CHUNK, 1000 + CHUNK * 10 // (1 + len(wanted)))
    try:
        for row in _rows(path, dialect, shape):
            for place, values in zip(places, columns.values()):
                values.append(row[place] or None)
            if shape.records % at_a_time == 0:
                cells.check(shape.records, len(wanted), size, shown)
                chunks.append(pl.DataFrame(columns, schema=schema))
                columns = _columns(wanted)
    except csv.Error as error:
        raise SelfieError(f"cannot read {shown}: line {shape.lines + dialect.prelude}: {error}") from error
    _check(shape, dialect, shown)
    return pl.concat([*chunks, pl.DataFrame(columns, schema=schema)]), shape


def _unpadded(row: list[str], dialect: dialects.Dialect) -> list[str]:
    return [field.strip(" ") for field in row] if dialect.padded else row


def _columns(names: list[str]) -> dict[str, list[str | None]]:
    return {name: [] for name in names}


def _rows(path: Path, dialect: dialects.Dialect, shape: csv_shape.Shape) -> Iterator[list[str]]:
    """Yield the records after the header, filled up to its width, and note in `shape` what is not as it should be.

    Ends at a record with too many fields.
    """
    header = False
    with _records(path, dialect, sentinel=True) as records:
        for row in records:
            row = _unpadded(row, dialect)
            begins, shape.lines = shape.lines + 1, records.line_num
            if row == [_SENTINEL]:
                return
            if not row or not header:
                header = header or bool(row)
                continue
            if shape.lines > begins:
                if row[-1].endswith(_SENTINEL):
                    shape.open_quote = begins
                    return
                if shape.swallowed is None and (place := _swallowed(row, dialect.separator, shape.fields)) is not None:
                    shape.swallowed = begins + place
            shape.records += 1
            missing = shape.fields - len(row)
            if missing < 0:
                shape.long = (shape.lines, len(row))
                return
            if missing:
                shape.short = shape.short or (shape.lines, len(row))
                shape.shorts += 1
                row += [""] * missing
            yield row


def _swallowed(row: list[str], separator: str, width: int) -> int | None:
    """Find the first line inside of a field from which on lines look like rows: its place in the field, else None."""
    if width < 4:
        return None
    for value in row:
        run = 0
        for number, line in enumerate(value.split("\n")[1:-1], 1):
            run = run + 1 if line.count(separator) == width - 1 and '"' not in line else 0
            if run >= csv_shape.ROWS_IN_A_FIELD:
                return number - run + 1
    return None


_SENTINEL = "\x1eend of the table\x1e"  # comes back as a record of its own if no quote is open at the end of the file


@contextmanager
def _records(path: Path, dialect: dialects.Dialect, sentinel: bool = False) -> Iterator[Any]:
    """Open a file for the csv module, whose fields may be of any length here."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            yield csv.reader(
                _lines(file, sentinel),
                delimiter=dialect.separator,
                skipinitialspace=dialect.padded,
                quotechar=dialect.quote,
                escapechar=dialect.escape,
            )
    finally:
        csv.field_size_limit(before)


def _lines(file: Iterable[str], sentinel: bool) -> Iterator[str]:
    """Yield a file's lines, and a last one that tells whether the file ended inside of a quoted field."""
    for line in file:
        yield line if line.endswith(("\n", "\r")) else line + "\n"
    if sentinel:
        yield _SENTINEL
