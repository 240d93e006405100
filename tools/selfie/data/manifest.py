"""Manifests: read and write the table of selfies as CSV, JSONL or Parquet; list a folder of pictures as one.

One row per selfie. Columns with a meaning here, of which a table may have any:

    id          text, the selfie's name, unique
    path        text, its file, relative to the folder of images
    user        text, who posted it
    tags        text, space-separated, without '#'
    followers   integer, of the user
    likes       integer
    posted_at   ISO 8601 text or a timestamp; UTC if it names no zone
    face_count  integer, from tools/filter_faces.py
    popularity  float, for data sets that publish a score instead of likes
    content     text, a hash of the picture: equal content, equal picture

Other columns pass through untouched. read() gives these types whatever the file's format, so id 007 stays "007" and a
number that is none ("n/a", an empty field) becomes null, which the filters count. No row is dropped here.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.data import listing

TEXT = ("id", "path", "user", "tags", "content")
INTEGER = ("followers", "likes", "face_count")
REAL = ("popularity",)

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def read(path: str | os.PathLike, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table of selfies; the suffix says the format: .csv (with header), .jsonl or .ndjson, .parquet.

    With `columns`, only those (the ones the file has) are read. SelfieError for a file that is missing, unreadable or
    has a column of another kind than said above, with the line number where the format has lines.
    """
    path = paths.existing(path, "manifest")
    if not path.is_file():
        raise SelfieError(f"{path} is not a file: a manifest is a .csv, .jsonl or .parquet file")
    scan, fault = _format(path)
    try:
        table = scan(path)
        schema = table.collect_schema()
        if columns is not None:
            schema = pl.Schema({name: schema[name] for name in schema if name in columns})
        return table.select(_typed(name, dtype, path) for name, dtype in schema.items()).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SelfieError(f"cannot read {path}: {fault(path) or _first_line(error)}") from error


def write(frame: pl.DataFrame, path: str | os.PathLike) -> None:
    """Write a table as the suffix says (.csv, .jsonl, .ndjson, .parquet), whole or not at all."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise _unknown_suffix(path)
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


def require(frame: pl.DataFrame, columns: Sequence[str], path: str | os.PathLike) -> None:
    """Raise SelfieError, naming the first of `columns` that the table read from `path` lacks, and those it has."""
    for column in columns:
        if column not in frame.columns:
            raise SelfieError(f"{path} has no column '{column}' (it has: {', '.join(frame.columns)})")


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


# --- formats ---------------------------------------------------------------------------------------------------------


def _format(path: Path) -> tuple[Callable[[Path], pl.LazyFrame], Callable[[Path], str | None]]:
    """Return for a suffix the function that scans a file lazily, and the one that says what is wrong in which line."""
    suffix = path.suffix.lower()
    if suffix == ".csv":  # every field as text: the types below are ours, and foreign columns stay as they are written
        return lambda p: pl.scan_csv(p, infer_schema=False, glob=False), _csv_fault
    if suffix in (".jsonl", ".ndjson"):
        return _scan_jsonl, _jsonl_fault
    if suffix == ".parquet":
        return lambda p: pl.scan_parquet(p, glob=False), lambda _: None
    raise _unknown_suffix(path)


def _scan_jsonl(path: Path) -> pl.LazyFrame:
    """Scan JSON Lines; types are inferred from all lines, as a column may hold 1 here and "n/a" there."""
    schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
    as_text = {
        name: pl.String
        for name in (*TEXT, *INTEGER, *REAL, "posted_at")
        if name in schema and not schema[name].is_nested()
    }
    return pl.scan_ndjson(path, infer_schema_length=None, schema_overrides=as_text)


def _typed(name: str, dtype: pl.DataType, path: Path) -> pl.Expr:
    """Expression that casts column `name` of type `dtype` to the type this module promises.

    SelfieError if it cannot hold such values.
    """
    column = pl.col(name)
    if name == "tags" and dtype == pl.List(pl.String):
        return column.list.join(" ", ignore_nulls=True)
    if name in TEXT:
        if not (dtype in (pl.String, pl.Null) or dtype.is_numeric() or isinstance(dtype, (pl.Categorical, pl.Enum))):
            raise SelfieError(f"{path}: column '{name}' holds {dtype}, not text")
        text = column.cast(pl.String)
        return pl.when(text.str.contains(r"\S")).then(text).alias(name)  # blank is missing
    if name in INTEGER + REAL:
        if not (dtype in (pl.String, pl.Null) or dtype.is_numeric()):
            raise SelfieError(f"{path}: column '{name}' holds {dtype}, not numbers")
        if name in INTEGER and dtype.is_integer():
            return column.cast(pl.Int64, strict=False)
        if not dtype.is_numeric():
            column = column.cast(pl.String).str.strip_chars()
        real = column.cast(pl.Float64, strict=False)
        real = pl.when(real.is_finite()).then(real)
        if name in REAL:
            return real.alias(name)
        # 12.0 is how pandas writes 12 in a column with gaps
        whole = pl.when(real == real.floor()).then(real).cast(pl.Int64, strict=False)
        if dtype.is_float():
            return whole.alias(name)
        return pl.coalesce(column.cast(pl.Int64, strict=False), whole).alias(name)
    return column


def _csv_fault(path: Path) -> str | None:
    """Find what is wrong with a CSV file that polars refused, with its line; None where csv sees nothing wrong."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if not header:
                return "it is empty, not even a header"
            for fields in reader:
                if len(fields) > len(header):
                    return f"line {reader.line_num} has {len(fields)} fields, the header {len(header)}"
    except csv.Error as error:
        return f"line {reader.line_num}: {error}"
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    return None


def _jsonl_fault(path: Path) -> str | None:
    """Find what is wrong with a JSON Lines file that polars refused, with its line; None where json finds nothing."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            number = 0
            for number, line in enumerate(file, 1):
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number} is not a JSON object"
            return "it is empty" if not number else None
    except json.JSONDecodeError as error:
        return f"line {number} is not JSON ({error.msg})"
    except UnicodeDecodeError:
        return "it is not UTF-8 text"


def _unknown_suffix(path: Path) -> SelfieError:
    return SelfieError(f"{path}: a table of selfies is named .csv, .jsonl, .ndjson or .parquet, not '{path.suffix}'")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
