"""The labels mean what the post says, audience does not tell them, and nothing disappears uncounted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

import label as command
import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import duplicates, label_filters, label_report, labels, manifest, moments
from selfie.data.label_settings import Settings
from selfie.data.user_split import assign_split, stable_hash

AS_OF = datetime(2015, 10, 25)
OPEN = Settings(as_of=AS_OF, group_size=4, min_followers=0, max_followers=2**62, max_tags=10**6, keep_hidden_likes=True)


def simulated(rows: int, seed: int = 0, noise: float = 1.0, users: int | None = None) -> pl.DataFrame:
    """A manifest whose likes are proportional to the audience times log-normal noise; followers are log-normal."""
    rng = np.random.default_rng(seed)
    user = np.arange(rows) if users is None else rng.integers(0, users, rows)
    followers = np.exp(rng.normal(5.8, 1.3, user.max() + 1)).astype(np.int64)[user]
    tags = rng.integers(1, 15, rows)
    likes = np.rint(0.1 * followers * (1 + 0.02 * (tags - 1)) * np.exp(noise * rng.normal(size=rows))).astype(np.int64)
    posted = AS_OF - timedelta(days=31) - pl.Series(rng.integers(0, 10**11, rows)).cast(pl.Duration("ms")).rename("t")
    return pl.DataFrame(
        {
            "id": pl.Series(np.arange(rows)).cast(pl.String),
            "user": "u" + pl.Series(user).cast(pl.String),
            "followers": followers,
            "likes": likes,
            "posted_at": posted.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tags": [" ".join(["selfie"] * int(n)) for n in tags],
        }
    ).with_columns(path=pl.col("id") + ".jpg")


def table(**columns: list) -> pl.DataFrame:
    """Perfect rows save `columns`: each its own user, with 100 followers and as many likes as its number."""
    rows = len(next(iter(columns.values())))
    names = [f"{n}" for n in range(rows)]
    return pl.DataFrame(
        {
            "id": names,
            "path": [f"{n}.jpg" for n in names],
            "user": [f"u{n}" for n in names],
            "followers": [100] * rows,
            "likes": list(range(rows)),
            "tags": ["selfie"] * rows,
            "posted_at": ["2015-01-01"] * rows,
            **columns,
        }
    )


def removed(report: dict) -> dict[str, int]:
    return {step["reason"]: step["removed"] for step in report["removed"] if step["removed"]}


def good(labelled: pl.DataFrame) -> set[str]:
    return set(labelled.filter(pl.col("label") == 1)["id"])


# --- the rule --------------------------------------------------------------------------------------------------------


def test_audience_does_not_tell_the_label():
    """On 100,000 rows whose likes are proportional to the audience its AUC is 0.5 +- 0.01, inside the groups too.

    Over all rows balanced groups alone give that; inside them only narrow groups do. Halves of the likes without groups
    leak.
    """
    rows = simulated(100_000)
    labelled, report = labels.label(rows, Settings(as_of=AS_OF))
    assert set(report["auc"]) == {"audience", "followers", "tags", "audience inside groups", "tags inside groups"}
    assert all(abs(value - 0.5) < 0.01 for value in report["auc"].values())
    assert labelled.height > 90_000
    scores = labelled.sort("likes").with_columns(
        label=(pl.int_range(pl.len()) >= pl.len() // 2).cast(pl.Int8), group=pl.lit(0)
    )
    assert label_report.group_auc(scores, "audience").item() > 0.75


def test_auc_is_the_probability_that_a_good_one_is_larger():
    """Against its definition: all pairs counted, ties half."""
    rng = np.random.default_rng(0)
    value, label = rng.integers(0, 9, 60), np.repeat([0, 1], 30)
    pairs = np.sign(value[label == 1][:, None] - value[label == 0][None, :])
    rows = pl.DataFrame({"group": 0, "label": label, "x": value})
    assert label_report.group_auc(rows, "x").item() == pytest.approx((pairs.mean() + 1) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_is_that_of_the_post(seed):
    """Equal to its steps written down naively: sort by audience, groups of N, the half with more likes is good."""
    rows = simulated(103, seed)
    labelled, _ = labels.label(rows, Settings(as_of=AS_OF, group_size=10, seed=seed, min_followers=0))
    coin = dict(zip(rows["id"], stable_hash(rows["id"], seed, "coin")))
    line = sorted(
        (
            (row["followers"] * (1 + 0.02 * (len(row["tags"].split()) - 1)), coin[row["id"]], row)
            for row in rows.to_dicts()
        ),
        key=lambda entry: entry[:2],
    )
    expected = {}
    for start in range(0, 100, 10):
        group = sorted((row["likes"], tie, row["id"]) for _, tie, row in line[start : start + 10])
        expected |= {entry[2]: (int(place >= 5), start // 10) for place, entry in enumerate(group)}
    assert {row["id"]: (row["label"], row["group"]) for row in labelled.to_dicts()} == expected


def test_classes_are_balanced_in_every_group():
    """Half of each group is good, even when all likes are equal."""
    labelled, report = labels.label(table(likes=[7] * 40), OPEN)
    assert labelled.group_by("group").agg(pl.col("label").sum())["label"].to_list() == [2] * 10
    assert report["labels_decided_by_coin"] == 40


def test_ties_are_decided_by_the_seed_alone():
    """A row's side of the median follows from its id and the seed, and only ties are decided so."""
    rows = table(likes=[0, 5, 5, 9] * 50)
    sides = [
        good(labels.label(rows, Settings(as_of=AS_OF, group_size=200, seed=seed, keep_hidden_likes=True))[0])
        for seed in (0, 0, 1)
    ]
    assert sides[0] == sides[1] != sides[2]
    assert all(f"{n}" in side for side in sides for n in range(3, 200, 4))
    assert not any(f"{n}" in side for side in sides for n in range(0, 200, 4))
    assert (
        labels.label(rows, Settings(as_of=AS_OF, group_size=200, keep_hidden_likes=True))[1]["labels_decided_by_coin"]
        == 100
    )


