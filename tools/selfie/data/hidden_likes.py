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

from selfie.data import frequent, label_users

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
    user = pl.Series(label_users.numbers(table))  # numbers are faster
    rows = table.select("likes", user=user, stratum=_strata(table["followers"]))
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
    from scipy import special  # scipy.stats, which has these distributions by name, takes a second to import

    users = _one_valued(rows)
    if users.is_empty():
        return pl.repeat(False, rows.height, eager=True)
    user, likes = rows["user"].to_numpy(), rows["likes"].to_numpy()
    posts = np.bincount(user)
    of_them = pl.Series(np.isin(np.arange(len(posts)), users["user"].to_numpy())[user])
    others = rows.filter(~of_them & ~rows["hidden"])
    everyone = others.group_by("stratum").agg(all=pl.len())
    shares = others.filter(pl.col("likes").is_in(users["value"].unique().to_list())).group_by("stratum", "likes").len()
    shares = shares.join(everyone, on="stratum")
    shares = shares.select("stratum", pl.col("likes").alias("value"), share=pl.col("len") / pl.col("all"))
    homes = rows.filter(of_them).group_by("user").agg(pl.first("stratum")).join(users, on="user")
    homes = homes.join(shares, on=["stratum", "value"], how="left").with_columns(pl.col("share").fill_null(0))
    value, share = homes["value"].to_numpy(), homes["share"].to_numpy()
    likeliest = np.where(value > 0, np.exp(special.xlogy(value, value) - value - special.gammaln(value + 1.0)), 0)
    chance = np.maximum(np.maximum(P_LEAST, share), likeliest)
    tail = special.bdtrc(homes["same"].to_numpy() - 1, homes["posts"].to_numpy(), chance)
    flagged = (tail * int((posts >= MIN_POSTS).sum()) < CHANCE) & (share <= COMMON)
    only = np.full(len(posts), -1)  # of each user the likes that are none
    only[homes["user"].to_numpy()[flagged]] = value[flagged]
    return pl.Series(only[user] == likes)


def _one_valued(rows: pl.DataFrame) -> pl.DataFrame:
    """Find the users of whom at least MIN_POSTS selfies, and a share of SHARE, have the same likes.

    Returns user, value (these likes), same (selfies that have them) and posts (all of the user's selfies).
    """
    posts = np.bincount(rows["user"].to_numpy())
    hashes = rows["user"].to_numpy() << 32 ^ rows["likes"].to_numpy()
    several = rows.filter(pl.Series(frequent.marked(hashes, MIN_POSTS)))  # only their names are compared
    users = several.group_by("user", pl.col("likes").alias("value")).agg(same=pl.len())
    users = users.with_columns(posts=pl.Series(posts[users["user"].to_numpy()]))
    return users.filter((pl.col("same") >= MIN_POSTS) & (pl.col("same") >= SHARE * pl.col("posts")))
