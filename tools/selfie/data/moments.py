"""Times as tables have them: ISO 8601, seconds since 1970, e-mail's and Twitter's forms, days without zeros, names of
months, cameras' colons, AM and PM.
"""

from __future__ import annotations

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import values

# Whole numbers are times by their size: years 1973 to 2286 in seconds, milliseconds, micro- and nanoseconds.
_EPOCHS = (
    (10**8, 10**10, 1_000_000),
    (10**11, 10**13, 1_000),
    (10**14, 10**16, 1),
    (10**17, 9 * 10**18, 0.001),
)
_CALENDAR = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999, in microseconds
_PLAIN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"  # what most tables have is read ten times as fast as the rest
_COMPACT = r"^((?:19|20)\d\d)(\d\d)(\d\d)(?:T?(\d\d)(\d\d)(\d\d)(?:[.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?$"
_SLASHED = r"^(\d{1,2})[/-](\d{1,2})[/-](\d{4})\b"
_DAY = r"^(\d{4}-\d\d-\d\d|\d\d? [A-Za-z]+ \d{4})"  # to which all other forms are brought
_FORMS = [f"{day} {time} %z" for day in ("%Y-%m-%d", "%d %B %Y") for time in ("%H:%M:%S%.f", "%I:%M:%S %p")]


def check(dtype: pl.DataType, name: str = "posted_at") -> None:
    """SelfieError if a column of `dtype` cannot hold times."""
    fine = isinstance(dtype, pl.Datetime) or dtype in (pl.Date, pl.Null, pl.String) or dtype.is_numeric()
    if not fine:
        raise SelfieError(f"column '{name}' holds {dtype}, not ISO 8601 text or timestamps")


def timestamp(dtype: pl.DataType, name: str = "posted_at") -> pl.Expr:
    """Expression for a column of times as naive UTC, Datetime[us]; null where it is no time that can only be one.

    25.10.2015, with points, is the day first. Text without a zone is UTC. SelfieError if a column of `dtype` cannot
    hold times.
    """
    check(dtype, name)
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return column.cast(pl.Datetime("us"))
    if dtype == pl.String:
        return _iso(column.str.strip_chars()).alias(name)
    if dtype.is_numeric():
        return _epoch(column.cast(pl.Float64)).alias(name)
    return column.cast(pl.Datetime("us"))


def timestamps(column: pl.Series) -> pl.Series:
    """`timestamp` of a column, and where that finds none, what the other forms say."""
    return read(column)[0]


def read(column: pl.Series) -> tuple[pl.Series, list[str]]:
    """`timestamps`, and what is to be told of them: values that are none, and days that another value explains.

    1/3/2015 may be in January or March. Where another value of the column can only be one (13/3/2015), and none says
    otherwise, it tells; else it is no time.
    """
    frame, name = column.to_frame(), column.name
    if column.dtype != pl.String:
        found = frame.select(timestamp(column.dtype, name)).to_series()
        if column.dtype.is_integer() and found.null_count() > column.null_count():  # 20150301, 20150301102030
            days = column.is_between(19_000_101, 21_001_231) | column.is_between(19_000_101 * 10**6, 21_001_232 * 10**6)
            found = found.fill_null(read(column.set(~days, None).cast(pl.String))[0])
        found = _of_the_calendar(found)
        return found, _unread(column, found)
    plain = pl.Series(column.str.contains(_PLAIN).fill_null(False))
    quick = pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", strict=False)
    if plain.all():
        found = frame.select(quick).to_series()
    else:
        slow = frame.select(pl.when(~plain).then(pl.col(name)).alias(name)).select(timestamp(column.dtype, name))
        found = frame.select(pl.when(plain).then(quick).alias(name)).to_series().fill_null(slow.to_series())
    found = _of_the_calendar(found)
    missing = found.is_null() & column.is_not_null()
    if not missing.any():
        return found, []
    rest = frame.filter(missing).unique(maintain_order=True)
    text, notes = _ordered(_straight(rest[name]))
    known = rest.with_columns(other=text.to_frame().select(_others(pl.col(name))).to_series()).drop_nulls()
    if not known.is_empty():
        other = column.replace_strict(known[name], known["other"], default=None, return_dtype=pl.Datetime("us"))
        found = _of_the_calendar(found.fill_null(other))
    return found, notes + _unread(column, found)


def _of_the_calendar(found: pl.Series) -> pl.Series:
    """Leave out times of years that Python's datetime does not know, such as 0, which databases write for none."""
    numbers = found.to_physical()  # microseconds since 1970
    outside = ~numbers.is_between(*_CALENDAR).fill_null(True)
    return found.set(outside, None) if outside.any() else found


def _unread(column: pl.Series, found: pl.Series) -> list[str]:
    """Count the values that are no times, with an example."""
    bad = column.filter(found.is_null() & column.is_not_null()).cast(pl.String)
    bad = bad.filter(~bad.str.strip_chars().str.to_lowercase().is_in(values.MISSING))
    if bad.is_empty():
        return []
    example = bad[0][: values.EXAMPLE]
    either = " (day or month first?)" if pl.Series([example.strip()]).str.contains(_SLASHED)[0] else ""
    return [f"{column.name}: {len(bad)} of {len(column)} values are no times, such as '{example}'{either}"]


def _iso(text: pl.Expr) -> pl.Expr:
    """ISO 8601: a day gets its midnight, a time without a zone gets UTC, one without seconds gets :00."""
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00Z")
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T").str.replace(r"z$", "Z")
    text = text.str.replace(r"T(\d\d:\d\d)(Z|[+-]\d\d(?::?\d\d)?)?$", "T${1}:00${2}")
    text = text.str.replace(r"(T\d\d:\d\d:\d\d(?:\.\d+)?)$", "${1}Z")
    text = pl.when(text.str.contains(r"^\d{4}-")).then(text)  # chrono also takes years of other lengths
    parsed = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return parsed.dt.replace_time_zone(None)