def test_each_tag_after_the_first_enlarges_the_audience():
    """followers * (1 + bonus * additional tags); no tags and one tag are the same, spaces do not count."""
    rows = table(tags=[None, "selfie", " selfie  me ", "a b c d e"])
    labelled, _ = labels.label(rows, Settings(as_of=AS_OF, group_size=2, tag_bonus=0.1))
    assert labelled.sort("id")["audience"].to_list() == pytest.approx([100, 100, 110, 140])


def test_the_incomplete_last_group_is_dropped_and_counted():
    """It is that of the largest audiences."""
    labelled, report = labels.label(table(followers=[5, 1, 4, 2, 3, 6]), OPEN)
    assert set(labelled["id"]) == {"0", "1", "2", "3", "4", "5"} - {"0", "5"}
    assert removed(report) == {"last, incomplete group": 2}


def test_the_spread_of_groups_is_measured():
    """The report proposes a limit for followers where all groups are wide, and nothing where none is."""
    rows = table(followers=[100, 101, 102, 103, 1000, 2000, 4000, 9000])
    spread = labels.label(rows, OPEN)[1]["spread"]
    assert spread["wide_groups"] == 1 and spread["all_wide_above"] == 1000 and spread["largest"] == 9
    assert labels.label(table(likes=list(range(8))), OPEN)[1]["spread"]["all_wide_above"] is None


def test_median_rule_halves_the_popularity():
    """For the UCF data set: upper half good; of an odd number the middle one is dropped and counted."""
    rows = table(popularity=[5.0, 1.0, 3.0, 4.0, None]).drop("likes", "followers", "posted_at", "user")
    labelled, report = labels.label(rows, Settings(rule="median"))
    assert good(labelled) == {"0", "3"} and labelled.height == 4
    labelled, report = labels.label(rows.with_columns(pl.col("popularity").fill_null(0)), Settings(rule="median"))
    assert good(labelled) == {"0", "3"} and set(labelled["id"]) == {"0", "1", "3", "4"}
    assert removed(report) == {"the one in the middle": 1} and "auc" not in report


# --- order, seeds, splits --------------------------------------------------------------------------------------------


