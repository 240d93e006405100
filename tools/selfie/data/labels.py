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
    in number. Ties across the middle of a group are broken by the coin (7); the report counts the selfies whose label
    was decided in this way.
 4. "Online for more than a month." Posted at least min_age_days (30) before as_of, the time the likes were counted. The
    post gives no date. The default for as_of is the newest post that is not in the future of the computer's clock: a
    crawl is hardly older than its newest post, and a rerun next year gives the same labels.
 5. "Filtered users with too few or too many followers." The post gives no numbers: min_followers 50 (below, likes are a
    handful and chance decides), max_followers 50,000. Where users are rare a group spans audiences several times its
    smallest, and there likes mean audience again. Measured with likes proportional to the audience (log-normal noise
    of sigma 1) and followers by Pareto's law (exponent 1, from 50 on): without max_followers, the widest group of
    100,000 rows spans a factor of 118, and in the groups wider than 1.5 the audience alone has an AUC of 0.68; with
    50,000 the widest spans 1.5. A million rows are narrow (1.1) up to 50,000, but 4000 rows only up to about 800.
    The overall AUC of the audience cannot show this: groups are balanced and sorted, so it lies within 0.5 / groups of
    0.5 whatever the likes. The report therefore has the AUC inside groups as well, the spread (largest / smallest
    audience) of groups, and the audience above which all groups are wide: a measured proposal for --max-followers.
 6. "Filtered images with too many tags." No number either: max_tags 20; Instagram allowed 30.
 7. The coin is a hash of (seed, id), the split a hash of (seed, user): neither depends on the order of rows, the other
    rows, the number of processes or the versions of libraries. A selfie without a user is its own user.

Beyond the post, needed for an honest test: rows that lack a number are removed, and so are repeated ids (the row with
the most likes is kept: the latest count) and repeated pictures (the earliest post is kept: the original), so no user
and no picture is in two splits. Duplicates are judged after all other filters, so a usable copy is never lost to an
unusable one. Whatever is removed is counted under the first reason, in the order of the report.

Rule "residual" is that of another attempt, see label_residual: one group of all selfies, sorted by likes beyond what
followers and tags explain; halved, or (keep "deciles") cut to the best and the worst tenth. Steps 4 to 7 are the same.

Rule "median", for tables with a popularity score instead of likes (UCF Selfie): one group of all selfies, halved at the
median of the score; of an odd number the one in the middle is dropped.

Labels of these two rules carry what they were cut from, `measure`, and `place` (see label_place); those of rule
audience have both in `likes` and `group`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.work import Workers
from selfie.data import (
    duplicates,
    hidden_likes,
    label_filters,
    label_report,
    label_residual,
    label_users,
    lean,
    manifest,
    moments,
    tables,
    tag_effect,
)
from selfie.data.label_filters import NEEDS
from selfie.data.label_settings import DEFAULTS, Settings
from selfie.data.user_split import assign_split, stable_hash

COLUMNS = ("id", "path", "label", "split", "user", "audience", "group", "likes")
CUT_FROM = ("measure", "place")  # further columns, of the rules whose measure does not follow from those above
MEASURES = {"audience": "likes", "residual": "residual", "median": "popularity"}  # rule -> the column that decides
READS = ("id", "path", "user", "likes", "followers", "tags", "posted_at", "popularity", "face_count", "content")


class Selfies(NamedTuple):
    """The rows of a manifest that can be labelled, and what is to be told of the others.

    table    the columns that labels need; used up by `label_selfies`
    path     of the manifest, for messages
    rows     of the manifest
    removed  {filter: rows removed}
    as_of    when the likes were counted, naive UTC; source: where that is known from; None under rule median
    known    whether users are
    notes    on how the manifest was read;  dated: on how its times were
    """

    table: pl.DataFrame
    path: str | os.PathLike
    rows: int
    removed: dict[str, int]
    as_of: datetime | None
    source: str | None
    known: bool
    notes: list[str]
    dated: list[str]


def read(
    path: str | os.PathLike,
    settings: Settings = DEFAULTS,
    reading: manifest.Reading = manifest.AS_IT_IS,
    inside: bool = False,
) -> Selfies:
    """Read a manifest and filter its rows. What is not needed any more makes room: memory never holds all of it twice.

    inside: its paths must not lead out of the folder of pictures. SelfieError where they do, for a missing column, and
    as of manifest.load.
    """
    table = manifest.load(path, READS, reading)
    if inside and "path" in table.frame.columns:
        paths.check_inside(table.frame["path"], path)
    return _usable(table, settings, path)


