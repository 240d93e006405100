"""What the user alone would tell of the labels, and what of a group's AUC is chance."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from test_labels import AS_OF, simulated

from selfie.data import label_report, label_users, labels
from selfie.data.label_settings import Settings


def table(users: list[str], good: list[int], **columns: object) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "label": good, **columns}, schema_overrides={"label": pl.Int8})


def liked_by_user(rows: int, users: int, seed: int = 0) -> pl.DataFrame:
    """A manifest in which some users are liked more than others, whatever their followers."""
    favour = np.random.default_rng(seed).normal(0, 2, users)
    frame = simulated(rows, seed, users=users)
    number = frame["user"].str.slice(1).cast(pl.Int64).to_numpy()
    return frame.with_columns(
        likes=pl.Series(np.rint(frame["likes"].to_numpy() * np.exp(favour[number]))).cast(pl.Int64)
    )


def test_the_accuracy_by_others_is_that_of_asking_each_selfies_siblings():
    """Against the votes counted one by one; a draw, and a user's only selfie, are right half the time."""
    generator = np.random.default_rng(0)
    users, good = [f"u{n}" for n in generator.integers(0, 30, 80)], generator.integers(0, 2, 80).tolist()
    right, several = [], []
    for place, (user, label) in enumerate(zip(users, good)):
        votes = [good[other] for other in range(80) if other != place and users[other] == user]
        right.append(0.5 if not votes or 2 * sum(votes) == len(votes) else float((np.mean(votes) > 0.5) == label))
        several.append(bool(votes))
    report = label_users.report(table(users, good), True)
    assert report["users"] == len(set(users)) and report["largest"] == max(map(users.count, users))
    assert report["selfies_of_users_with_several"] == sum(several)
    assert report["accuracy_by_others"] == pytest.approx(np.mean(right))
    assert report["accuracy_by_others_where_several"] == pytest.approx(np.mean(np.array(right)[several]))


def test_the_intraclass_correlation_is_that_which_was_planted():
    """1 where a user's selfies are alike, about 0 where users do not matter, between where half is theirs."""

    def correlation(users: np.ndarray, good: np.ndarray) -> float | None:
        return label_users.report(table([f"{user}" for user in users], good.tolist()), True)["intraclass_correlation"]

    generator = np.random.default_rng(1)
    users = np.repeat(np.arange(4000), generator.integers(1, 8, 4000))
    assert correlation(users, users % 2) == pytest.approx(1)
    assert correlation(users, generator.integers(0, 2, len(users))) == pytest.approx(0, abs=0.02)
    chance = generator.beta(0.5, 0.5, 4000)[users]  # of a beta distribution it is 1 / (a + b + 1)
    assert correlation(users, (generator.random(len(users)) < chance).astype(int)) == pytest.approx(0.5, abs=0.03)
    assert correlation(np.arange(9), np.arange(9) % 2) is None and correlation(users, 0 * users) is None


def test_labels_of_users_who_are_liked_are_said_to_be_theirs():
    """In the report of `label`; a table without users says so, and has no such numbers."""
    frame = liked_by_user(6000, 300)
    report = labels.label(frame, Settings(as_of=AS_OF, keep_hidden_likes=True))[1]["users"]
    assert report["known"] and report["users"] > 250
    assert report["accuracy_by_others"] > 0.75 and report["intraclass_correlation"] > 0.35
    without = labels.label(frame.drop("user"), Settings(as_of=AS_OF, keep_hidden_likes=True))[1]["users"]
    assert not without["known"] and without["accuracy_by_others"] is None
    nobody = labels.label(
        frame.with_columns(user=pl.lit(None, pl.String)), Settings(as_of=AS_OF, keep_hidden_likes=True)
    )[1]["users"]
    assert nobody == without
    assert without["users"] == labels.label(frame, Settings(as_of=AS_OF, keep_hidden_likes=True))[1]["labelled"]


def test_the_scatter_of_groups_is_set_beside_chance():
    """With single users as wide as Mann and Whitney say; with few users in a group wider, and chance knows it."""
    single = labels.label(simulated(30_000), Settings(as_of=AS_OF, keep_hidden_likes=True))[1]["auc_inside_groups"]
    assert single["groups"] > 200 and single["mean"] == pytest.approx(0.5, abs=0.02)
    assert single["deviation_by_chance"] == pytest.approx(np.sqrt(101 / 12) / 50, rel=0.01)
    for name in ("deviation", "deviation_by_chance_of_users"):
        assert single[name] == pytest.approx(single["deviation_by_chance"], rel=0.15), name
    report = labels.label(liked_by_user(30_000, 1500), Settings(as_of=AS_OF, keep_hidden_likes=True, tag_bonus=0))[1]
    few = report["auc_inside_groups"]
    assert few["lowest"] < 0.3 and few["highest"] > 0.7
    assert few["deviation"] > 1.5 * few["deviation_by_chance"]
    assert few["deviation"] == pytest.approx(few["deviation_by_chance_of_users"], rel=0.2)
    low, high = report["auc_95"]["audience inside groups"]
    assert low < 0.5 < high < low + 0.2 and high - low > 2 * 1.96 * few["deviation_by_chance"] / np.sqrt(few["groups"])


def test_the_interval_of_an_auc_holds_the_truth():
    """Tags that have nothing to do with likes, of users who are liked alike: 0.5 is inside in most of 60 tables."""
    held = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        users = np.repeat(np.arange(60), np.ceil(generator.lognormal(1.5, 1, 60)).astype(int))
        users = users[: len(users) // 2 * 2]
        liked = generator.normal(size=60)[users] + generator.normal(size=len(users))
        tags = (4 + 2 * (generator.normal(size=60)[users] + generator.normal(size=len(users)))).round()
        rows = table(
            [f"{user}" for user in users],
            (liked.argsort().argsort() >= len(users) // 2).astype(int).tolist(),
            tags=tags,
            followers=1,
            audience=generator.random(len(users)),
            group=0,
        )
        low, high = label_report.leaks(rows)["auc_95"]["tags"]
        held.append(low <= 0.5 <= high)
    assert np.mean(held) >= 0.88


def test_numbers_are_equal_where_users_are():
    """Row by row, whatever the order."""
    users = [f"u{n}" for n in np.random.default_rng(2).integers(0, 20, 100)]
    numbers = label_users.numbers(table(users, [0] * 100))
    assert len(set(zip(users, numbers))) == len(set(users)) == len(set(numbers))


def test_users_numbered_before_are_numbered_the_same():
    """From 0 on in the order of the rows, with the numbers of a larger table in another order as with the names."""
    users = [f"u{n}" for n in np.random.default_rng(3).integers(0, 30, 200)]
    whole = table(users, [0] * 200)
    whole = whole.with_columns(person=pl.Series(label_users.numbers(whole)))
    part = whole.sample(80, seed=1, shuffle=True)
    numbers = label_users.numbers(part)
    assert numbers.tolist() == label_users.numbers(part.drop("person")).tolist()
    assert list(dict.fromkeys(numbers.tolist())) == list(range(part["user"].n_unique()))
    assert len(label_users.numbers(part.clear())) == 0