def test_the_order_of_rows_does_not_matter():
    """Shuffled input gives the identical table, ties, duplicates and repeated pictures included."""
    rows = simulated(2000, users=300).with_columns(likes=pl.col("likes") // 20)
    twins = rows.head(100).with_columns(likes=pl.col("likes") + pl.int_range(pl.len()) % 3, path=pl.lit("x") + "path")
    rows = pl.concat([rows, twins]).with_columns(
        content=pl.when(pl.int_range(pl.len()) % 7 == 0).then((pl.int_range(pl.len()) % 210).cast(pl.String))
    )
    first, report = labels.label(rows, Settings(as_of=AS_OF, group_size=10))
    assert removed(report)["same id"] > 0 and removed(report)["same picture"] > 0
    for seed in range(3):
        again, again_report = labels.label(
            rows.sample(fraction=1, shuffle=True, seed=seed), Settings(as_of=AS_OF, group_size=10)
        )
        assert again.equals(first) and again_report == report


def test_no_user_is_in_two_splits():
    """All selfies of a user fall in one split, in about the asked shares."""
    labelled, report = labels.label(simulated(50_000, users=20_000), Settings(as_of=AS_OF, split=(0.5, 0.3, 0.2)))
    assert labelled.group_by("user").agg(pl.col("split").n_unique())["split"].max() == 1
    counts = [report["splits"][name]["rows"] / labelled.height for name in ("train", "val", "test")]
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert sum(split["rows"] for split in report["splits"].values()) == labelled.height


def test_a_user_keeps_the_split_when_rows_are_added():
    """A test user of today is no training user tomorrow; another seed deals again."""
    rows = simulated(4000, users=1000)
    settings = Settings(as_of=AS_OF, group_size=10, split=(0.5, 0.25, 0.25))
    before = dict(labels.label(rows.head(2000), settings)[0].select("user", "split").iter_rows())
    after = dict(labels.label(rows, settings)[0].select("user", "split").iter_rows())
    assert len(before) > 500 and all(after.get(user, split) == split for user, split in before.items())
    other = assign_split(pl.Series(list(before)), (0.5, 0.25, 0.25), seed=1).to_list()
    assert other != list(before.values())


def test_shares_of_zero_are_empty():
    """--split 1,0,0 puts everyone into train, and so on."""
    users = pl.Series([f"u{n}" for n in range(10_000)])
    for shares, name in (((1, 0, 0), "train"), ((0, 1, 0), "val"), ((0, 0, 1), "test")):
        assert assign_split(users, shares, 0).unique().to_list() == [name]
    assert set(assign_split(users, (0.9, 0.1, 0), 0)) == {"train", "val"}


def test_a_selfie_without_user_is_its_own_user():
    """Missing users are not lumped together; the id stands in their place."""
    labelled, _ = labels.label(table(user=[None, None, "u", "u"]), OPEN)
    assert sorted(labelled["user"]) == ["0", "1", "u", "u"]
    assert sorted(labels.label(table(id=list("abcd")).drop("user"), OPEN)[0]["user"]) == list("abcd")


def test_split_and_label_are_independent():
    """Users' split says nothing about their labels, although both are drawn from hashes of the id."""
    rows = simulated(20_000).with_columns(likes=pl.lit(1)).drop("user")
    labelled, _ = labels.label(rows, Settings(as_of=AS_OF, split=(0.5, 0.25, 0.25), keep_hidden_likes=True))
    shares = labelled.group_by("split").agg(pl.col("label").mean())["label"]
    assert all(abs(share - 0.5) < 0.03 for share in shares)


def test_the_hash_is_that_of_its_description():
    """Equal to the description in plain integers, so it outlives versions of polars and numpy; any length of text."""
    from hashlib import blake2b

    mask = 2**64 - 1

    def stir(state):
        state = (state + 0x9E3779B97F4A7C15) & mask
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
        return state ^ (state >> 31)

    def slow(text, seed, purpose):
        raw = text.encode()
        state = stir(len(raw) ^ int.from_bytes(blake2b(f"{purpose}:{seed}".encode(), digest_size=8).digest(), "little"))
        for offset in range(0, len(raw), 8):
            state = stir(state ^ int.from_bytes(raw[offset : offset + 8], "little"))
        return state

    texts = ["", "a", "1234567", "12345678", "123456789", "é" * 9, "x" * 1000, "a\0", "a\0\0"]
    for seed in (0, -1, 2**70):
        assert stable_hash(pl.Series(texts), seed, "coin").to_list() == [slow(t, seed, "coin") for t in texts]
    assert stable_hash(pl.Series([f"{n}" for n in range(100_000)]), 0, "coin").n_unique() == 100_000


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"id": None}, "no id"),
        ({"path": None}, "no path"),
        ({"likes": None}, "likes missing or not a whole number"),
        ({"likes": -1}, "negative likes"),
        ({"followers": None}, "followers missing or not a whole number"),
        ({"followers": -5}, "negative followers"),
        ({"posted_at": None}, "posted_at missing or not a date"),
        ({"posted_at": "yesterday"}, "posted_at missing or not a date"),
        ({"posted_at": "2015-02-30"}, "posted_at missing or not a date"),
        ({"posted_at": "2015-10-25T00:00:01Z"}, "posted after 2015-10-25"),
        ({"posted_at": "2015-09-25T00:00:01Z"}, "younger than 30 days as of 2015-10-25"),
        ({"followers": 49}, "fewer than 50 followers"),
        ({"followers": 50_001}, "more than 50000 followers"),
        ({"tags": "t " * 21}, "more than 20 tags"),
        ({"face_count": 0}, "no face"),
        ({"face_count": None}, "no face"),
        ({"id": "0"}, "same id"),
        ({"path": "0.jpg"}, "same picture"),
        ({"content": "c0"}, "same picture"),
    ],
)
def test_what_is_removed_is_counted(change, reason):
    """One bad row among good ones: it is missing from the labels, and its reason is in the report."""
    columns = {"face_count": [1] * 5, "content": [f"c{n}" for n in range(5)]}
    rows = table(**columns)
    if change.get("path"):
        rows = rows.drop("content")
    rows = rows.with_columns(
        pl.when(pl.col("id") == "4").then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in change.items()
    )
    labelled, report = labels.label(rows, Settings(as_of=AS_OF, group_size=4))
    assert removed(report) == {reason: 1} and labelled.height == 4
    assert report["rows"] == 5 and report["removed"][-1]["remaining"] == report["labelled"] == 4


