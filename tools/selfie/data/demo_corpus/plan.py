"""Draw the random plan of a corpus: users, posts, what each picture shows, and the planted trouble."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from selfie.data.demo_corpus.optimum import chance_of_good, interpolate
from selfie.data.demo_corpus.rules import AS_OF, HAIR, NOISE, RATE, SUITS, TAG_BONUS, planted_quality

DARKEST, LIGHTEST = -3.0, 0.25  # stops
SMALLEST, LARGEST = 0.21, 0.52  # face
FILTERS = ("faded", "low_contrast", "washed_out", "black_and_white")
_BACKGROUNDS = """
    brick.png coffee.png grass.png gravel.png moon.png motorcycle_left.png rocket.jpg hubble_deep_field.jpg
    gradient clouds
"""
BACKGROUNDS = tuple(_BACKGROUNDS.split())

# Planted trouble: share of the rows, except for the two kinds that strike whole users (share of the users).
TROUBLE = {
    "no_face": 0.04,
    "broken": 0.004,
    "same_image": 0.004,
    "same_id": 0.003,
    "no_likes": 0.005,
    "bad_date": 0.004,
    "too_young": 0.02,
    "many_tags": 0.006,
    "few_followers": 0.02,
    "many_followers": 0.01,
}
DAMAGE = ("truncated", "empty", "text")  # to broken files, in turn
FOLLOWERS = (150, 30_000)  # of ordinary users; troubled ones lie far outside
_WORDS = """
    me happy love smile summer beach friends family gym weekend mood style travel sun sunday work school city
    night party coffee music cute fun life nofilter instagood photooftheday fashion red blue makeup hair
"""
WORDS = tuple(_WORDS.split())


def draw_plan(users: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw a corpus: (posts, truth), the manifest in random order, and one row per picture with all that was drawn."""
    user, followers, kind = _draw_users(users, rng)
    rows = len(user)
    looks = _draw_looks(rows, rng)
    copies = np.flatnonzero(kind == "same_image")
    originals = rng.choice(np.flatnonzero(kind == "selfie"), len(copies), replace=False) if len(copies) else copies
    for column in looks.values():
        column[copies] = column[originals]

    quality = planted_quality(looks)
    ordinary = np.isin(kind, ("selfie", "same_image"))
    tags = np.where(kind == "many_tags", 40, np.minimum(rng.geometric(0.25, rows), 12))
    reach = np.maximum(followers[user], 1) * (1 + TAG_BONUS * (tags - 1))
    centre = quality[ordinary].mean() if ordinary.any() else 0.0
    likes = np.rint(RATE * reach * np.exp(quality - centre + NOISE * rng.standard_normal(rows))).astype(np.int64)
    p_good = interpolate(quality, quality[ordinary], chance_of_good(quality[ordinary], reach[ordinary]))

    names = np.array([f"s{number:06d}" for number in range(rows)])
    same_as = pl.Series(_same_as(rows, copies, names[originals]), dtype=pl.String)
    truth = _truth(names, kind, same_as, looks, pl.DataFrame({"quality": quality, "reach": reach, "p_good": p_good}))
    posts = pl.DataFrame(
        {
            "id": names,
            "path": [name + ".jpg" for name in names],
            "user": [f"u{number:05d}" for number in user],
            "followers": followers[user],
            "likes": likes,
            "tags": _tags(tags, rng),
            "posted_at": _dates(kind, rng),
        }
    )
    posts = posts.with_columns(likes=pl.when(pl.Series(kind.astype(str)) != "no_likes").then(pl.col("likes")))
    again = rng.choice(np.flatnonzero(kind == "selfie"), _how_many("same_id", (kind == "selfie").sum()), replace=False)
    posts = pl.concat([posts, posts[np.sort(again)]])
    return posts[rng.permutation(posts.height)], truth


