"""Manifests: read the table of selfies as people have it, write it; list a folder of pictures as one.

One row per selfie. Columns with a meaning here, of which a table may have any:

    id          text, the selfie's name, unique
    path        text, its file, relative to the folder of images
    user        text, who posted it
    tags        text, space-separated, without '#'; other lists of tags are turned into that
    followers   integer, of the user
    likes       integer
    posted_at   ISO 8601 text or a timestamp; UTC if it names no zone; stays as it is written (selfie.data.moments)
    face_count  integer, from tools/filter_faces.py
    popularity  float, for data sets that publish a score instead of likes
    content     text, a hash of the picture: equal content, equal picture

Other columns pass through untouched. read() gives these types whatever the file's format, so id 007 stays "007" and a
number that is none ("n/a", an empty field) becomes null, which the filters count. No row is dropped here; tables.py
says how that is held.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, NamedTuple

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.data import columns as column_names
from selfie.data import listing, moments, tables, values

TEXT = ("id", "path", "user", "tags", "content")
INTEGER = ("followers", "likes", "face_count")
REAL = ("popularity",)
KNOWN = (*TEXT, *INTEGER, *REAL, "posted_at")

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


class Reading(NamedTuple):
    """How a foreign table is to be read.

    mapping   {name here: name in the file}, for tables whose columns are called otherwise
    decimal   '.' or ',': what stands before the decimals of numbers; None: the table tells, see values.numbers
    outside   paths may lead out of the folder of pictures
    """

    mapping: Mapping[str, str] = MappingProxyType({})
    decimal: str | None = None
    outside: bool = False


AS_IT_IS = Reading()


def read(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    reading: Reading = AS_IT_IS,
    needs: Sequence[str] = (),
) -> pl.DataFrame:
    """`load` a table of selfies, `require` what it `needs`, and tell in one line how it was read; returns its rows."""
    table = load(path, columns, reading)
    require(table.frame, needs, path, table.names)
    tables.tell(path, table.notes)
    return table.frame


def load(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    reading: Reading = AS_IT_IS,
) -> tables.Table:
    """Read a table of selfies: CSV in any dialect, JSON Lines, JSON, Parquet, Excel; compressed or not.

    With `columns`, only these, of those that the file has, are read. Names are found without regard to case and spaces.
    The notes of the result say how the file was read, and how many values of a column could not be.
    SelfieError for a file that is missing, unreadable or has a column of another kind than said above, with the line
    number where the format has lines.
    """
    mapping, found = reading.mapping, dict[str, str]()

    def pick(names: list[str]) -> list[str]:
        found.update(column_names.find(names, KNOWN if columns is None else columns, mapping))
        top = set(names) if columns is None else set()
        return [name for name in names if name in found.values() or (name in top and not _inner(name, names))]

    ours = {column_names.plain(name) for name in (*KNOWN, *mapping.values())}

    def whole(name: str) -> bool:
        columns_of = {column for column, its in found.items() if its == name}
        return bool(columns_of) and columns_of <= {*INTEGER}  # not one that is an id as well, say

    table = tables.load(path, pick, "manifest", lambda name: column_names.plain(name) in ours, whole)
    frame, notes = _renamed(table.frame, found, mapping)
    names, notes = table.names, table.notes + notes
    waiting = frame.get_columns()[::-1]
    del table, frame  # so that a column's memory is free when its values are typed
    typed = []
    while waiting:
        column, of_column = _typed(waiting.pop(), path, reading.decimal)
        typed.append(column)
        notes += of_column
    return tables.Table(pl.DataFrame(typed), names, notes)


def write(frame: pl.DataFrame, path: str | os.PathLike) -> None:
    """Write a table as the suffix says (.csv, .jsonl, .ndjson, .parquet), whole or not at all.

    What a format cannot hold is written as text: lists and objects as JSON, bytes as UTF-8 or else in hex.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise _unknown_suffix(path)
    if suffix != ".parquet":
        frame = frame.with_columns(_written(column) for column in frame if not _holds(suffix, column.dtype))
    writers: dict[str, Callable] = {
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
        ".ndjson": frame.write_ndjson,
        ".parquet": frame.write_parquet,
    }
    with paths.atomic_path(path) as temporary:
        try:
            writers[suffix](temporary)
        except (pl.exceptions.PolarsError, OSError) as error:  # polars wraps a full disk in either, without an errno
            raise SelfieError(f"cannot write {path}: {_first_line(error)}") from error


def require(
    frame: pl.DataFrame, columns: Sequence[str], path: str | os.PathLike, names: Collection[str] | None = None
) -> None:
    """Raise SelfieError for the first of `columns` that the table read from `path` lacks.

    It has all names of the file (`names`, where not all its columns were read), and the column that may be meant.
    """
    for column in columns:
        if column not in frame.columns:
            raise SelfieError(column_names.missing(column, frame.columns if names is None else names, path))


def from_folder(folder: str | os.PathLike) -> pl.DataFrame:
    """Table (id, path) of every image file in `folder` and below, sorted; for scoring only, there is nothing to label.

    Which files are pictures, `listing.below` says. Both columns hold the path relative to `folder`, with '/'.
    SelfieError when there is none, and for a name that is not UTF-8.
    """
    pictures = listing.below(folder).pictures
    if not pictures:
        raise SelfieError(f"no image file in {shown(folder)} or below")
    for name in pictures:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise SelfieError(f"a file name in {shown(folder)} is not UTF-8: rename {shown(name)}") from error
    return pl.DataFrame({"id": pictures, "path": pictures}, schema={"id": pl.String, "path": pl.String})