@pytest.mark.parametrize(
    "change",
    [
        {"followers": 50},
        {"followers": 50_000},
        {"tags": "t " * 20},
        {"tags": None},
        {"likes": 0},
        {"posted_at": "2015-09-25T00:00:00Z"},
    ],
)
def test_limits_are_inclusive(change):
    """Exactly 50 followers, 20 tags, 30 days, no tags, no likes: all allowed."""
    rows = table(likes=[1, 2, 3, 4]).with_columns(
        pl.when(pl.col("id") == "3").then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in change.items()
    )
    assert removed(labels.label(rows, Settings(as_of=AS_OF, group_size=4))[1]) == {}


@pytest.mark.parametrize(
    "text, meant",
    [
        ("2015-03-01", "2015-03-01T00:00:00"),
        ("2015-03-01T10:20:30Z", "2015-03-01T10:20:30"),
        ("2015-03-01 10:20", "2015-03-01T10:20:00"),
        ("2015-03-01t10:20:30.25z", "2015-03-01T10:20:30.250000"),
        ("2015-03-01T10:20:30+02:00", "2015-03-01T08:20:30"),
        ("2015-03-01T10:20-0130", "2015-03-01T11:50:00"),
        ("2015-03-01 10:20:30+02", "2015-03-01T08:20:30"),
        (" 2015-03-01 ", "2015-03-01T00:00:00"),
        ("2015-3-1", "2015-03-01T00:00:00"),
        ("2015/3/1 7:05", "2015-03-01T07:05:00"),
        ("01.03.2015", "2015-03-01T00:00:00"),
        ("20150301", "2015-03-01T00:00:00"),
        ("20150301T102030Z", "2015-03-01T10:20:30"),
        ("1425168000", "2015-03-01T00:00:00"),
        ("1425168000.5", "2015-03-01T00:00:00.500000"),
        ("1425168000123", "2015-03-01T00:00:00.123000"),
        ("2015-03-01 10:20:30 UTC", "2015-03-01T10:20:30"),
        ("Sun, 01 Mar 2015 10:20:30 GMT", "2015-03-01T10:20:30"),
        ("Sun, 1 Mar 2015 10:20:30 +0100", "2015-03-01T09:20:30"),
        ("Sun Mar 01 10:20:30 +0000 2015", "2015-03-01T10:20:30"),
        ("20150301102030", "2015-03-01T10:20:30"),
        ("20150301T102030", "2015-03-01T10:20:30"),
        ("1425168000500000000", "2015-03-01T00:00:00.500000"),
        ("2015-03-01 10:20:30.5 UTC", "2015-03-01T10:20:30.500000"),
        ("2015-03-01 10:20:30 -0800 PST", "2015-03-01T18:20:30"),
        ("2015-03-01_10-20-30_UTC", "2015-03-01T10:20:30"),
        ("2015:03:01 10:20:30", "2015-03-01T10:20:30"),
        ("2015年3月1日", "2015-03-01T00:00:00"),
        ("٢٠١٥-٠٣-٠١", "2015-03-01T00:00:00"),
        ("Sun Mar  1 10:20:30 2015", "2015-03-01T10:20:30"),
        ("Mar 1, 2015", "2015-03-01T00:00:00"),
        ("1 March 2015 10:20", "2015-03-01T10:20:00"),
        ("1-Mar-2015", "2015-03-01T00:00:00"),
        ("March 1, 2015 at 10:20 PM", "2015-03-01T22:20:00"),
        ("2015-03-01 12:05:00 AM", "2015-03-01T00:05:00"),
        ("3/13/2015", "2015-03-13T00:00:00"),
        ("13/3/2015 10:20", "2015-03-13T10:20:00"),
        ("3/3/2015", "2015-03-03T00:00:00"),
        ("1/3/2015", None),
        ("01.03.15", None),
        ("2015-03", None),
        ("20151301102030", None),
        ("+2015-03-01", None),
        ("2015", None),
        ("99", None),
        ("2015-13-01", None),
        ("", None),
        ("2015-03-01T25:00:00Z", None),
        ("12015-03-01", None),
        ("2015-03-01T10:20:30 CET", None),
        ("2015-03-01x", None),
    ],
)
def test_dates_are_what_can_only_be_one(text, meant):
    """UTC when there is no zone; what is no such date is missing, never guessed."""
    if meant is None:
        with pytest.raises(SelfieError, match="is not a date"):
            label_filters.parse_date(text)
    else:
        assert label_filters.parse_date(text) == datetime.fromisoformat(meant).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "others, meant, told",
    [
        (["13/3/2015"], datetime(2015, 3, 1), "'1/3/2015' is read with the day first, as '13/3/2015' tells"),
        (["3/13/2015", "2015-01-01"], datetime(2015, 1, 3), "with the month first, as '3/13/2015' tells"),
        (["13/3/2015", "3/13/2015"], None, "1 of 3 values are no times, such as '1/3/2015' (day or month first?)"),
        (["2/3/2015"], None, "2 of 2 values are no times"),
    ],
)
def test_days_and_months_are_told_apart_by_the_other_values(others, meant, told):
    """As the numbers' marks are: by a value that can only be one, unless another says otherwise."""
    found, notes = moments.read(pl.Series("posted_at", ["1/3/2015", *others]))
    assert found[0] == meant and told in "; ".join(notes)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("posted_at", ["0000-01-01T00:00:00Z"]),
        pl.Series("posted_at", ["0000-01-01", "0001-01-01T00:00:00+14:00"]),
        pl.Series("posted_at", ["9999-12-31T23:59:59-14:00"]),
        pl.Series("posted_at", [2**62, -(2**62)]).cast(pl.Datetime("us")),
    ],
)
def test_years_before_1_and_after_9999_are_no_times(column):
    """Databases write the year 0 for none; Python cannot hold it, nor what a time zone makes of the ends."""
    found, notes = moments.read(column)
    assert found.to_list() == [None] * len(column) and f"{len(column)} of {len(column)} values are no times" in notes[0]
    ends = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    assert [f"{time.isoformat()}Z" for time in moments.timestamps(pl.Series("posted_at", ends))] == ends
    with pytest.raises(SelfieError, match="'0000-01-01' is not a date"):
        label_filters.parse_date("0000-01-01")


