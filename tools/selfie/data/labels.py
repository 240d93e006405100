"""Good and bad selfies: likes compared among selfies with the same audience, and a split by user.

The rule is that of Karpathy's post of 25 October 2015, step by step. Where the post gives no number, the default below
is our choice, a flag of tools/label.py, and written into the report.

 1. "Sorted users by number of followers; a small bonus for each additional tag, extra tags bring more eyes."
        audience = followers * (1 + tag_bonus * max(tags - 1, 0))
    The additional tags are those after the first, for every selfie of the experiment carries #selfie. The post gives
    neither the size of the bonus nor its form. It is relative here (default 0.02, 2 % a tag), so that it means the same
    to small and large users. The report has the AUC of the number of tags alone: above 0.5 the bonus is too small for
    the data at hand, below 0.5 too large. A user's selfies stand in the list one by one, each with its own audience.
 2. "Marched down the sorted list in groups of 100." We sort upwards, so the incomplete last group is that of the
    largest audiences, whose members are the least comparable; it is dropped. Equal audiences are in the order of the
    coin (7).
 3. "The 50 with the most likes are good (1), the other 50 bad (0)." Each group is halved, hence the classes are equal
    in number. Likes that are equal across the middle of a group are told apart by the coin (7); the report counts the
    selfies whose label had to be decided in this way.
 4. "Online for more than a month." Posted at least min_age_days (30) before as_of, the time the likes were counted. The
    post gives no date. The default for as_of is the newest post that is not in the future of the computer's clock: a
    crawl is hardly older than its newest post, and a rerun next year gives the same labels.
 5. "Filtered users with too few or too many followers." The post gives no numbers: min_followers 50 (below, likes are a
    handful and chance decides), max_followers 50,000. Where users are rare a group spans audiences several times its
    smallest, and there likes mean audience again. Measured with likes proportional to the audience (log-normal noise
    of sigma 1) and followers by Pareto's law (exponent 1, from 50 on): without max_followers, the widest group of
    100,000 rows spans a factor of 118, and in the groups wider than 1.5 the audience alone has an AUC of 0.68; with
    50,000 the widest spans 1.5. A million rows are narrow (1.1) up to 50,000, but 4000 rows only up to about 800.
    The overall AUC of the audience cannot show this: groups are balanced and sorted, so whatever the likes, it lies
    within 0.5 / groups of 0.5. The report therefore has the AUC inside groups as well, the spread (largest / smallest
    audience) of groups, and the audience above which all groups are wide: a measured proposal for --max-followers.
 6. "Filtered images with too many tags." No number either: max_tags 20; Instagram allowed 30.
 7. The coin is a hash of (seed, id), the split a hash of (seed, user): neither depends on the order of rows, the other
    rows, the number of processes or the versions of libraries. A selfie without a user is its own user.

Beyond the post, needed for an honest test: rows that lack a number are removed, and so are repeated ids (the row with
the most likes is kept: the latest count) and repeated pictures (the earliest post is kept: the original), so no user
and no picture is in two splits. Duplicates are judged after all other filters, so a usable copy is never lost to an
unusable one. Whatever is removed is counted under the first reason, in the order of the report.

Rule "median", for tables with a popularity score instead of likes (UCF Selfie): one group of all selfies, halved at the
median of the score; of an odd number the one in the middle is dropped.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.data import label_report, manifest
from selfie.data.user_split import assign_split, stable_hash

COLUMNS = ("id", "path", "label", "split", "user", "audience", "group", "likes")

NEEDS = {"audience": ("id", "path", "likes", "followers", "posted_at"), "median": ("id", "path", "popularity")}
READS = ("id", "path", "user", "likes", "followers", "tags", "posted_at", "popularity", "face_count", "content")


@dataclass(frozen=True)
class Settings:
    """Every choice of the rule; see the module's text for what each means and where its default comes from."""

    rule: str = "audience"  # or "median"
    as_of: datetime | None = None  # None: the newest post of the table
    group_size: int = 100
    tag_bonus: float = 0.02
    min_age_days: float = 30
    min_followers: int = 50
    max_followers: int = 50_000
    max_tags: int = 20
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)  # shares of users in train, val, test
    seed: int = 0

    def check(self) -> None:
        """SelfieError for a value that makes no sense."""
        problems = {
            f"--rule is '{self.rule}': it is audience or median": self.rule not in NEEDS,
            f"--group-size is {self.group_size}: it must be even and at least 2": self.group_size < 2
            or self.group_size % 2,
            f"--tag-bonus is {self.tag_bonus}: it must be a number, not negative": not (
                math.isfinite(self.tag_bonus) and self.tag_bonus >= 0
            ),
            f"--min-age-days is {self.min_age_days}: it must be in 0 ... 36500": not 0 <= self.min_age_days <= 36500,
            f"--min-followers {self.min_followers} and --max-followers {self.max_followers} leave nobody": not 0
            <= self.min_followers
            <= self.max_followers,
            f"--max-tags is {self.max_tags}: it must not be negative": self.max_tags < 0,
            f"--split is {','.join(f'{share:g}' for share in self.split)}: it must be three shares, train, val and "
            "test, none negative, that sum to 1": not (
                len(self.split) == 3 and all(s >= 0 for s in self.split) and abs(sum(self.split) - 1) < 1e-6
            ),
        }
        for message, wrong in problems.items():
            if wrong:
                raise SelfieError(message)