def label(
    frame: pl.DataFrame,
    settings: Settings = DEFAULTS,
    images: str | os.PathLike | None = None,
    jobs: int | None = None,
    path: str | os.PathLike = "the manifest",
    workers: Workers | None = None,
) -> tuple[pl.DataFrame, dict]:
    """Label a manifest (as of manifest.read): (labels, report), as of `label_selfies`.

    `path` is for error messages. SelfieError for a missing column, too.
    """
    selfies = _usable(tables.Table(frame.clone(), frame.columns, []), settings, path)
    return label_selfies(selfies, settings, images, jobs, workers)


def label_selfies(
    selfies: Selfies,
    settings: Settings = DEFAULTS,
    images: str | os.PathLike | None = None,
    jobs: int | None = None,
    workers: Workers | None = None,
) -> tuple[pl.DataFrame, dict]:
    """Label the rows of a manifest, read with the same settings: (labels, report). Their table is used up.

    labels: COLUMNS, and CUT_FROM under other rules than audience, sorted by group, audience (or measure) and coin; the
    label is 1 for good, 0 for bad. `user` is the id where the manifest has none; audience is null but under its rule,
    likes under rule median. report: JSON-ready, what was removed and measured; `posted_at` only if there is something
    to tell of how it was read.
    With `images` (the folder that paths are relative to) the files are hashed by `jobs` processes, or by `workers`, to
    find repeated and missing pictures; else the column `content` serves; else only an equal path tells.
    SelfieError for invalid settings and too few rows.
    """
    used, path, rows, removed, as_of, source, known, notes, dated = selfies
    used, repeated, compared = duplicates.unique(used, images, jobs, workers)
    removed = removed | repeated
    lean.put(used, pl.Series("person", label_users.numbers(used)))
    used, hidden = _without_hidden(used, settings, removed)
    used, size, dropped, fit = _grouped(used, settings)
    removed |= dropped
    if not used.height:
        assumed = f"; ages count up to {as_of:%Y-%m-%d}, {source}" if as_of and source != "given" else ""
        assumed += "".join(f"; {note}" for note in (*notes, *dated))
        raise SelfieError(_too_few(path, rows, removed, settings, assumed))
    used = _halve(used, MEASURES[settings.rule], size)
    lean.put(used, assign_split(used["user"], settings.split, settings.seed))
    report: dict[str, Any] = {
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
        "users": label_users.report(used, known),
    }
    if dated:
        report["posted_at"] = dated
    if settings.rule == "audience":
        report |= label_report.leaks(used, settings.seed)
        report |= {"hidden_likes": hidden, "tags": tag_effect.measure(used)}
        return used.select(COLUMNS), report
    if fit:
        report |= {"hidden_likes": hidden, "fit": fit}
    return used.select(*COLUMNS, pl.col(MEASURES[settings.rule]).alias("measure"), pl.col("place").round(9)), report


def _usable(read: tables.Table, settings: Settings, path: str | os.PathLike) -> Selfies:
    """Filter the rows of a manifest, whose frame is used up. SelfieError for invalid settings and a missing column."""
    settings.check()
    frame = read.frame
    _check_columns(frame, settings.rule, path, read.names)
    rows, known = frame.height, "user" in frame.columns and frame["user"].null_count() < frame.height
    dated: list[str] = []
    if settings.rule != "median":
        posted, dated = moments.read(frame.drop_in_place("posted_at"))
        lean.put(frame, posted)
    as_of, source = label_filters.as_of(frame, settings)
    used, removed = label_filters.usable(frame, settings, as_of)
    return Selfies(used, path, rows, removed, as_of, source, known, read.notes, dated)


def _without_hidden(
    table: pl.DataFrame, settings: Settings, removed: dict[str, int]
) -> tuple[pl.DataFrame, dict | None]:
    """Leave out likes that repeat improbably, unless they are to be kept, and count that in `removed`.

    Returns the rest of the table, which is used up, and what was found (see hidden_likes.find); None for the latter
    under rule median, which uses no likes.
    """
    if settings.rule == "median":
        return table, None
    marked, hidden = hidden_likes.find(table)
    removed[label_report.HIDDEN] = 0 if settings.keep_hidden_likes else hidden["selfies"]
    keep = settings.keep_hidden_likes or not marked.any()
    return table if keep else lean.take(table, ~marked), hidden