def test_what_is_no_time_is_told_with_an_example(tmp_path):
    """label.py says how many, and one of them; whole numbers may be days; a column of nothing is missing."""
    rows = simulated(300).with_columns(
        posted_at=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("last week\x1b")).otherwise("posted_at")
    )
    rows.write_csv(tmp_path / "m.csv")
    done = testlib.command("tools/label.py", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv")
    assert "posted_at: 3 of 300 values are no times, such as 'last week\\u001b'" in done.stderr
    assert "3 of 300 values" in (tmp_path / "l.report.json").read_text()
    assert moments.timestamps(pl.Series("posted_at", [20150301, 20150301102030, 7])).to_list() == [
        datetime(2015, 3, 1),
        datetime(2015, 3, 1, 10, 20, 30),
        None,
    ]
    assert moments.timestamps(pl.Series("posted_at", [None, None])).to_list() == [None, None]


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("ms"), pl.Datetime("ns", "Europe/Berlin")])
def test_timestamps_of_parquet_are_understood(dtype):
    """A column of dates or timestamps serves as well as text, zones respected."""
    days = pl.Series([datetime(2015, 1, 1), datetime(2015, 9, 25), datetime(2015, 9, 26), datetime(2014, 1, 1)])
    days = days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    days = (
        days.dt.convert_time_zone(dtype.time_zone)
        if getattr(dtype, "time_zone", None)
        else (days.dt.replace_time_zone(None))
    )
    rows = table(posted_at=days.cast(dtype).to_list()).with_columns(posted_at=days.cast(dtype))
    assert removed(labels.label(rows, Settings(as_of=AS_OF, group_size=2))[1]) == {
        "younger than 30 days as of 2015-10-25": 1,
        "last, incomplete group": 1,
    }