def _holds(suffix: str, dtype: pl.DataType) -> bool:
    """Whether CSV, or else JSON Lines, can hold a type; polars' writers give up, or panic, where not."""
    if dtype in (pl.Binary, pl.Duration, pl.Object):
        return False
    if suffix == ".csv":
        return not dtype.is_nested()
    inner: list[Any] = [each.dtype for each in dtype.fields] if isinstance(dtype, pl.Struct) else []
    inner += [dtype.inner] if isinstance(dtype, (pl.List, pl.Array)) else []
    return all(_holds(suffix, each) for each in inner)


def _written(column: pl.Series) -> pl.Series:
    """Write the values of a column as text."""
    texts = [None if value is None else _as_json(value) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def _as_json(value: object) -> str:
    """Write a value as JSON; what JSON has not as text, without quotes where it stands alone."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=_as_json)
    return str(value)


# --- columns ---------------------------------------------------------------------------------------------------------


def _inner(name: str, names: Collection[str]) -> bool:
    """Whether a column is a field of another one, which is read whole."""
    parts = name.split(".")
    return any(".".join(parts[:place]) in names for place in range(1, len(parts)))


def _renamed(
    frame: pl.DataFrame, found: Mapping[str, str], mapping: Mapping[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """Give the columns our names; returns the table, and notes on what was found under another name."""
    names = {theirs: ours for ours, theirs in found.items() if theirs in frame.columns}
    notes = [f"column '{theirs}' is {ours}" for theirs, ours in names.items() if theirs != ours and ours not in mapping]
    for name in frame.columns:
        if name in names.values() and name not in names:  # another column was mapped to its name
            names[name] = f"{name}_unmapped"
    return frame.rename(names), notes


def _typed(column: pl.Series, path: str | os.PathLike, decimal: str | None) -> tuple[pl.Series, list[str]]:
    """Cast a column to the type this module promises; returns it, and notes on how its values were read.

    SelfieError if it cannot hold such values.
    """
    name, dtype = column.name, column.dtype
    if name in KNOWN and isinstance(dtype, pl.Struct):
        fields = [f"{name}.{field.name}" for field in dtype.fields]
        likely = column_names.guess(name, [field.name for field in dtype.fields])
        raise SelfieError(
            f"{path}: column '{name}' holds several fields ({column_names.listed(fields)}): say which one it is, as in "
            f"--map {shlex.quote(f'{name}={name}.{likely}' if likely else f'{name}={fields[0]}')}"
        )
    column = _as_text(column, path) if name in KNOWN else column
    if name == "tags" and (column.dtype == pl.String or isinstance(dtype, (pl.List, pl.Array))):
        try:
            column = values.tags(column)
        except SelfieError as error:
            raise SelfieError(f"{path}: {error}") from error
    dtype = column.dtype
    if name in TEXT:
        if not (dtype in (pl.String, pl.Null) or dtype.is_numeric()):
            raise SelfieError(f"{path}: column '{name}' holds {dtype}, not text")
        text = column.cast(pl.String)
        blank = ~text.str.contains(r"\S")
        text = text.set(blank, None) if blank.any() else text  # blank is missing
        return text, _shortened(text) if name in ("id", "user") else []
    if name in INTEGER + REAL:
        if not (dtype in (pl.String, pl.Null) or dtype.is_numeric()):
            raise SelfieError(f"{path}: column '{name}' holds {dtype}, not numbers")
        number = values.numbers(column, name in INTEGER, decimal, f"{path}: column '{name}'")
        kind = "whole numbers" if name in INTEGER else "numbers"
        notes = [f"{name}: {number.guessed}"] if number.guessed else []
        if number.unreadable:
            notes.append(
                f"{name}: {number.unreadable} of {len(column)} values are no {kind}, such as '{number.example}'"
            )
        return number.values, notes
    if name == "posted_at":
        try:
            moments.check(dtype, name)
        except SelfieError as error:
            raise SelfieError(f"{path}: {error}") from error
    return column, []


def _shortened(text: pl.Series) -> list[str]:
    """Tell of numbers that a spreadsheet program has rounded: many ids become one."""
    first = text.head(1000)
    rounded = first.filter(first.str.contains(r"^\d(?:[.,]\d+)?[eE]\+\d\d$"))
    if rounded.is_empty():
        return []
    return [
        f"{text.name}: '{rounded[0]}' was rounded by a spreadsheet, so different ones may be alike: save it as text"
    ]


def _as_text(column: pl.Series, path: str | os.PathLike) -> pl.Series:
    """Return text that is stored as categories (pandas, dictionaries), or as bytes (Impala, old Spark), as text."""
    if isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String)
    if column.dtype != pl.Binary:
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise SelfieError(f"{path}: column '{column.name}' holds bytes that are not UTF-8 text") from error


def _unknown_suffix(path: Path) -> SelfieError:
    return SelfieError(
        f"{path}: a table of selfies is written as .csv, .jsonl, .ndjson or .parquet, not '{path.suffix}'"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
