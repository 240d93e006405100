"""Times as tables have them: ISO 8601, seconds since 1970, e-mail's and Twitter's forms, days without zeros."""

from __future__ import annotations

import polars as pl

from selfie.common.errors import SelfieError

# Whole numbers are times by their size: years 1973 to 5138 in seconds, milliseconds, micro- and nanoseconds.
_EPOCHS = ((10**8, 10**11, 1_000_000), (10**11, 10**14, 1_000), (10**14, 10**17, 1))
_PLAIN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"  # what most tables have is read ten times as fast as the rest
_FORMS = (
    "%a %b %d %H:%M:%S %z %Y",  # Twitter's: Wed Oct 10 20:19:24 +0000 2018
    "%a, %d %b %Y %H:%M:%S %z",  # RFC 2822
    "%d %b %Y %H:%M:%S %z",
    "%b %d, %Y %H:%M:%S %z",
    "%Y%m%dT%H%M%S%z",  # ISO 8601 without its marks
)


def timestamp(dtype: pl.DataType, name: str = "posted_at") -> pl.Expr:
    """Expression for a column of times as naive UTC, Datetime[us]; null where it is no time that can only be one.

    1/3/2015 may be in January or March, so it is none; 25.10.2015, with points, is the day first. Text without a zone
    is UTC. SelfieError if a column of `dtype` cannot hold times.
    """
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return column.cast(pl.Datetime("us"))
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if dtype == pl.Null:
        return pl.lit(None, dtype=pl.Datetime("us")).alias(name)
    if dtype.is_numeric():
        return _epoch(column.cast(pl.Float64)).alias(name)
    if dtype != pl.String:
        raise SelfieError(f"column '{name}' holds {dtype}, not ISO 8601 text or timestamps")
    return _iso(column.str.strip_chars()).alias(name)


def timestamps(column: pl.Series) -> pl.Series:
    """`timestamp` of a column, and where that finds none, what the other forms say."""
    frame, name = column.to_frame(), column.name
    if column.dtype != pl.String:
        return frame.select(timestamp(column.dtype, name)).to_series()
    plain = pl.Series(column.str.contains(_PLAIN).fill_null(False))
    quick = pl.when(plain).then(pl.col(name)).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", strict=False)
    slow = frame.select(pl.when(~plain).then(pl.col(name)).alias(name)).select(timestamp(column.dtype, name))
    found = frame.select(quick.alias(name)).to_series().fill_null(slow.to_series())
    missing = found.is_null() & column.is_not_null()
    if not missing.any():
        return found
    rest = frame.filter(missing).unique()
    known = rest.with_columns(other=_others(pl.col(name).str.strip_chars())).drop_nulls()
    if known.is_empty():
        return found
    other = column.replace_strict(known[name], known["other"], default=None, return_dtype=pl.Datetime("us"))
    return found.fill_null(other)


def _iso(text: pl.Expr) -> pl.Expr:
    """ISO 8601: a day gets its midnight, a time without a zone gets UTC, one without seconds gets :00."""
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00Z")
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T").str.replace(r"z$", "Z")
    text = text.str.replace(r"T(\d\d:\d\d)(Z|[+-]\d\d(?::?\d\d)?)?$", "T${1}:00${2}")
    text = text.str.replace(r"(T\d\d:\d\d:\d\d(?:\.\d+)?)$", "${1}Z")
    text = pl.when(text.str.contains(r"^\d{4}-")).then(text)  # chrono also takes years of other lengths
    parsed = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return parsed.dt.replace_time_zone(None)


def _others(text: pl.Expr) -> pl.Expr:
    """Every other form. They exclude each other, so that their order does not matter."""
    number = pl.when(text.str.contains(r"^\d{9,16}(\.\d+)?$")).then(text.cast(pl.Float64, strict=False))
    zoned = text.str.replace(r"(?i)\s*(UTC|GMT|Z)(\s+\d{4})?$", " +0000${2}")  # Twitter's has the year behind the zone
    spoken = [zoned.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone(None) for form in _FORMS]
    day = text.str.replace(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", "${1}-0${2}-0${3}")
    day = day.str.replace(r"^(\d\d?)\.(\d\d?)\.(\d{4})", "${3}-0${2}-0${1}")
    day = day.str.replace(r"^(\d{4})(\d\d)(\d\d)$", "${1}-${2}-${3}")
    day = day.str.replace(r"^(\d{4})-0(\d\d)-", "${1}-${2}-").str.replace(
        r"^(\d{4}-\d\d)-0(\d\d)($|\D)", "${1}-${2}${3}"
    )
    day = day.str.replace(r"(?i)\s*(UTC|GMT|Z)$", "Z").str.replace(r"\s+([+-]\d\d:?\d\d)$", "${1}")
    day = day.str.replace(r"^(\d{4}-\d\d-\d\d),?\s+(\d:)", "${1}T0${2}")
    return pl.coalesce(_epoch(number), *spoken, _iso(day))


def _epoch(number: pl.Expr) -> pl.Expr:
    """Seconds, milliseconds or microseconds since 1970, by their size."""
    times = [
        pl.when(number.is_between(low, high, closed="left")).then(
            (number * factor).round().cast(pl.Int64, strict=False)
        )
        for low, high, factor in _EPOCHS
    ]
    return pl.coalesce(*times).cast(pl.Datetime("us"))