def test_the_crawl_is_as_old_as_its_newest_post():
    """Without --as-of: the newest post that is not in the future of the clock, so that a rerun gives the same."""
    rows = table(posted_at=["2015-01-01", "2015-01-02", "2015-03-01", "2999-01-01", "junk"])
    _, report = labels.label(rows, Settings(group_size=2))
    assert report["settings"]["as_of"] == "2015-03-01T00:00:00Z" and report["as_of_from"] == "the newest post"
    assert removed(report) == {
        "posted_at missing or not a date": 1,
        "posted after 2015-03-01": 1,
        "younger than 30 days as of 2015-03-01": 1,
    }
    with pytest.raises(
        SelfieError, match=r"as of 2015-03-01: 1, .*; ages count up to 2015-03-01, the newest post; .*'junk'\)"
    ):
        labels.label(rows, Settings(group_size=4))


def test_of_equal_ids_the_latest_count_stays():
    """The row with the most likes was crawled last; a row that is unusable never replaces a usable one."""
    rows = table(id=["a", "a", "a", "b"], likes=[3, 8, None, 1], path=["x", "y", "z", "b"])
    labelled, report = labels.label(rows, Settings(as_of=AS_OF, group_size=2))
    assert labelled.filter(pl.col("id") == "a")["path"].item() == "y"
    assert removed(report) == {"likes missing or not a whole number": 1, "same id": 1}


def test_identical_files_are_found(tmp_path):
    """With --images the earliest of equal pictures stays and missing files are counted; without, the report says so."""
    for name, content in {"0": b"A", "1": b"B", "2": b"A", "3": b"C", "4": b"D"}.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    rows = table(posted_at=["2015-02-01", "2015-01-01", "2015-01-01", "2015-01-01", "2015-01-01", "2015-01-01"])
    labelled, report = labels.label(rows, OPEN, images=tmp_path)
    assert set(labelled["id"]) == {"1", "2", "3", "4"}
    assert removed(report) == {"image file missing or unreadable": 1, "same picture": 1}
    assert report["pictures_compared_by"].startswith("file content")
    assert "not checked" in labels.label(rows, OPEN)[1]["pictures_compared_by"]


def test_a_missing_picture_is_told_with_an_example(tmp_path, caplog):
    """How many are not there, and one of them: most often the folder, or the separator of folders, is another."""
    caplog.set_level("INFO")
    (tmp_path / "a.jpg").write_bytes(b"a")
    rows = pl.DataFrame({"id": ["1", "2", "3"], "path": ["a.jpg", "b\\c\x1b.jpg", "d.jpg"], "likes": [1, 2, 3]})
    _, removed, _ = duplicates.unique(rows, tmp_path, 1)
    assert removed["image file missing or unreadable"] == 2
    assert "2 of 3 pictures are not in" in caplog.text and r'"b\\c\u001b.jpg" (its \ separates' in caplog.text


