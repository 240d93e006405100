"""Likes that are none: tools export hidden likes as 3, 0 or another constant, and all such selfies would be bad.

A value of likes is taken for that in two ways, each of which needs no list of constants.

 1. It stands out. Real counts have a smooth distribution: a value occurs about as often as the values beside it. One
    that occurs more than FACTOR times as often as the two below it, and as the two above it (medians), is no count.
    Beside small values stand the whole numbers, beside large ones the next that occur, as 1.2k is rounded. At the lower
    end, where a distribution may fall steeply, the expectation is what continues the fall geometrically:
    c1 max(1, c1 / c2). This is asked of the whole table, and of each of STRATA equal parts of it by followers, since 3
    likes may be common among small users only.
 2. A user has hardly any other. Of a user with at least MIN_POSTS selfies, k of n have the same likes. The chance of
    that, if each had it with probability p, is a binomial tail; p is the largest of P_LEAST, the value's share among
    the other selfies of that part of the table, and the most that a Poisson distribution can give to that value. It is
    too small if even among all users it would be seen with a chance below CHANCE. Where others of the same audience
    have the value often, nothing is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

FACTOR = 5  # times as often as its neighbours
LEAST = 20  # selfies with a value, below which it never stands out
STRATA, STRATUM = 8, 200  # parts by followers, and the fewest selfies of each
MIN_POSTS, SHARE = 5, 0.8  # of a user, and the share of them with the same likes
P_LEAST, COMMON, CHANCE = 0.05, 0.05, 1e-3
SMALL = 10  # up to here every whole number is a neighbour, whether it occurs or not
TOLD = 10  # values that the report lists


def find(table: pl.DataFrame) -> tuple[pl.Series, dict[str, Any]]:
    """Find selfies whose likes are no count; columns user, likes and followers, none null.

    Returns a Boolean for each row, and for the report: selfies, users, and the commonest values with their number of
    selfies and users.
    """
    rows = table.select(pl.col("user").hash(), "likes", stratum=_strata(table["followers"]))  # numbers are faster
    hidden = _standing_out(rows)
    hidden |= _of_users(rows.with_columns(hidden=hidden))
    found = rows.filter(hidden)
    values = found.group_by("likes").agg(selfies=pl.len(), users=pl.col("user").n_unique())
    return hidden, {
        "selfies": found.height,
        "users": found["user"].n_unique(),
        "values": values.sort("selfies", "likes", descending=[True, False]).head(TOLD).to_dicts(),
    }


def stands_out(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Choose the values that occur improbably often (1 above); values ascend from 0 on, counts are at least 1."""
    small = np.arange(SMALL + 3)
    absent = np.setdiff1d(small, values)
    order = np.argsort(np.concatenate([values, absent]), kind="stable")
    values = np.concatenate([values, absent])[order]
    counts = np.concatenate([counts, np.zeros(len(absent), np.int64)])[order]
    places = np.flatnonzero(counts >= LEAST)
    return np.array(
        [values[place] for place in places if counts[place] > FACTOR * _expected(int(place), counts)], np.int64
    )


def _expected(place: int, counts: np.ndarray) -> float:
    """How often the value at `place` would occur, by its neighbours."""
    below, above = counts[max(0, place - 2) : place], counts[place + 1 : place + 3].astype(float)
    if not len(above):
        above = np.zeros(1)
    if len(below):
        return max(1.0, float(np.median(below)), float(np.median(above)))
    return max(1.0, above[0], above[0] ** 2 / max(above[-1], 1.0))


def _strata(followers: pl.Series) -> pl.Series:
    """Number of the part of the table, by followers, in which each row is."""
    parts = max(1, min(STRATA, len(followers) // STRATUM))
    edges = np.quantile(followers.to_numpy(), np.arange(1, parts) / parts) if len(followers) else np.empty(0)
    return pl.Series("stratum", np.searchsorted(edges, followers.to_numpy(), side="right").astype(np.int8))


def _standing_out(rows: pl.DataFrame) -> pl.Series:
    """Mark the rows whose likes stand out in the table, or in their part of it."""
    counts = rows.group_by("stratum", "likes").len().sort("stratum", "likes")
    whole = counts.group_by("likes").agg(pl.col("len").sum()).sort("likes")
    everywhere = stands_out(whole["likes"].to_numpy(), whole["len"].to_numpy())
    found = pl.Series(rows["likes"].is_in(everywhere.tolist()))
    for (stratum,), part in counts.filter(~pl.col("likes").is_in(everywhere.tolist())).group_by("stratum"):
        values = stands_out(part["likes"].to_numpy(), part["len"].to_numpy())
        if len(values):
            found |= (rows["stratum"] == stratum) & rows["likes"].is_in(values.tolist())
    return found


def _of_users(rows: pl.DataFrame) -> pl.Series:
    """Mark the rows of users who have hardly any other likes (2 above); columns user, likes, stratum, hidden."""
    from scipy import stats

    posts = rows.group_by("user").len("posts").filter(pl.col("posts") >= MIN_POSTS)
    same = pl.col("likes") == pl.col("likes").median()
    of_them = rows.lazy().join(posts.lazy(), on="user").group_by("user")
    users = of_them.agg(pl.first("posts"), value=pl.col("likes").median(), same=same.sum()).collect()
    many = users.height
    users = users.filter((pl.col("same") >= MIN_POSTS) & (pl.col("same") >= SHARE * pl.col("posts")))
    if users.is_empty():
        return pl.repeat(False, rows.height, eager=True)
    users = users.with_columns(pl.col("value").cast(pl.Int64))
    suspects = rows.join(users, on="user", how="left")
    others = suspects.filter(pl.col("value").is_null() & ~pl.col("hidden"))
    shares = others.group_by("stratum", "likes").len().join(others.group_by("stratum").len("all"), on="stratum")
    shares = shares.select("stratum", pl.col("likes").alias("value"), share=pl.col("len") / pl.col("all"))
    homes = suspects.drop_nulls("value").group_by("user").agg(pl.first("posts", "value", "same"), pl.first("stratum"))
    homes = homes.join(shares, on=["stratum", "value"], how="left").with_columns(pl.col("share").fill_null(0))
    value, share = homes["value"].to_numpy(), homes["share"].to_numpy()
    chance = np.maximum(
        np.maximum(P_LEAST, share), np.where(value > 0, stats.poisson.pmf(value, np.maximum(value, 1)), 0)
    )
    tail = stats.binom.sf(homes["same"].to_numpy() - 1, homes["posts"].to_numpy(), chance)
    flagged = homes.filter(pl.Series((tail * many < CHANCE) & (share <= COMMON))).select("user", flagged="value")
    if flagged.is_empty():
        return pl.repeat(False, rows.height, eager=True)
    marked = rows.select("user", "likes").join(flagged, on="user", how="left", maintain_order="left")
    return (marked["likes"] == marked["flagged"]).fill_null(False)
