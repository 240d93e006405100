"""What is known of the post behind each record of a database: whose it is, and its place among those of its group.

posts.csv lies beside the database, one line per record, so nothing depends on a labels file that was changed or lost:

    key     the record's
    user    a number for each user of the database, not a name; empty where the labels have no users
    place   see label_place; empty where it is not known
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import label_place, lmdb_reader, tables

FILE = "posts.csv"
READS = ("user", "group", "likes", "place")  # columns of a labels file, of which it may have any
NOT_RECORDED = (
    "%s does not say whose its selfies are, as it was built before that was recorded: each counts as its own user, and "
    "intervals may be too narrow; the command that built it (make lmdb) adds it in seconds"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Posts:
    """Of N selfies: users, N integers, one for each user; place, N floats in (0, 1), NaN where it is not known.

    known: whether the labels had users. If not, each selfie is its own user here.
    """

    users: np.ndarray
    place: np.ndarray
    known: bool

    @classmethod
    def unknown(cls, count: int) -> Posts:
        """Make those of which nothing is known."""
        return cls(np.arange(count), np.full(count, np.nan), False)


def known(labels: pl.DataFrame) -> pl.DataFrame:
    """Add user and place to the rows of a labels file, in place of READS; user is null everywhere if it has no users.

    It has none without a column `user`, and where all selfies are their own users, named by their ids: so labels are
    written where the manifest has no users. A single row without a user is its own.
    """
    user = pl.lit(None, pl.String)
    if "user" in labels.columns and (labels["user"].fill_null(labels["id"]) != labels["id"]).any():
        user = pl.col("user").fill_null("\0" + pl.col("id"))
    return labels.select(pl.exclude(READS), user.alias("user"), pl.lit(label_place.of_labels(labels)).alias("place"))


def write(folder: Path, rows: pl.DataFrame) -> int | None:
    """Write posts.csv for the records of list.txt; returns their number of users, None where there are none.

    rows: id, path, user and place of the split. A file that is right already is left alone.
    """
    listing = pl.read_csv(
        folder / "list.txt",
        separator="\t",
        has_header=False,
        quote_char=None,
        infer_schema=False,
        new_columns=["key", "label", "path"],
    )
    row_ids = (lmdb_reader.make_key(0, row_id).decode() for row_id in rows["id"])
    rows = rows.with_columns(id=pl.Series(map(lmdb_reader.id_of, row_ids), dtype=pl.String))
    recorded = rows.select("id", "path", "user", "place").unique(["id", "path"], keep="first", maintain_order=True)
    posts = listing.select("key", "path", id=lmdb_reader.id_column("key")).join(recorded, on=["id", "path"], how="left")
    numbers = posts.sort("key").select(pl.col("user").drop_nulls().unique(maintain_order=True)).with_row_index("number")
    posts = posts.join(numbers, on="user", how="left").sort("key")
    posts = posts.select("key", pl.col("number").cast(pl.Int64).alias("user"), pl.col("place").round(9))
    if not (folder / FILE).exists() or (folder / FILE).read_bytes() != posts.write_csv().encode():
        paths.write_csv(folder / FILE, posts)
    return len(numbers) or None


def complete(folder: Path, rows: pl.DataFrame) -> None:
    """Write posts.csv of a finished database that lacks it, or whose labels say otherwise now; says so."""
    before = (folder / FILE).stat().st_mtime_ns if (folder / FILE).exists() else None
    write(folder, rows)
    if (folder / FILE).stat().st_mtime_ns != before:
        log.info("%s is %s", folder / FILE, "new" if before is None else "written again: other users, or other places")


def read(folder: Path, keys: Sequence[str]) -> Posts:
    """Read what is known of the records with these keys, in their order; warns if the database has no posts.csv.

    SelfieError for keys that it does not list.
    """
    if not (folder / FILE).exists():
        log.warning(NOT_RECORDED, folder)
        return Posts.unknown(len(keys))
    asked = pl.DataFrame({"key": pl.Series(keys, dtype=pl.String)}).with_row_index("row")
    posts = asked.join(_read(folder).with_columns(listed=True), on="key", how="left").sort("row")
    if posts["listed"].null_count():
        missing = posts.filter(pl.col("listed").is_null())["key"][0]
        raise SelfieError(
            f"{folder / FILE} has no record {missing}: the database was rebuilt since it was scored, run 'make eval' "
            "again"
        )
    place = posts["place"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    if posts["user"].null_count():
        return Posts(np.arange(len(posts)), place, False)
    return Posts(posts["user"].to_numpy(), place, True)


def _read(folder: Path) -> pl.DataFrame:
    """Read posts.csv; SelfieError if it is damaged."""
    try:
        return tables.read(folder / FILE, {"key": pl.String, "user": pl.Int64, "place": pl.Float64})
    except SelfieError as error:
        raise SelfieError(f"{folder / FILE} is damaged: delete it, and run 'make lmdb' again ({error})") from error