def test_keys_of_files_do_not_depend_on_the_number_of_processes(tmp_path):
    """Several batches, one process or two: the same column, in the same order."""
    names = pl.Series([f"{n}.jpg" for n in range(600)])
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"%d" % (number // 2))
    one, two = duplicates.contents(names, tmp_path, jobs=1), duplicates.contents(names, tmp_path, jobs=2)
    assert one.equals(two) and one.n_unique() == 300


def test_files_are_equal_where_all_their_bytes_are(tmp_path):
    """Of equal size, equal in the middle, different in the first byte or the last: other keys; copies: the same."""
    middle = bytes(range(256)) * 64
    files = {
        "a": b"1" + middle + b"1",
        "first": b"2" + middle + b"1",
        "last": b"1" + middle + b"2",
        "copy of a": b"1" + middle + b"1",
        "other middle": b"1" + middle[::-1] + b"1",
        "shorter": middle,
        "empty": b"",
        "also empty": b"",
        "one byte": b"1",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # to open one would wait for ever
    names = [*files, "folder", "pipe", "missing", "NUL\0", "a"]
    keys = duplicates.contents(pl.Series(names), tmp_path).to_list()
    assert keys[len(files) : -1] == [None] * 4
    for name, key in zip(names, keys):
        if name in files:
            assert {n for n, k in zip(names, keys) if k == key} == {n for n in files if files[n] == files[name]}


def test_only_files_that_may_be_equal_are_read(tmp_path, monkeypatch):
    """Of 20 sizes, 2 occur twice, and once the middle is equal as well."""
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(b"x" * (9000 + number))
    (tmp_path / "twin").write_bytes(b"x" * 9003)
    (tmp_path / "other").write_bytes(b"y" * 9007)
    opened, digest, middle = [], duplicates._digest, duplicates._middle
    monkeypatch.setattr(duplicates, "_digest", lambda path: opened.append(("whole", path)) or digest(path))
    monkeypatch.setattr(duplicates, "_middle", lambda path: opened.append(("middle", path)) or middle(path))
    names = [f"{n}" for n in range(20)] + ["twin", "other"]
    keys = duplicates.contents(pl.Series(names), tmp_path, jobs=1)
    assert keys.n_unique() == 21 and keys[3] == keys[20]
    assert sorted((how, path.rsplit("/", 1)[1]) for how, path in opened) == sorted(
        [("middle", name) for name in ("3", "7", "twin", "other")] + [("whole", name) for name in ("3", "twin")]
    )


# --- errors and the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"group_size": 3}, "--group-size is 3"),
        ({"group_size": 0}, "--group-size is 0"),
        ({"tag_bonus": float("nan")}, "--tag-bonus"),
        ({"tag_bonus": -1}, "--tag-bonus"),
        ({"tag_bonus": 1e308}, "--tag-bonus"),
        ({"min_age_days": -1}, "--min-age-days"),
        ({"min_followers": 10, "max_followers": 9}, "leave nobody"),
        ({"max_tags": -1}, "--max-tags"),
        ({"split": (0.5, 0.5)}, "--split is 0.5,0.5:"),
        ({"split": (0.5, 0.4, 0.2)}, "--split"),
        ({"split": (1.5, -0.5, 0.0)}, "--split"),
        ({"rule": "mean"}, "--rule"),
    ],
)
def test_senseless_settings_are_named(changes, complaint):
    """Each names its flag."""
    with pytest.raises(SelfieError, match=complaint):
        labels.label(table(likes=[1, 2]), Settings(**changes))


def test_too_few_selfies_say_why():
    """An empty result and less than one group give the reasons with their counts."""
    with pytest.raises(SelfieError, match=r"none of the 2 selfies in the manifest is usable \(negative likes: 2\)"):
        labels.label(table(likes=[-1, -1]), OPEN)
    with pytest.raises(SelfieError, match=r"3 of the 4 selfies .* fewer than one group of 4: lower --group-size"):
        labels.label(table(likes=[1, 2, 3, -1]), OPEN)
    with pytest.raises(SelfieError, match="has no rows"):
        labels.label(table(likes=[1]).clear(), OPEN)