def _draw_users(users: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the number of each row's user, each user's followers, and each row's kind: "selfie" or a key of TROUBLE."""
    count = np.minimum(40, 1 + np.floor(rng.pareto(1.35, users) * 1.7)).astype(int)  # heavy tail, 3 or 4 on average
    followers = _log_normal(rng, users, 600, 0.9, *FOLLOWERS)
    struck = rng.random(users)
    few = struck < TROUBLE["few_followers"]
    many = struck > 1 - TROUBLE["many_followers"]
    followers[few] = rng.integers(0, 15, few.sum())
    followers[many] = rng.integers(3_000_000, 60_000_000, many.sum())
    user = np.repeat(np.arange(users), count)
    kind = np.where(few[user], "few_followers", np.where(many[user], "many_followers", "selfie")).astype(object)
    return user, followers, _plant_trouble(kind, rng)


def _truth(
    names: np.ndarray, kind: np.ndarray, same_as: pl.Series, looks: dict[str, np.ndarray], numbers: pl.DataFrame
) -> pl.DataFrame:
    """Table of everything drawn, one row per picture; what a picture without a person cannot have is null."""
    damage = np.full(len(names), None, object)
    damage[kind == "broken"] = np.resize(DAMAGE, (kind == "broken").sum())
    truth = pl.DataFrame(
        {
            "id": names,
            "kind": kind.astype(str),
            "same_as": same_as,
            "damage": pl.Series(damage.tolist(), dtype=pl.String),
            **{name: list(column) if name == "others" else column for name, column in looks.items()},
            **numbers.to_dict(),
        },
        strict=False,
    )
    return truth.with_columns(
        pl.when(pl.col("kind") != "no_face").then(pl.col(name)).alias(name)
        for name in ("face", "heads", "x", "y", "tilt", "mirror", "suit", "background", "quality", "p_good")
    )


def _how_many(kind: str, rows: int) -> int:
    """Number of rows that a kind of trouble strikes: its share, but at least 3 (one per sort of broken file)."""
    return min(int(rows) // 4, max(3, round(TROUBLE[kind] * rows)))


def _plant_trouble(kind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each kind of trouble that strikes single rows its share; no row has two."""
    free = rng.permutation(np.flatnonzero(kind == "selfie"))
    rows = len(free)
    for name in ("no_face", "broken", "same_image", "no_likes", "bad_date", "too_young", "many_tags"):
        amount = min(_how_many(name, rows), max(0, len(free) - rows // 2))
        kind[free[:amount]] = name
        free = free[amount:]
    return kind


def _draw_looks(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw what the pictures look like; the first five columns are the planted attributes, mutually independent."""
    group = rng.random(rows) < 0.25
    side, aspect = rng.uniform(285, 370, rows), np.exp(rng.uniform(-0.1, 0.1, rows))
    looks = {
        "stops": rng.uniform(DARKEST, LIGHTEST, rows),
        "face": np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), rows)),
        "heads": np.where(group, rng.integers(2, 5, rows), 1),
        "border": np.where(rng.random(rows) < 0.25, rng.uniform(0.095, 0.125, rows), 0.0),
        "filter": np.where(rng.random(rows) < 0.4, rng.choice(FILTERS, rows), "none"),
        "width": np.rint(side * aspect).astype(int),
        "height": np.rint(side / aspect).astype(int),
        "x": rng.uniform(-1, 1, rows),
        "y": rng.uniform(-1, 1, rows),
        "tilt": np.clip(rng.normal(0, 5, rows), -10, 10),
        "mirror": rng.random(rows) < 0.5,
        "suit": rng.integers(0, SUITS, rows),
        "warmth": rng.normal(0, 0.06, rows),
        "background": rng.choice(BACKGROUNDS, rows),
        "others": np.empty(rows, object),
    }
    for row in range(rows):
        _place(looks, row, rng)
    return looks


