"""Values as tables have them: numbers with thousands separators and abbreviations, tags in every kind of list."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import NamedTuple

import polars as pl

from selfie.common.errors import SelfieError

# What stands behind a number, as sites and people write it; what means thousand here and million there (mil) is not in.
SCALES = {
    **dict.fromkeys(("k", "tsd", "tys", "тыс", "thousand", "rb", "千", "천"), 1_000),
    **dict.fromkeys(("万", "萬", "만"), 10_000),
    **dict.fromkeys(("lakh", "lakhs"), 100_000),
    **dict.fromkeys(("m", "mio", "mln", "mn", "млн", "million", "millions", "jt"), 1_000_000),
    **dict.fromkeys(("crore", "crores"), 10_000_000),
    **dict.fromkeys(("億", "亿", "억"), 100_000_000),
    **dict.fromkeys(("b", "bn", "mrd", "млрд", "billion", "billions"), 1_000_000_000),
}
# How people and programs write nothing: pandas, Excel, MySQL.
MISSING = (
    "",
    "null",
    "none",
    "nan",
    "na",
    "n/a",
    "-",
    "--",
    "?",
    "nil",
    "undefined",
    "<na>",
    "nat",
    "#n/a",
    "\\n",
    "—",
    "–",
)
EXAMPLE = 60  # characters of a value that a message has
_SPACES = r"[\s\u00a0\u202f\u2009'’`´]"
_GROUPED = re.compile(r"([+-]?)([1-9]\d{0,2}(?:([.,_]|" + _SPACES + r")\d{3})(?:\3\d{3})*)(?:([.,])(\d+))?")
_INDIAN = re.compile(r"([+-]?)(\d{1,2}(?:,\d\d)+,\d{3})(?:(\.)(\d+))?")
_SCALED = re.compile(r"(.*?[\d.,])\s*([^\W\d_]+)\.?", re.DOTALL)
# Full-width and Arabic marks, the minus of typesetters, and what cannot be seen.
_MARKS = {ord(each): plain for each, plain in {"，": ",", "．": ".", "－": "-", "＋": "+", "−": "-", "٬": "'"}.items()}
_PLAIN = re.compile(r"([+-]?\d+)(?:([.,])(\d+))?")
_AMBIGUOUS = r"^\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*$"  # 12.000: twelve, or twelve thousand
# What shows that a comma, or a point, stands before the decimals.
_COMMA = r"^[+-]?\d{1,3}(\.\d{3}){2,}(,\d+)?$|^[+-]?\d+(\.\d{3})*,\d{1,2}$"
_POINT = r"^[+-]?\d*\.(\d{1,2}|\d{4,})$|^[+-]?\d{4,}\.\d+$|^[+-]?0\.\d+$|^[+-]?\d{1,3}(,\d{3})+\.\d+$"


class Numbers(NamedTuple):
    """A column of numbers, and what could not be read as one.

    values      Int64 or Float64, null where there is none
    unreadable  how many values are neither numbers nor missing
    example     one of them
    guessed     how a value was read that may be two numbers, and by which other value of the column; None without one
    """

    values: pl.Series
    unreadable: int
    example: str | None
    guessed: str | None = None


def numbers(column: pl.Series, whole: bool, decimal: str | None = None, where: str = "") -> Numbers:
    """Read a column of text or numbers as whole numbers (Int64; 12.0 is 12, 1.5 is none) or as numbers (Float64).

    decimal  what stands before the decimals: '.' or ','; None: '.', but a comma before groups of three digits is taken
             as what it is, and so is any mark that can only be one of both. 12.000 alone may be 12 or 12,000:
    SelfieError if a column of whole numbers has such values and no other that tells, with `where` it stands.
    """
    if column.dtype.is_numeric():
        dtype = pl.Int64 if whole and column.dtype.is_integer() else pl.Float64
        values = column.cast(dtype, strict=False)
        return _finished(column, _whole(values) if whole else _finite(values), column)
    text = column.cast(pl.String).str.strip_chars()
    if whole:
        point, guessed = _point(text, decimal, where)
        values = text.cast(pl.Int64, strict=False)
        if point == ".":
            values = values.fill_null(_whole(text.cast(pl.Float64, strict=False)))
    else:
        point, guessed = decimal or ".", None
        values = _finite(text.cast(pl.Float64, strict=False))
        if point != ".":  # 1.234 is no decimal number then; whole ones are the same
            values = values.set(text.str.contains(".", literal=True).fill_null(False), None)
    rest = text.filter(values.is_null() & text.is_not_null()).unique()
    if len(rest):
        read = {each: number_of(each, point, not whole) for each in rest}
        known = {each: number for each, number in read.items() if number is not None and math.isfinite(number)}
        if whole:
            known = {
                each: int(number) for each, number in known.items() if number == int(number) and abs(number) < 2**63
            }
        if known:
            found = text.replace_strict(known, default=None, return_dtype=values.dtype)
            values = values.fill_null(found)
    return _finished(column, values, text)._replace(guessed=guessed)


def number_of(text: str, decimal: str = ".", strict: bool = False) -> float | None:
    """Read one number as people write it: 1,234, 1 234, 1,23,456, 12.3k, 1.2 Mio., in digits of any script.

    None for what is none, or may be two. `decimal` stands before the decimals; with `strict`, a comma is never taken
    for a thousands separator if it stands alone, as in 1,234, nor for the decimal one unless `decimal` says so.
    """
    body = _in_ascii(text.strip(), decimal)
    if decimal == "." and not text.isascii() and re.fullmatch(_AMBIGUOUS, body):
        return None
    scale = None
    if (match := _SCALED.fullmatch(body)) and (scale := SCALES.get(match[2].casefold())):
        body = match[1]
    if match := _INDIAN.fullmatch(body):
        sign, digits, _, decimals = match.groups()
        return _real(sign + digits.replace(",", ""), decimals, scale)
    if match := _GROUPED.fullmatch(body):
        sign, digits, mark, point, decimals = match.groups()
        groups = len(re.findall(re.escape(mark) + r"\d{3}", digits))
        if (mark != decimal or groups > 1) and (point is None or point != mark):
            if groups == 1 and point is None and mark in ".," and (scale or strict):
                return None  # 1,234k, or 1,234 among real numbers: which one is it?
            return _real(sign + re.sub(r"\D", "", digits), decimals, scale)
    if match := _PLAIN.fullmatch(body):
        digits, point, decimals = match.groups()
        if point and point != decimal and (strict or len(decimals) == 3):
            return None
        if point and len(decimals) == 3 and scale:
            return None
        return _real(digits, decimals, scale)
    return None


def _in_ascii(text: str, decimal: str) -> str:
    """Write digits of any script, and the marks between them, in ASCII."""
    if text.isascii():
        return text
    text = text.translate(_MARKS).replace("٫", decimal)
    digits = (str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)
    return "".join(each for each in digits if unicodedata.category(each) != "Cf").strip()


def _real(digits: str, decimals: str | None, scale: int | None) -> float:
    """Compute a number from its parts; decimals of scaled numbers do not become 12299.999."""
    number = float(f"{digits}.{decimals or 0}") * (scale or 1)
    return round(number, 3) if scale else number


def _point(text: pl.Series, decimal: str | None, where: str) -> tuple[str, str | None]:
    """Tell what stands before the decimals in a column of whole numbers, and what to say of it; see `numbers`."""
    if decimal:
        return decimal, None
    doubtful = text.str.contains(_AMBIGUOUS)
    if not doubtful.any():
        return ".", None
    example, other = text.filter(doubtful)[0], text.filter(~doubtful)
    whole, thousandths = example.split(".")
    for point, form, number in ((",", _COMMA, f"{whole},{thousandths}"), (".", _POINT, whole)):
        telling = other.filter(other.str.contains(form))
        if len(telling):
            return point, f"'{example}' is read as {number}, as '{telling[0]}' tells; --decimal says otherwise"
    raise SelfieError(
        f"{where}: '{example}' may be {whole} or {whole},{thousandths}: say --decimal . if a point stands before "
        "decimals, or --decimal , if points stand between thousands"
    )


def _whole(values: pl.Series) -> pl.Series:
    """Numbers without decimals as Int64; the others are null."""
    if values.dtype == pl.Int64:
        return values
    values = _finite(values)
    return values.set(values != values.floor(), None).cast(pl.Int64, strict=False)


def _finite(values: pl.Series) -> pl.Series:
    return values.set(~values.is_finite(), None)


def _finished(column: pl.Series, values: pl.Series, told: pl.Series) -> Numbers:
    """Count what could not be read of what was `told`; blank text is missing, and so is what people write for it."""
    bad = told.filter(values.is_null() & told.is_not_null()).cast(pl.String)
    bad = bad.filter(~bad.str.to_lowercase().is_in(MISSING))
    return Numbers(values.alias(column.name), len(bad), bad[0][:EXAMPLE] if len(bad) else None)


def tags(column: pl.Series) -> pl.Series:
    """Tags as this project has them: text, separated by single spaces, without '#'; column of text or of lists.

    Reads lists, also of objects with a name, and text with spaces, commas, semicolons, pipes, '#a#b', or a list as
    JSON, Python or PostgreSQL writes it, in it. Spaces inside of a tag ("new york", where something else separates) are
    taken out, as hashtags have none. SelfieError for lists of anything else.
    """
    name, dtype = column.name, column.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        inner, tag = dtype.inner, pl.element()
        if isinstance(inner, pl.Struct):
            field = next((each for each in _TAG_FIELDS if each in (of.name for of in inner.fields)), None)
            tag, inner = (tag.struct.field(field), pl.String()) if field else (tag, inner)
        if inner.is_nested():
            raise SelfieError(f"column '{name}' holds {dtype}, which are no tags")
        try:
            items = column.cast(pl.List(dtype.inner)).list.eval(tag.cast(pl.String).str.replace_all(r"[\s#＃]+", ""))
        except pl.exceptions.PolarsError as error:  # bytes
            raise SelfieError(f"column '{name}' holds {dtype} that are no UTF-8 text") from error
        return items.list.join(" ", ignore_nulls=True)
    foreign = column.str.contains(_FOREIGN if is_ascii(column) else _FOREIGN_ANYWHERE).fill_null(False)
    if not foreign.any():
        return column
    return column.to_frame().select(pl.when(foreign).then(_split(pl.col(name))).otherwise(pl.col(name))).to_series()


_TAG_FIELDS = ("name", "tag", "text", "hashtag", "title")  # of objects in lists of tags
_FOREIGN, _FOREIGN_ANYWHERE = r"[#,;|\[{]", r"[#,;|\[{＃，、；｜]"  # the second takes five times as long
_OBJECTS = r"""["'](?:name|tag|text|hashtag|title)["']\s*:\s*["']([^"']*)["']"""


def tag_counts(column: pl.Series) -> pl.Series:
    """Count the tags of `tags`: words between white space of any kind; 0 where there is none. N UInt32."""
    plain = is_ascii(column) and not (
        column.str.contains("  ", literal=True).any()
        or column.str.contains(r"[\t\n\x0b\x0c\r]").any()
        or (column.str.starts_with(" ") | column.str.ends_with(" ")).any()
    )
    if plain:  # one space between two tags: a third of the time
        spaces = column.str.count_matches(" ", literal=True)
        return (spaces + (column.str.len_bytes() > 0).cast(pl.UInt32)).fill_null(0)
    return column.str.count_matches(r"\S+").fill_null(0)


def is_ascii(column: pl.Series) -> bool:
    """Whether a column of text holds nothing but ASCII."""
    return column.str.len_bytes().sum() == column.str.len_chars().sum()


def _split(text: pl.Expr) -> pl.Expr:
    """Expression for texts with anything but spaces between their tags."""
    named = text.str.extract_all(_OBJECTS).list.eval(pl.element().str.extract(_OBJECTS, 1)).list.join(",")
    text = pl.when(text.str.contains(r"^\s*\[\s*\{")).then(named).otherwise(text)
    text = text.str.replace_all("＃", "#").str.replace_all("[，、；｜]", ",")
    plain = text.str.replace(r"^\s*[\[{](.*)[\]}]\s*$", "$1").str.replace_all(r"""["']""", "")
    spaced = plain.str.replace_all(r"\s*[,;|]+\s*", "\x1f").str.replace_all(r"\s+", "").str.replace_all("\x1f", " ")
    split = pl.when(plain.str.contains("#")).then(plain.str.replace_all(r"[#,;|]+", " ")).otherwise(spaced)
    return split.str.replace_all(r"\s+", " ").str.strip_chars()