def test_a_missing_column_is_named():
    """And a table of popularity scores is told which rule it needs."""
    with pytest.raises(SelfieError, match=r"m\.csv has no column 'followers'"):
        labels.label(table(likes=[1]).drop("followers"), OPEN, path="m.csv")
    with pytest.raises(SelfieError, match="--rule median"):
        labels.label(table(popularity=[1.0]).drop("likes"), OPEN)


def test_the_command_writes_labels_and_report(tmp_path, capsys):
    """From the file to labels.csv in the agreed columns, with the report printed and saved beside it."""
    manifest.write(simulated(1000), tmp_path / "m.parquet")
    command.main(
        [
            "--manifest",
            str(tmp_path / "m.parquet"),
            "--out",
            str(tmp_path / "labels.csv"),
            "--as-of",
            "2015-10-25",
            "--group-size",
            "50",
            "--seed",
            "3",
        ]
    )
    written = pl.read_csv(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text().startswith("id,path,label,split,user,audience,group,likes\n")
    report = json.loads((tmp_path / "labels.report.json").read_text())
    assert report["labelled"] == written.height and report["settings"]["seed"] == 3
    assert report["settings"]["as_of"] == "2015-10-25T00:00:00Z"
    out = capsys.readouterr().out
    assert "AUC against the label" in out and "younger than 30 days as of 2015-10-25" in out
    assert "ages as of 2015-10-25T00:00:00Z (--as-of)" in out
    command.main(["--manifest", str(tmp_path / "m.parquet"), "--out", str(tmp_path / "again.csv")])
    assumed = json.loads((tmp_path / "again.report.json").read_text())["settings"]["as_of"]
    assert f"ages as of {assumed} (assumed: the newest post; --as-of sets it)" in capsys.readouterr().out


def test_csv_json_lines_and_parquet_give_the_same_labels(tmp_path):
    """The format of the manifest does not matter."""
    outputs = []
    for suffix in (".csv", ".jsonl", ".parquet"):
        manifest.write(simulated(500), tmp_path / f"m{suffix}")
        command.main(["--manifest", str(tmp_path / f"m{suffix}"), "--out", str(tmp_path / f"l{suffix}.csv")])
        outputs.append((tmp_path / f"l{suffix}.csv").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize(
    "options, code, complaint",
    [
        (["--as-of", "soon"], 1, "error: 'soon' is not a date"),
        (["--group-size", "7"], 1, "error: --group-size is 7"),
        (["--split", "0.5,0.2,0.2"], 1, "error: --split"),
        (["--max-followers", str(10**30)], 0, ""),
        (["--images", "nowhere"], 1, "error: no such folder of images: nowhere"),
        (["--min-followers", str(10**15), "--max-followers", str(10**30)], 1, "error: none of the 500 selfies"),
        (["--rule", "median"], 1, "has no column 'popularity'"),
        (["--rule", "median", "--max-tags", "3"], 2, "--max-tags cannot be used with --rule median"),
        (["--out", "labels.txt"], 2, "ends in .csv"),
        (["--split", "a,b"], 2, "not three numbers"),
    ],
)
def test_mistakes_are_one_line(tmp_path, options, code, complaint):
    """Exit code 1 for bad input and 2 for wrong usage, one line on stderr, and nothing written."""
    manifest.write(simulated(500), tmp_path / "m.csv")
    program = [sys.executable, paths.ROOT / "tools" / "label.py", "--manifest", "m.csv", "--out", "l.csv", *options]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    assert complaint in done.stderr and (code != 1 or done.stderr.count("\n") == 1)
    assert code == 0 or [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_the_report_does_not_depend_on_the_number_of_threads(tmp_path):
    """To the last digit: floats are not summed in an order that threads have among themselves."""
    manifest.write(simulated(400), tmp_path / "m.csv")
    outputs = set()
    for threads in ("1", "2", "16"):
        files = ("--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv", "--report", tmp_path / "r.json")
        options = (*files, "--group-size", "10")
        result = testlib.command("tools/label.py", *options, env={**os.environ, "POLARS_MAX_THREADS": threads})
        assert result.returncode == 0, result.stderr
        outputs.add(((tmp_path / "l.csv").read_bytes(), (tmp_path / "r.json").read_bytes()))
    assert len(outputs) == 1
