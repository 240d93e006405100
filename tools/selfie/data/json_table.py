"""Read JSON Lines and JSON: by polars where it can, by Python's json where not, and all objects that are there."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import cells, csv_shape, dialects, nested
from selfie.data import columns as column_names
from selfie.data.json_keys import Keys, is_odd

BLOCK = 1 << 22


_BETWEEN = re.compile(r"[\s,\x1e]*")  # values that run together

AsText = Callable[[str], bool]  # says of a column's name whether its values shall be text, unless they are nested


def read_lines(
    path: Path, shown: Path, as_text: AsText, pick: nested.Pick | None
) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Read JSON Lines, one object on a line: (table of the columns that `pick` wants, names of all, notes).

    A byte order mark, UTF-16, NaN and Infinity (which Python writes) are read, too; NaN is null. So are objects that
    are spread over several lines, or stand on one line, as jq writes them. Of a key that an object has twice the first
    is taken, and that is told. SelfieError with the line's number for what is not JSON.
    """
    dialect, keys = dialects.Dialect(dialects.encoding_of(path)), Keys()
    if dialect.encoding == "utf-8":
        dialect = replace(dialect, marks=csv_shape.count(path, b"\n" + codecs.BOM_UTF8))
    with dialects.straightened(path, dialect) as plain:
        lines = count_lines(plain)
        if not lines:
            raise SelfieError(f"cannot read {shown}: it is empty")
        by_polars = _begins_with_a_line(plain) and not is_odd(plain)
        picked = _by_polars(plain, lines, shown, as_text, pick) if by_polars else None
        if picked is None or (picked[0].width and picked[0].height != lines):
            whole = from_objects(_objects(plain, shown, keys), as_text, plain, shown)
            if whole.height != lines and _begins_with_a_line(plain):
                raise SelfieError(f"cannot read {shown}: {lines} lines were counted, but {whole.height} read")
            picked = nested.select(whole.lazy(), pick)
    return (*picked, dialect.notes + keys.notes)


def read_whole(
    path: Path, shown: Path, as_text: AsText, pick: nested.Pick | None
) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Read a JSON file as `read_lines` does.

    It is an array of objects, an object with one such array in it, one object after the other, or what pandas writes:
    {column: {row: value}}, {column: [values]}, and columns beside data.
    """
    dialect, keys = dialects.Dialect(dialects.encoding_of(path)), Keys()
    try:
        text = path.read_text("utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding)
        value = json.loads(text, object_pairs_hook=keys.object)
    except UnicodeDecodeError as error:
        raise SelfieError(f"cannot read {shown}: it is not UTF-8 text: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # ValueError: an integer of thousands of digits, too
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and text.lstrip().startswith("{"):
            return read_lines(path, shown, as_text, pick)  # JSON Lines by another name
        raise SelfieError(f"cannot read {shown}: it is not JSON ({error})") from error
    objects = _array(value)
    if objects is None:
        raise SelfieError(f"cannot read {shown}: it is not an array of JSON objects{_odd_entry(value)}")
    table = from_objects(objects, as_text, path, shown)
    return (*nested.select(table.lazy(), pick), dialect.notes + _repeated(value) + keys.notes)


def count_lines(path: Path) -> int:
    """Count the lines of a file that are not blank."""
    count, rest = 0, b""
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            count += sum(1 for line in lines if line and not line.isspace())
    return count + bool(rest.removeprefix(b"\xef\xbb\xbf").strip())


def from_objects(objects: Iterable[dict], as_text: AsText, path: Path, shown: Path) -> pl.DataFrame:
    """Make a table of JSON objects: a column for every key, of the type that all its values have, else of text.

    Text of a number is as JSON writes it, text of anything nested is JSON; lists of text stay lists.
    SelfieError if it becomes too large for the file that they stand in (cells).
    """
    columns: dict[str, list[Any]] = {}
    rows, size = 0, path.stat().st_size
    for rows, one in enumerate(objects, 1):
        cells.check(rows, len(columns), size, shown)
        for key, value in one.items():
            values = columns.setdefault(key, [])
            if missing := rows - 1 - len(values):
                values += [None] * missing
            values.append(value)
    for values in columns.values():
        values += [None] * (rows - len(values))
    return pl.DataFrame([_series(name, values, as_text(name)) for name, values in columns.items()])


def _series(name: str, values: list[Any], text: bool) -> pl.Series:
    values = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if kinds == {list} and all(isinstance(each, str) for value in values for each in value or ()):
        return pl.Series(name, _encodable(values), dtype=pl.List(pl.String))
    if kinds == {dict}:  # its fields are columns of their own
        try:
            return pl.Series(name, _encodable(values), strict=False)
        except (pl.exceptions.PolarsError, OverflowError, TypeError):  # as for 2 ** 70 in one of them
            pass
    if not text:
        for types, dtype in (({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64)):
            if kinds <= types:
                try:
                    return pl.Series(name, values, dtype=dtype)
                except (OverflowError, TypeError):  # an integer beyond 64 bits
                    break
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _encodable(value: Any) -> Any:
    """Replace lone surrogates, which JSON can hold, in all texts of a value: they are no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return value


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _encodable(value)
    return _encodable(json.dumps(value, ensure_ascii=False))


