"""Read any table that people have: CSV in its dialects, JSON, Parquet, Excel, compressed or not; no row is lost.

What a file is, its first bytes say; its name decides between CSV and JSON only. Every reader's rows are held against a
count that was made another way: csv_shape's for CSV, lines for JSON Lines, the metadata's for Parquet.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Callable, NamedTuple

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import cells, csv_table, excel_table, json_table, nested, no_tables, unpack
from selfie.data import columns as column_names

log = logging.getLogger(__name__)
CSV = (".csv", ".tsv", ".tab", ".psv", ".txt")
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*CSV, *JSON_LINES, ".json", ".parquet", ".xlsx")
# How JSON begins; no header of CSV does.
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*[{\]]")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?[\s\x1e]*\{\s*(?:\"(?:[^\"\\]|\\.)*\"\s*:|\})")


class Table(NamedTuple):
    """A table as it was read.

    frame   the columns that were asked for, under their names in the file; of CSV and Excel all are text, but those of
            CSV that may be whole numbers and are
    names   of all columns of the file
    notes   what the user should know of how it was read
    """

    frame: pl.DataFrame
    names: list[str]
    notes: list[str]


def load(
    path: str | os.PathLike,
    pick: nested.Pick | None = None,
    what: str = "table",
    as_text: Callable[[str], bool] = lambda name: False,
    whole: Callable[[str], bool] = lambda name: False,
) -> Table:
    """Read a table's columns that `pick` returns when it is given the names of all; None: all.

    `what` it is, for messages; `as_text` says of a column of JSON by its name whether numbers in it shall be text,
    `whole` of one of CSV whether it may come as whole numbers (csv_table.read).
    SelfieError for a file that is missing, of no known kind, or damaged, with the line where there is one.
    """
    path = paths.existing(path, what)
    if not path.is_file():
        raise SelfieError(f"{path} is not a file: a {what} is a .csv, .jsonl or .parquet file")
    try:
        compression = unpack.kind(path)
        with unpack.unpacked(path) as plain:
            table = _load(plain, pick, path, as_text, whole)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SelfieError(f"cannot read {path}: {_first_line(error)}") from error
    return table._replace(notes=[compression, *table.notes] if compression else table.notes)


def read(
    path: str | os.PathLike, types: Mapping[str, type[pl.DataType]], what: str = "table", every: bool = False
) -> pl.DataFrame:
    """Read the columns {name: type} of a CSV file of our own making; with `every`, the others too, as text.

    How it was read is told. SelfieError for a column that is missing, or a value that is not of its type.
    """
    table = load(path, None if every else lambda names: [name for name in names if name in types], what)
    tell(path, table.notes)
    for name in types:
        if name not in table.names:
            raise SelfieError(column_names.missing(name, table.names, path).partition(": if '")[0])
    try:
        typed = table.frame.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items())
    except pl.exceptions.PolarsError as error:
        raise SelfieError(f"cannot read {path}: {_first_line(error)}") from error
    return typed if every else typed.select(list(types))


def inferred(path: str | os.PathLike, text: Collection[str] = (), what: str = "table") -> pl.DataFrame:
    """Read a CSV file, each column as integers or numbers if all its values are, else text; those of `text` as text."""
    frame = load(path, None, what).frame
    return frame.with_columns(_narrowed(frame[name]) for name in frame.columns if name not in text)


def tell(path: str | os.PathLike, notes: list[str]) -> None:
    """Tell the user, in one line, how a file was read, if there is something to tell."""
    if notes:
        log.info("%s: %s", path, "; ".join(notes))


def _load(
    path: Path,
    pick: nested.Pick | None,
    shown: Path,
    as_text: Callable[[str], bool],
    whole: Callable[[str], bool],
) -> Table:
    """Read a file that is not compressed."""
    with open(path, "rb") as file:
        start = file.read(4096)
    suffix = path.suffix.lower()
    if start.startswith(b"PAR1"):
        return _parquet(path, pick, shown)
    if start.startswith(b"PK\x03\x04") and unpack.is_workbook(path):
        frame, notes = excel_table.read(path, shown)
        return Table(*nested.select(frame.lazy(), pick), notes)
    if other := no_tables.named(start):
        raise SelfieError(f"{shown} is {other}")
    if suffix == ".json" or (suffix in (*CSV, *JSON_LINES) and _ARRAY.match(start)):
        return Table(*json_table.read_whole(path, shown, as_text, pick))
    if suffix in JSON_LINES or (suffix in CSV and _OBJECT.match(start)):
        return Table(*json_table.read_lines(path, shown, as_text, pick))
    if suffix in (".parquet", ".xlsx"):
        raise SelfieError(f"cannot read {shown}: it is not a {suffix} file, whatever its name says")
    if suffix not in CSV:
        raise SelfieError(
            f"{shown}: a table is named {', '.join(SUFFIXES)} (or with {', '.join(unpack.SUFFIXES)}), not '{suffix}'"
        )
    return Table(*csv_table.read(path, pick, shown, column_names.KNOWN, whole))


def _parquet(path: Path, pick: nested.Pick | None, shown: Path) -> Table:
    """Read Parquet, and hold its rows against the number in its metadata."""
    table = pl.scan_parquet(path, glob=False)
    rows = table.select(pl.len()).collect().item()

    def counted(names: list[str]) -> Collection[str]:
        wanted = table.collect_schema().names() if pick is None else pick(names)
        cells.check(rows, len(wanted), path.stat().st_size, shown)
        return wanted

    frame, names = nested.select(table, counted)
    if frame.width and frame.height != rows:
        raise SelfieError(f"cannot read {shown}: it has {rows} rows, but {frame.height} were read")
    return Table(frame, names, [])


def _narrowed(column: pl.Series) -> pl.Series:
    """Cast text to integers or numbers where all of it is."""
    for dtype in (pl.Int64, pl.Float64):
        cast = column.cast(dtype, strict=False)
        if cast.null_count() == column.null_count():
            return cast
    return column


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