def label(
    frame: pl.DataFrame,
    settings: Settings = Settings(),
    images: str | os.PathLike | None = None,
    jobs: int | None = None,
    path: str | os.PathLike = "the manifest",
) -> tuple[pl.DataFrame, dict]:
    """Label a manifest (manifest.read): (labels, report).

    labels: COLUMNS, sorted by group, audience and coin; the label is 1 for good, 0 for bad. `user` is the id where the
    manifest has none; audience and likes are null under rule median. report: JSON-ready, what was removed and measured.
    With `images` (the folder that paths are relative to) the files are hashed by `jobs` processes, to find repeated and
    missing pictures; else the column `content` serves; else only an equal path tells. `path` is for error messages.
    SelfieError for a missing column, senseless settings and too few rows.
    """
    settings.check()
    _check_columns(frame, settings.rule, path)
    rows = frame.height
    if settings.rule == "audience":
        frame = frame.with_columns(_timestamp(frame.schema["posted_at"]))
    as_of, source = _as_of(frame, settings)
    used, removed = _usable(frame, settings, as_of)
    used, repeated, compared = _unique(used, images, jobs)
    removed |= repeated
    used = used.with_columns(coin=stable_hash(used["id"], settings.seed, "coin"))
    if settings.rule == "audience":
        used, size, removed["last, incomplete group"] = _march(used, settings.group_size)
    else:
        used, size, removed["the one in the middle"] = _one_group(used)
    if not used.height:
        raise SelfieError(_too_few(path, rows, removed, settings))
    used = _halve(used, "likes" if settings.rule == "audience" else "popularity", size)
    used = used.with_columns(split=assign_split(used["user"], settings.split, settings.seed))
    report = {
        "rule": settings.rule,
        "settings": _used_settings(settings, as_of),
        "as_of_from": source,
        "rows": rows,
        "removed": label_report.running(rows, removed),
        "pictures_compared_by": compared,
        "labelled": used.height,
        "groups": used.height // size,
        "labels_decided_by_coin": int(used["tied"].sum()),
        "splits": label_report.split_counts(used),
    }
    if settings.rule == "audience":
        report |= {"auc": label_report.leaks(used), "spread": label_report.spread(used)}
    return used.select(COLUMNS), report


def parse_date(text: str) -> datetime:
    """ISO 8601 date or time as an aware datetime, UTC if it names no zone; SelfieError otherwise."""
    parsed = pl.DataFrame({"posted_at": [text]}).select(_timestamp(pl.String)).item()
    if parsed is None:
        raise SelfieError(f"'{text}' is not a date: write it like 2015-10-25 or 2015-10-25T12:00:00Z")
    return parsed.replace(tzinfo=timezone.utc)


# --- filters ---------------------------------------------------------------------------------------------------------


def _check_columns(frame: pl.DataFrame, rule: str, path: str | os.PathLike) -> None:
    if rule == "audience" and "likes" not in frame.columns and "popularity" in frame.columns:
        raise SelfieError(f"{path} has no column 'likes' but 'popularity': label it with --rule median")
    manifest.require(frame, NEEDS[rule], path)
    if not frame.height:
        raise SelfieError(f"{path} has no rows")


def _timestamp(dtype: pl.DataType | type) -> pl.Expr:
    """Expression for `posted_at` as Datetime[us] in UTC without zone; null where it cannot be read as ISO 8601."""
    column = pl.col("posted_at")
    if isinstance(dtype, pl.Datetime):
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return column.cast(pl.Datetime("us"))
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if dtype == pl.Null:
        return pl.lit(None, dtype=pl.Datetime("us")).alias("posted_at")
    if dtype != pl.String:
        raise SelfieError(f"column 'posted_at' holds {dtype}, not ISO 8601 text or timestamps")
    # One format for all: a day gets its midnight, a time without a zone gets UTC, one without seconds gets :00.
    text = column.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00Z")
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T").str.replace(r"z$", "Z")
    text = text.str.replace(r"T(\d\d:\d\d)(Z|[+-]\d\d(?::?\d\d)?)?$", "T${1}:00${2}")
    text = text.str.replace(r"(T\d\d:\d\d:\d\d(?:\.\d+)?)$", "${1}Z")
    text = pl.when(text.str.contains(r"^\d{4}-")).then(text)  # chrono also takes years of other lengths
    parsed = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return parsed.dt.replace_time_zone(None)