def _place(looks: dict[str, np.ndarray], row: int, rng: np.random.Generator) -> None:
    """Turn x, y in [-1, 1] into the face's place in the picture, and set friends beside it where there is room.

    Places are fractions of the width and height. The face stays inside the widest border, and far enough to one side
    to leave room for a friend even if there is none; otherwise the place would give group shots away, a rule that
    nobody planted. A friend's face is at most as large as the main one. `heads` becomes the number that had room, at
    least 2 in a group.
    """
    side = np.sqrt(looks["width"][row] * looks["height"][row])
    wide, high = looks["face"][row] * side / looks["width"][row], looks["face"][row] * side / looks["height"][row]
    slack = min(0.24, 0.5 - 0.105 - wide / 2)  # without the limit small faces would stand farther aside than others
    least = np.clip((0.12 + HAIR * wide - 0.4) / slack, 0, 1)
    x = 0.5 + np.sign(looks["x"][row]) * slack * (least + (1 - least) * abs(looks["x"][row]))
    y = 0.46 + looks["y"][row] * min(0.07, 0.46 - 0.105 - high / 2)
    edge = {-1: x - HAIR * wide, 1: x + HAIR * wide}  # up to where each side is taken
    toward, others = -1 if x > 0.5 else 1, []
    for number in range(1, looks["heads"][row]):
        room = 0.9 - edge[1] if toward > 0 else edge[-1] - 0.1
        share = min(rng.uniform(0.75, 1), room / wide)  # of the main face
        if number == 1:
            share = max(share, 0.11 / wide)
        if share * wide > 0.1:
            centre = min(0.9 - share * wide / 2, max(0.1 + share * wide / 2, edge[toward] + toward * share * wide / 2))
            others.append(
                [
                    centre,
                    y + rng.uniform(-0.3, 0.15) * high,
                    share * looks["face"][row],
                    np.clip(rng.normal(0, 5), -10, 10),
                    rng.integers(0, 2),
                    rng.integers(0, SUITS),
                    rng.uniform(0.85, 1.05),
                ]
            )
            edge[toward] = centre + toward * HAIR * share * wide
        toward = -toward
    looks["x"][row], looks["y"][row], looks["heads"][row] = x, y, 1 + len(others)
    looks["others"][row] = [[float(value) for value in other] for other in others]


def _same_as(rows: int, copies: np.ndarray, originals: np.ndarray) -> list[str | None]:
    """For each row the id of the picture that it repeats, or None; `copies` are row numbers, `originals` ids."""
    names: list[str | None] = [None] * rows
    for copy, original in zip(copies, originals):
        names[copy] = str(original)
    return names


def _log_normal(rng: np.random.Generator, rows: int, median: float, sigma: float, low: int, high: int) -> np.ndarray:
    """`rows` whole numbers from a log-normal distribution, clipped to low ... high."""
    return np.clip(np.rint(median * np.exp(sigma * rng.standard_normal(rows))), low, high).astype(np.int64)


def _tags(count: np.ndarray, rng: np.random.Generator) -> list[str]:
    """`selfie` and random words, as many tags in all as `count` says for each row."""
    words = np.array(WORDS)
    return [
        " ".join(["selfie", *(rng.choice(words, number - 1, replace=number > len(words)) if number > 1 else ())])
        for number in count.tolist()
    ]


def _dates(kind: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Times of posting, from two years to 40 days before AS_OF; where planted, younger than 30 days or no date."""
    wrong = ("yesterday", "2015-13-41T27:00:00Z", "")
    days = np.where(kind == "too_young", rng.uniform(1, 29, len(kind)), rng.uniform(40, 730, len(kind)))
    dates = [(AS_OF - timedelta(seconds=round(float(day) * 86400))).strftime("%Y-%m-%dT%H:%M:%SZ") for day in days]
    for number, row in enumerate(np.flatnonzero(kind == "bad_date")):
        dates[row] = wrong[number % len(wrong)]
    return dates