def _by_polars(
    path: Path, lines: int, shown: Path, as_text: AsText, pick: nested.Pick | None
) -> tuple[pl.DataFrame, list[str]] | None:
    """Read by polars; types are inferred from all lines, as a column may hold 1 here and "n/a" there."""
    try:
        schema = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
        cells.check(lines, len(schema), path.stat().st_size, shown)
        overrides = {name: pl.String for name in schema if as_text(name) and not schema[name].is_nested()}
        return nested.select(pl.scan_ndjson(path, infer_schema_length=None, schema_overrides=overrides), pick)
    except (pl.exceptions.PolarsError, OSError):
        return None


def _begins_with_a_line(path: Path) -> bool:
    """Whether the first line of a file that is not blank is an object by itself."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        line = next((line for line in file if line.strip()), "")
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError as error:  # of damage within, the lines are told
        return not line.startswith("\x1e") and (not line.lstrip().startswith("{") or _is_cut(line, error))
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return True


def _is_cut(line: str, error: json.JSONDecodeError) -> bool:
    """Whether an error is within a line: neither at its end, where the next goes on, nor behind a whole value."""
    return error.msg != "Extra data" and bool(line[error.pos :].strip())


def _objects(path: Path, shown: Path, keys: Keys) -> Iterable[dict]:
    """Yield the objects of a file of JSON Lines, or of objects one after the other."""
    if not _begins_with_a_line(path):
        yield from _run_together(path, shown, keys)
        return
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    value = json.loads(line, object_pairs_hook=keys.object)
                    if not isinstance(value, dict):
                        raise SelfieError(f"cannot read {shown}: line {number} is not a JSON object")
                    yield value
        except UnicodeDecodeError as error:
            raise SelfieError(f"cannot read {shown}: line {number + 1} is not UTF-8 text: save it as UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise SelfieError(f"cannot read {shown}: line {number} is not JSON ({_said(error)})") from error


def _run_together(path: Path, shown: Path, keys: Keys) -> Iterable[dict]:
    """Yield objects that stand one after the other, wherever their lines end."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SelfieError(f"cannot read {shown}: it is not UTF-8 text: save it as UTF-8") from error
    line = 1
    try:
        for line, value in run_together(text, keys):
            if not isinstance(value, dict):
                raise SelfieError(f"cannot read {shown}: line {line} is not a JSON object")
            yield value
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", line)
        raise SelfieError(f"cannot read {shown}: line {line} is not JSON ({_said(error)})") from error


def run_together(text: str, keys: Keys) -> Iterable[tuple[int, Any]]:
    """Yield (line, value) of JSON values one after the other, with commas or RS (RFC 7464) between them, or nothing.

    `keys` makes the objects, and counts those that have one twice.

    ValueError, or RecursionError, for what is not JSON.
    """
    decoder, place, line, counted = json.JSONDecoder(object_pairs_hook=keys.object), 0, 1, 0
    while True:
        match = _BETWEEN.match(text, place)
        place = match.end() if match else place
        if place >= len(text):
            return
        line, counted = line + text.count("\n", counted, place), place
        value, place = decoder.raw_decode(text, place)
        yield line, value


def _said(error: Exception) -> str:
    """What Python says of a text that is not JSON, without the place."""
    return "too deeply nested" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))


def _array(value: Any) -> list[dict] | None:
    """Find the array of objects in a JSON value: itself, the only one among an object's values, or pandas' forms."""
    if isinstance(value, list):
        return value if all(isinstance(each, dict) for each in value) else None
    if not isinstance(value, dict) or not value:
        return None
    arrays = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
    if len(arrays) == 1:
        return _array(arrays[0])
    if isinstance(names := value.get("columns"), list) and isinstance(rows := value.get("data"), list):
        fine = all(isinstance(row, list) and len(row) == len(names) for row in rows)
        names = column_names.unique(map(str, names))
        return [dict(zip(names, row)) for row in rows] if fine else None
    if all(isinstance(each, dict) for each in value.values()):
        inner = [name for each in value.values() for name in each]
        if not _known(value) > 1 and _known(inner) > 1:  # {row: {column: value}}
            return list(value.values())
        rows_of = dict.fromkeys(inner)
        return [{name: each.get(row) for name, each in value.items()} for row in rows_of] if _known(value) > 1 else None
    lists = list(value.values())
    if _known(value) > 1 and all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists):
        return [dict(zip(value, row)) for row in zip(*lists)]
    return None


def _repeated(value: Any) -> list[str]:
    """Tell of names that stand twice among pandas' columns beside data."""
    beside = isinstance(value, dict) and isinstance(value.get("columns"), list) and isinstance(value.get("data"), list)
    return column_names.repeated(map(str, value["columns"])) if beside else []


def _known(names: Iterable[str]) -> int:
    return len({name for each in names if (name := column_names.plain(each)) in column_names.KNOWN})


def _odd_entry(value: Any) -> str:
    """Say which entry of an array is no object."""
    if not isinstance(value, list):
        return ""
    return next((f": entry {n} is none" for n, each in enumerate(value, 1) if not isinstance(each, dict)), "")