def _as_of(frame: pl.DataFrame, settings: Settings) -> tuple[datetime | None, str | None]:
    """(the time the likes count from, naive UTC; where it came from); (None, None) under rule median."""
    if settings.rule != "audience":
        return None, None
    if settings.as_of is not None:
        given = settings.as_of
        return (given.astimezone(timezone.utc).replace(tzinfo=None) if given.tzinfo else given), "given"
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    newest = frame.select(pl.col("posted_at").filter(pl.col("posted_at") <= now).max()).item()
    return newest or now, "the newest post" if newest else "the clock: no post has a date"


def _usable(frame: pl.DataFrame, settings: Settings, as_of: datetime | None) -> tuple[pl.DataFrame, dict[str, int]]:
    """(rows that pass every filter that looks at one row, reduced to what is needed later; {reason: rows removed}).

    posted_at is Datetime here.
    """
    columns = frame.columns
    tags = pl.col("tags").str.count_matches(r"\S+").fill_null(0) if "tags" in columns else pl.lit(0, dtype=pl.UInt32)
    table = frame.lazy().select(
        "id",
        "path",
        pl.col("user").fill_null(pl.col("id")) if "user" in columns else pl.col("id").alias("user"),
        *(name for name in (*NEEDS[settings.rule][2:], "face_count", "content") if name in columns),
        tags=tags,
    )
    tests = _tests(settings, as_of, columns)
    reason = pl.coalesce(
        *(pl.when(test).then(pl.lit(number, dtype=pl.UInt8)) for number, test in enumerate(tests.values()))
    )
    table = table.with_columns(reason=reason).collect()
    counts = dict(table["reason"].drop_nulls().value_counts().iter_rows())
    removed = {name: counts.get(number, 0) for number, name in enumerate(tests)}
    table = table.filter(pl.col("reason").is_null())
    if settings.rule == "audience":
        extra = (pl.col("tags").cast(pl.Int64) - 1).clip(0)
        table = table.with_columns(audience=pl.col("followers") * (1 + settings.tag_bonus * extra))
    else:
        table = table.with_columns(audience=pl.lit(None, dtype=pl.Float64), likes=pl.lit(None, dtype=pl.Int64))
    return table.drop("reason", "face_count", strict=False), removed