def _check_columns(
    frame: pl.DataFrame, rule: str, path: str | os.PathLike, names: Collection[str] | None = None
) -> None:
    """Raise SelfieError for a column that the rule needs and the manifest lacks, and for a manifest without rows."""
    if rule != "median" and "likes" not in frame.columns and "popularity" in frame.columns:
        raise SelfieError(f"{path} has no column 'likes' but 'popularity': label it with --rule median")
    manifest.require(frame, NEEDS[rule], path, names)
    if not frame.height:
        raise SelfieError(f"{path} has no rows")


def _grouped(table: pl.DataFrame, settings: Settings) -> tuple[pl.DataFrame, int, dict[str, int], dict[str, float]]:
    """Put the rows in their final order; the table is used up.

    Returns them, with `coin` and what the rule decides by, the size of a group, {reason: rows dropped}, and the fit of
    rule residual (or {}).
    """
    lean.put(table, stable_hash(table["id"], settings.seed, "coin").alias("coin"))
    if settings.rule == "audience":
        table, size, dropped = _march(table, settings.group_size)
        return table, size, {"last, incomplete group": dropped}, {}
    fit: dict[str, float] = {}
    if settings.rule == "residual":
        fit = label_residual.measure(table)
    share = 10 if settings.keep == "deciles" else 2
    table, size, dropped = _one_group(table, MEASURES[settings.rule], table.height // share)
    return table, size, {"between the deciles" if share == 10 else "the one in the middle": dropped}, fit


def _march(table: pl.DataFrame, size: int) -> tuple[pl.DataFrame, int, int]:
    """Sort by audience and drop the incomplete last group; returns the rows, `size`, and the number of rows dropped."""
    remainder = table.height % size
    order = table.select(pl.arg_sort_by("audience", "coin")).to_series()
    return lean.take(table, order.head(len(order) - remainder)), size, remainder


def _one_group(table: pl.DataFrame, measure: str, each: int) -> tuple[pl.DataFrame, int, int]:
    """Sort by the measure, add `place` and drop all but `each` rows at both ends.

    Returns the rows, their number, and that dropped.
    """
    order = table.select(pl.arg_sort_by(measure, "coin").alias("row")).with_columns(
        place=(pl.int_range(pl.len()) + 0.5) / pl.len()
    )
    order, dropped = pl.concat([order.head(each), order.tail(each)]), len(order) - 2 * each
    table = lean.take(table, order["row"])
    lean.put(table, order["place"])
    return table, 2 * each, dropped


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
    """The settings that the rule made use of, JSON-ready."""
    common = {"split": list(settings.split), "seed": settings.seed}
    if as_of is None:  # rule median
        return common
    audience = {"group_size": settings.group_size, "tag_bonus": settings.tag_bonus}
    return {
        "as_of": f"{as_of.isoformat()}Z",
        **(audience if settings.rule == "audience" else {"keep": settings.keep}),
        "min_age_days": settings.min_age_days,
        "min_followers": settings.min_followers,
        "max_followers": settings.max_followers,
        "max_tags": settings.max_tags,
        "keep_hidden_likes": settings.keep_hidden_likes,
        **common,
    }


def _too_few(path: str | os.PathLike, rows: int, removed: dict[str, int], settings: Settings, assumed: str) -> str:
    """Message for a manifest of which nothing can be labelled: which filters removed its rows, `assumed` at the end."""
    if left := removed.get("between the deciles", 0):
        return f"{left} of the {rows} selfies in {path} are usable, fewer than 10: without --keep deciles, 2 are enough"
    flags = "".join(f"; {hint}" for hint in label_report.hints(rows, removed)) + assumed
    if left := removed.get("last, incomplete group", 0):
        return (
            f"{left} of the {rows} selfies in {path} are usable, fewer than one group of {settings.group_size}: "
            f"lower --group-size or loosen the filters ({label_report.reasons(removed)}{flags})"
        )
    return f"none of the {rows} selfies in {path} is usable ({label_report.reasons(removed)}{flags})"
