"""Fields of a manifest from what records hold: where each was taken from, which rows lack it, which cannot be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from selfie.common import names
from selfie.data import moments, values
from selfie.data.posts.source import Source, at, first, hashtags, strings, text

COLUMNS = ("id", "path", "user", "followers", "likes", "tags", "posted_at")
_NOTHING = ("", "[]", "null", "none", "{}")


class Value(NamedTuple):
    """A field as a record holds it: its text, and the place that it was taken from."""

    text: str | None = None
    place: str = ""


HIDDEN = Value(None, "hidden")


def row(source: Source, record: dict) -> dict[str, Value]:
    """Read a record's fields."""
    read = {field: _found(source, record, field) for field in ("id", "user", "followers", "likes", "posted_at")}
    read["id"] = read["id"]._replace(text=names.printable(read["id"].text or "") or None)
    read["tags"] = _tags(source, record)
    if source.hides(record):
        read["likes"] = HIDDEN
    return read


def merged(row: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    """Fill what a row lacks from another of the same post."""
    return {field: value if value.text is not None or value is HIDDEN else other[field] for field, value in row.items()}


def table(rows: Sequence[dict[str, Value]], decimal: str | None, where: object) -> tuple[pl.DataFrame, list[str]]:
    """Make the manifest of rows, and say of each field what was taken and how many rows lack it.

    SelfieError for numbers that may be two, unless `decimal` says which; `where` they stand.
    """
    columns = {field: pl.Series(field, [row[field].text for row in rows], dtype=pl.String) for field in COLUMNS}
    unread: dict[str, list[str]] = {field: [] for field in COLUMNS}
    for field in ("followers", "likes"):
        number = values.numbers(columns[field], True, decimal, f"{where}: {field}")
        hidden = number.values.filter(number.values < 0)
        if number.unreadable:
            unread[field].append(f"{number.unreadable} no whole number, such as {names.shown(str(number.example))}")
        if len(hidden):
            unread[field].append(f"{len(hidden)} below zero, as hidden ones are, such as {hidden[0]}")
        columns[field] = number.values.set(number.values < 0, None)
    if hidden_likes := sum(row["likes"] is HIDDEN for row in rows):
        unread["likes"].append(f"{hidden_likes} hidden by their owner")
    columns["posted_at"], bad = _moments(columns["posted_at"])
    unread["posted_at"] += bad
    columns["tags"] = values.tags(columns["tags"])
    frame = pl.DataFrame(columns)
    return frame, [_told(field, rows, frame[field], unread[field]) for field in COLUMNS[2:]]


def _found(source: Source, record: dict, field: str) -> Value:
    """Find the first value of a field; where only a list or an object stands, its kind stands for it."""
    other = Value()
    for place in source.fields.get(field, ()):
        value = at(record, place)
        if found := text(value):
            return Value(found, place)
        if value is not None and value != "" and field in ("followers", "likes", "posted_at"):
            other = Value(f"a {type(value).__name__}", place)
    return other


def _tags(source: Source, record: dict) -> Value:
    """Find the tags; where there are none, those in the caption; no text where there is neither."""
    for place in source.fields.get("tags", ()):
        value: Any = at(record, place)
        if isinstance(value, list):
            tags = [tag for each in strings(value) if (tag := re.sub(r"[\s#,;|\[\]\"']+", "", each))]
            if tags:
                return Value(" ".join(dict.fromkeys(tags)), place)
        elif text(value).casefold() not in _NOTHING:
            return Value(text(value), place)
    caption = first(record, *source.fields.get("caption", ()))
    if caption:
        return Value(" ".join(hashtags(caption)), "the caption's hashtags")
    empty = next((place for place in source.fields.get("tags", ()) if at(record, place) is not None), None)
    return Value("", empty) if empty else Value()


def _moments(column: pl.Series) -> tuple[pl.Series, list[str]]:
    found = moments.timestamps(column)
    bad = column.filter(found.is_null() & column.is_not_null())
    told = [f"{len(bad)} no time, such as {names.shown(bad[0][:60])}"] if len(bad) else []
    return found.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), told


def _told(field: str, rows: Sequence[dict[str, Value]], column: pl.Series, unread: list[str]) -> str:
    places = Counter(row[field].place for row in rows if row[field].text is not None)
    taken = ", ".join(f"{names.shown(place)} ({count})" for place, count in places.most_common()) or "nothing"
    lack = column.null_count()
    return f"{field}: from {taken}; {lack} of {len(column)} rows lack it" + (
        f" ({'; '.join(unread)})" if unread else ""
    )