def _tests(settings: Settings, as_of: datetime | None, columns: list[str]) -> dict[str, pl.Expr]:
    """{reason: expression that is true for rows to remove}, in the order in which they are counted."""
    tests = {"no id": pl.col("id").is_null(), "no path": pl.col("path").is_null()}
    if settings.rule == "audience":
        tests |= {
            "likes missing or not a whole number": pl.col("likes").is_null(),
            "negative likes": pl.col("likes") < 0,
            "followers missing or not a whole number": pl.col("followers").is_null(),
            "negative followers": pl.col("followers") < 0,
            "posted_at missing or not a date": pl.col("posted_at").is_null(),
            "posted after --as-of": pl.col("posted_at") > as_of,
            f"younger than {settings.min_age_days:g} days": pl.lit(as_of) - pl.col("posted_at")
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


def _unique(
    table: pl.DataFrame, images: str | os.PathLike | None, jobs: int | None
) -> tuple[pl.DataFrame, dict[str, int], str]:
    """(one row per id and per picture, {reason: rows removed}, how pictures were compared)."""
    removed = {}
    by_age = [name for name in ("posted_at",) if name in table.columns]
    score = "popularity" if "popularity" in table.columns else "likes"
    # Every column takes part in the order, so that equal rows are the only ones left to chance.
    rest = [name for name in ("followers", *by_age, "path", "user", "tags", "content") if name in table.columns]
    table, removed["same id"] = _first(table, "id", [score, "likes", *rest], [True, True, *[False] * len(rest)])
    if images is not None:
        compared = "file content (blake2b)"
        table = table.with_columns(content=contents(table["path"], images, jobs))
        before, table = table.height, table.filter(pl.col("content").is_not_null())
        removed["image file missing or unreadable"] = before - table.height
    elif "content" in table.columns:
        compared = "column 'content'"
        table = table.with_columns(pl.coalesce("content", "path").alias("content"))
    else:
        compared = "path only: the content of the files was not checked (--images)"
        table = table.with_columns(content=pl.col("path"))
    table, removed["same picture"] = _first(table, "content", [*by_age, "id"], [False] * (len(by_age) + 1))
    return table.drop("content"), removed, compared


def _first(table: pl.DataFrame, key: str, order: list[str], descending: list[bool]) -> tuple[pl.DataFrame, int]:
    """(table with the first row of each `key` in the given order, rows removed). Unrepeated rows are not sorted."""
    repeated = table[key].is_duplicated()
    if not repeated.any():
        return table, 0
    kept = (
        table.filter(repeated)
        .sort(order, descending=descending, nulls_last=True)
        .unique(key, keep="first", maintain_order=True)
    )
    result = pl.concat([table.filter(~repeated), kept])
    return result, table.height - result.height


def contents(names: pl.Series, images: str | os.PathLike, jobs: int | None = None) -> pl.Series:
    """Hash (blake2b, 128 bits, hex) of each file's bytes; `names` are relative to `images`. Null: no readable file."""
    folder = paths.existing(images, "folder of images")
    if not folder.is_dir():
        raise SelfieError(f"{folder} is not a folder of images")
    batches = ((str(folder), names[start : start + 256].to_list()) for start in range(0, len(names), 256))
    digests: list[str | None] = []
    if len(names) <= 256:
        jobs = 1  # starting processes would take longer
    with tqdm(total=len(names), desc="hashing pictures", unit="file", leave=False, disable=None) as bar:
        for batch in parallel.imap(_digests, batches, jobs):
            digests += batch
            bar.update(len(batch))
    return pl.Series("content", digests, dtype=pl.String)


def _digests(task: tuple[str, list[str]]) -> list[str | None]:
    return list(_each_digest(*task))


def _each_digest(folder: str, names: list[str]) -> Iterator[str | None]:
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                yield hashlib.blake2b(file.read(), digest_size=16).hexdigest()
        except (OSError, ValueError):  # ValueError: a name with a NUL byte
            yield None


# --- the rule --------------------------------------------------------------------------------------------------------


def _march(table: pl.DataFrame, size: int) -> tuple[pl.DataFrame, int, int]:
    """(rows sorted by audience without the incomplete last group, `size`, rows dropped)."""
    remainder = table.height % size
    return table.sort("audience", "coin").head(table.height - remainder), size, remainder


def _one_group(table: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """(rows sorted by popularity without the middle one of an odd number, their number, rows dropped)."""
    table, odd, half = table.sort("popularity", "coin"), table.height % 2, table.height // 2
    return pl.concat([table.head(half), table.tail(half)]), 2 * half, odd


def _halve(table: pl.DataFrame, score: str, size: int) -> pl.DataFrame:
    """Add group, label and tied to a table whose order is final and whose height is a multiple of `size`.

    Inside each group of `size` rows the upper half by (score, coin) gets label 1. tied: the row's score occurs in both
    halves of its group, so the coin decided.
    """
    table = table.with_columns(group=(pl.int_range(pl.len()) // size).cast(pl.Int32))
    order = table.select("group", score, "coin", row=pl.int_range(pl.len())).sort("group", score, "coin")
    upper = pl.int_range(pl.len()) % size >= size // 2
    order = order.with_columns(label=upper.cast(pl.Int8))
    middle = order.group_by("group", maintain_order=True).agg(
        below=pl.col(score).get(size // 2 - 1), above=pl.col(score).get(size // 2)
    )
    tie = pl.when(pl.col("below") == pl.col("above")).then(pl.col("below"))
    order = order.with_columns(tie=middle.select(tie.repeat_by(size).explode()).to_series())
    order = order.select("row", "label", tied=(pl.col(score) == pl.col("tie")).fill_null(False)).sort("row")
    return pl.concat([table, order.drop("row")], how="horizontal")


def _used_settings(settings: Settings, as_of: datetime | None) -> dict:
    common = {"split": list(settings.split), "seed": settings.seed}
    if settings.rule == "median":
        return common
    return {
        "as_of": f"{as_of.isoformat()}Z",
        "group_size": settings.group_size,
        "tag_bonus": settings.tag_bonus,
        "min_age_days": settings.min_age_days,
        "min_followers": settings.min_followers,
        "max_followers": settings.max_followers,
        "max_tags": settings.max_tags,
        **common,
    }


def _too_few(path: str | os.PathLike, rows: int, removed: dict[str, int], settings: Settings) -> str:
    left = removed.get("last, incomplete group", 0)
    if left:
        return (
            f"{left} of the {rows} selfies in {path} are usable, fewer than one group of {settings.group_size}: "
            f"lower --group-size or loosen the filters ({label_report.reasons(removed)})"
        )
    return f"none of the {rows} selfies in {path} is usable ({label_report.reasons(removed)})"
