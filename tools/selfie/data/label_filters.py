"""Filters of the label rule that look at one row at a time: missing numbers, dates, limits, faces."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import lean, moments, values
from selfie.data.label_settings import Settings

NEEDS = {
    "audience": ("id", "path", "likes", "followers", "posted_at"),
    "residual": ("id", "path", "likes", "followers", "posted_at"),
    "median": ("id", "path", "popularity"),
}


def parse_date(text: str) -> datetime:
    """Read a date or time, best ISO 8601, as an aware datetime, UTC if it names no zone; SelfieError otherwise."""
    parsed = moments.timestamps(pl.Series("posted_at", [text]))[0]
    if parsed is None:
        raise SelfieError(f"'{text}' is not a date: write it like 2015-10-25 or 2015-10-25T12:00:00Z")
    return parsed.replace(tzinfo=timezone.utc)


def as_of(frame: pl.DataFrame, settings: Settings) -> tuple[datetime | None, str | None]:
    """Return when the likes were counted (naive UTC) and where that is known from; (None, None) under rule median.

    posted_at is Datetime here.
    """
    if settings.rule == "median":
        return None, None
    if settings.as_of is not None:
        given = settings.as_of
        return (given.astimezone(timezone.utc).replace(tzinfo=None) if given.tzinfo else given), "given"
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    newest = frame.select(pl.col("posted_at").filter(pl.col("posted_at") <= now).max()).item()
    return newest or now, "the newest post" if newest else "the clock: no post has a date"


def usable(frame: pl.DataFrame, settings: Settings, as_of: datetime | None) -> tuple[pl.DataFrame, dict[str, int]]:
    """Filter the rows; returns those that pass, with `audience` and only the columns needed later, and the losses.

    The losses are {reason: rows removed}; a row is counted under the first reason that holds. posted_at and `as_of` are
    naive UTC. The frame is used up: its columns are gone afterwards, as of large tables memory holds one, not two.
    """
    tags = pl.repeat(0, frame.height, dtype=pl.UInt32, eager=True)
    if "tags" in frame.columns:
        tags = values.tag_counts(frame.drop_in_place("tags").cast(pl.String))
    lean.put(frame, tags.alias("tags"))
    user = pl.col("user").fill_null(pl.col("id")) if "user" in frame.columns else pl.col("id").alias("user")
    lean.put(frame, frame.select(user).to_series())
    tests = _tests(settings, as_of, frame.columns)
    reason = frame.select(
        pl.coalesce(*(pl.when(test).then(pl.lit(number, dtype=pl.UInt8)) for number, test in enumerate(tests.values())))
    ).to_series()
    counts = dict(reason.drop_nulls().value_counts().iter_rows())
    removed = {name: counts.get(number, 0) for number, name in enumerate(tests)}
    wanted = ("id", "path", "user", *NEEDS[settings.rule][2:], "content", "tags")
    used = lean.take(frame, reason.is_null(), [name for name in wanted if name in frame.columns])
    if settings.rule == "audience":
        extra = (pl.col("tags").cast(pl.Int64) - 1).clip(0)
        used = used.with_columns(audience=pl.col("followers") * (1 + settings.tag_bonus * extra))
    else:
        likes = "likes" if settings.rule == "residual" else pl.lit(None, dtype=pl.Int64)
        used = used.with_columns(audience=pl.lit(None, dtype=pl.Float64), likes=likes)
    return used, removed


def _tests(settings: Settings, as_of: datetime | None, columns: list[str]) -> dict[str, pl.Expr]:
    """List the filters: {reason: expression that is true for rows to remove}, in the order of counting."""
    tests = {"no id": pl.col("id").is_null(), "no path": pl.col("path").is_null()}
    if as_of is not None:  # all rules but median
        day = f"{as_of:%Y-%m-%d}"
        tests |= {
            "likes missing or not a whole number": pl.col("likes").is_null(),
            "negative likes": pl.col("likes") < 0,
            "followers missing or not a whole number": pl.col("followers").is_null(),
            "negative followers": pl.col("followers") < 0,
            "posted_at missing or not a date": pl.col("posted_at").is_null(),
            f"posted after {day}": pl.col("posted_at") > as_of,
            f"younger than {settings.min_age_days:g} days as of {day}": pl.lit(as_of) - pl.col("posted_at")
            < timedelta(days=settings.min_age_days),
            f"fewer than {settings.min_followers} followers": pl.col("followers") < settings.min_followers,
            f"more than {settings.max_followers} followers": pl.col("followers") > settings.max_followers,
            f"more than {settings.max_tags} tags": pl.col("tags") > settings.max_tags,
        }
    else:
        tests["popularity missing or not a number"] = pl.col("popularity").is_null()
    if "face_count" in columns:
        tests["no face"] = pl.col("face_count").fill_null(0) < 1
    return tests