def _straight(text: pl.Series) -> pl.Series:
    """Write digits, dashes and marks of other scripts in ASCII, and leave out what cannot be seen."""
    odd = {
        "年": "-",
        "月": "-",
        "日": " ",
        **dict.fromkeys("‐‑–—−－", "-"),
        **dict.fromkeys("\u200b\u200e\u200f\ufeff", ""),
    }
    odd |= {chr(zero + digit): str(digit) for zero in (0x660, 0x6F0, 0xFF10) for digit in range(10)}
    return text.str.replace_many(odd).str.replace_all(r"[\s\x{a0}\x{202f}]+", " ").str.strip_chars()


def _ordered(text: pl.Series) -> tuple[pl.Series, list[str]]:
    """Write 13/3/2015 and 3/13/2015 as 2015-03-13, and others as these tell; returns a note on that."""
    parts = text.to_frame().select(
        first=text.str.extract(_SLASHED, 1).cast(pl.Int32), second=text.str.extract(_SLASHED, 2).cast(pl.Int32)
    )
    of_days, of_months = parts["first"] > 12, parts["second"] > 12
    either = ~of_days & ~of_months & (parts["first"] != parts["second"])
    day_first, month_first = bool(of_days.any()), bool(of_months.any())
    notes = []
    if either.any() and day_first != month_first:
        example, telling = text.filter(either)[0], text.filter(of_days if day_first else of_months)[0]
        order = "day" if day_first else "month"
        notes = [f"{text.name}: '{example}' is read with the {order} first, as '{telling}' tells"]
    same = parts["first"] == parts["second"]
    days = (of_days | same | (either & (day_first and not month_first))).fill_null(False)
    months = (of_months | (either & (month_first and not day_first))).fill_null(False)
    written = (
        pl.when(days).then(text.str.replace(_SLASHED, "${3}-${2}-${1}"))
        .when(months).then(text.str.replace(_SLASHED, "${3}-${1}-${2}"))
        .otherwise(text)
    )  # fmt: skip
    return text.to_frame().select(written.alias(text.name)).to_series(), notes


def _others(text: pl.Expr) -> pl.Expr:
    """Every other form. They exclude each other, so that their order does not matter."""
    number = pl.when(text.str.contains(r"^\d{9,19}(\.\d+)?$") & ~text.str.contains(_COMPACT))
    day = text.str.replace(r"(?i)^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? ", "")
    day = day.str.replace(
        r"(?i)^([a-z]+) +(\d\d?) (\d\d:\d\d:\d\d)(?: ([+-]\d{4}|UTC|GMT|Z))? (\d{4})$", "$2 $1 $5 $3 $4"
    )
    day = day.str.replace(r"(?i)^([a-z]{3,9})\.? (\d\d?)(?:st|nd|rd|th)?,? (\d{4})", "$2 $1 $3")
    day = day.str.replace(r"(?i)^(\d\d?)(?:st|nd|rd|th)?\.?[- ]([a-z]{3,9})\.?,?[- ](\d{4})", "$1 $2 $3")
    day = day.str.replace(r"^(\d{4})[-/.:](\d{1,2})[-/.:](\d{1,2})", "${1}-0${2}-0${3}")
    day = day.str.replace(r"^(\d\d?)\.(\d\d?)\.(\d{4})", "${3}-0${2}-0${1}")
    day = day.str.replace(_COMPACT, "${1}-${2}-${3} ${4}:${5}:${6} ${7}").str.replace(r" ::( |$)", " ")
    day = day.str.replace(r"^(\d{4})-0(\d\d)-", "${1}-${2}-").str.replace(
        r"^(\d{4}-\d\d)-0(\d\d)($|\D)", "${1}-${2}${3}"
    )
    time = day.str.replace(r"(?i),? at ", " ").str.replace(_DAY + r",? *[ T_,] *(\d\d?)[:-]", "$1 $2:")
    time = time.str.replace(r" (\d\d:\d\d)-(\d\d)", " $1:$2").str.replace(r" (\d:)", " 0$1")
    time = time.str.replace(r"(:\d\d:\d\d),(\d)", "$1.$2").str.replace(r"(?i)(\d)[ _]*(?:UTC|GMT|Z)$", "$1 +0000")
    time = time.str.replace(r" *([+-]\d\d):?(\d\d)(?: [A-Z]{3,4}| \+0000)?$", " $1$2").str.strip_chars()
    time = time.str.replace(_DAY + r"( [+-]\d{4})?$", "$1 00:00:00$2").str.replace(r" (\d\d:\d\d)( |$)", " $1:00$2")
    time = time.str.replace(r"(?i)(:\d\d) ?([ap])\.?m\.?", "$1 ${2}m")
    time = time.str.replace(r"(:\d\d(?:\.\d+)?(?: [apAP]m)?)$", "$1 +0000")
    spoken = [time.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone(None) for form in _FORMS]
    return pl.coalesce(_epoch(number.then(text.cast(pl.Float64, strict=False))), *spoken)


def _epoch(number: pl.Expr) -> pl.Expr:
    """Seconds, milliseconds, micro- or nanoseconds since 1970, by their size."""
    times = [
        pl.when(number.is_between(low, high, closed="left")).then(
            (number * factor).round().cast(pl.Int64, strict=False)
        )
        for low, high, factor in _EPOCHS
    ]
    return pl.coalesce(*times).cast(pl.Datetime("us"))
