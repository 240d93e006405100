"""What cannot be as it stands: likes that are none, a tag bonus of the wrong sign, tables that a filter empties."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.data import hidden_likes, labels, manifest, tag_effect
from selfie.data.label_settings import Settings

AS_OF = datetime(2015, 10, 25)


def posts(users: int = 900, each: int = 17, seed: int = 0, scale: float = 0.05, per_tag: float = 0.0) -> pl.DataFrame:
    """Posts as real ones are: likes clustered by user (the logarithm's deviations 1 between users, 0.7 inside)."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(each, users) + 1
    user = np.repeat(np.arange(users), count)
    followers = (50 * (1 + rng.pareto(1, users))).clip(50, 40_000).astype(np.int64)[user]
    tags = rng.integers(1, 15, len(user))
    mean = scale * followers * np.exp(rng.normal(0, 1, users)[user] + rng.normal(0, 0.7, len(user)) + per_tag * tags)
    return pl.DataFrame(
        {
            "id": [f"p{n}" for n in range(len(user))],
            "path": [f"{n}.jpg" for n in range(len(user))],
            "user": [f"u{n}" for n in user],
            "followers": followers,
            "likes": rng.poisson(mean),
            "tags": [" ".join(["selfie"] * n) for n in tags],
            "posted_at": ["2015-01-01"] * len(user),
        }
    )


def hide(
    table: pl.DataFrame, share: float, value: int, by: str = "user", seed: int = 1
) -> tuple[pl.DataFrame, pl.Series]:
    """Set the likes of a share of the users (or posts) to a constant; returns the table and which rows those are."""
    names = table[by].unique(maintain_order=True)
    chosen = names.sample(fraction=share, seed=seed)
    rows = table[by].is_in(chosen.to_list())
    return table.with_columns(likes=pl.when(rows).then(value).otherwise("likes")), rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.001, 0.05, 0.3])
def test_honest_tables_are_left_alone(seed, scale):
    """Neither popular nor hardly noticed users look hidden: at most one selfie in a thousand is suspected."""
    table = posts(seed=seed, scale=scale)
    assert hidden_likes.find(table)[0].mean() < 0.001
    rounded = table.with_columns(
        likes=pl.when(pl.col("likes") >= 100).then(pl.col("likes") // 10 * 10).otherwise("likes")
    )
    assert hidden_likes.find(rounded)[0].mean() < 0.001  # as of tables with 1.2k


@pytest.mark.parametrize("by", ["user", "id"])
@pytest.mark.parametrize("value", [0, 3])
def test_hidden_likes_are_found(by, value):
    """A tenth of the users, or of the posts, has the constant: nearly all of these, and hardly another, are found."""
    table, rows = hide(posts(scale=0.3 if by == "user" else 2.0), 0.1, value, by)
    found, report = hidden_likes.find(table)
    assert (found & rows).sum() > 0.97 * rows.sum() and (found & ~rows).sum() < 0.02 * table.height
    assert report["values"][0]["likes"] == value and report["selfies"] == found.sum()


def test_a_few_hidden_users_are_found_by_themselves():
    """Five of 900 users do not make a value stand out in the table, but each has hardly any other."""
    table = posts(scale=0.3)
    large = (
        table.group_by("user")
        .agg(pl.first("followers"), pl.len())
        .filter(pl.col("followers") > 400, pl.col("len") > 11)
    )
    chosen = large.sort("user")["user"][:5].to_list()
    table = table.with_columns(likes=pl.when(pl.col("user").is_in(chosen)).then(3).otherwise("likes"))
    found = set(table.filter(hidden_likes.find(table)[0])["user"])
    assert found >= set(chosen) and len(found) <= len(chosen) + 2


def test_two_constants_side_by_side_do_not_hide_each_other():
    """0 and 3 both stand for hidden likes in one table."""
    table, first = hide(posts(scale=2.0), 0.1, 0, seed=1)
    table, second = hide(table, 0.1, 3, seed=2)
    found, _ = hidden_likes.find(table)
    assert (found & (first | second)).sum() > 0.97 * (first | second).sum()


def test_a_table_of_nothing_but_one_value_is_refused(tmp_path):
    """All selfies have 3 likes: one line that says so and names the flag; with it they are labelled by the coin."""
    table = posts(users=60).with_columns(likes=pl.lit(3))
    manifest.write(table, tmp_path / "m.csv")
    command = ("tools/label.py", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv", "--as-of", "2015-10-25")
    testlib.assert_one_line_error(testlib.command(*command), "hidden likes", "--keep-hidden-likes")
    assert not (tmp_path / "l.csv").exists()
    done = testlib.command(*command, "--keep-hidden-likes")
    assert done.returncode == 0 and "kept all the same" in done.stdout, done.stderr


def test_hidden_likes_do_not_flip_the_labels_of_others():
    """Without them the labels are nearly those of the table in which these users never were; with them they are not."""
    honest = posts(scale=0.3)
    table, rows = hide(honest, 0.1, 3)
    settings = Settings(as_of=AS_OF, max_tags=30)
    truth = labels.label(honest.filter(~rows), settings)[0].select("id", true="label")

    def agreement(labelled: pl.DataFrame) -> float:
        both = labelled.join(truth, on="id")
        return (both["label"] == both["true"]).mean()

    labelled, report = labels.label(table, settings)
    assert report["hidden_likes"]["selfies"] >= 0.97 * rows.sum()
    kept, kept_report = labels.label(table, Settings(as_of=AS_OF, max_tags=30, keep_hidden_likes=True))
    assert kept_report["hidden_likes"]["selfies"] == report["hidden_likes"]["selfies"]
    assert agreement(labelled) > 0.94 and agreement(labelled) > agreement(kept) + 0.01
    assert set(kept.filter(pl.col("id").is_in(table.filter(rows)["id"].to_list()))["label"]) >= {0}


def test_a_spike_is_judged_by_its_neighbours():
    """Worked examples: a steep fall is none, a comb is none, a constant below the others is one."""

    def spikes(counts: dict[int, int]) -> list[int]:
        return hidden_likes.stands_out(np.array(list(counts)), np.array(list(counts.values()))).tolist()

    assert spikes({0: 700, 1: 150, 2: 60, 3: 30}) == []
    assert spikes({0: 9000, 1: 900, 2: 90, 3: 9}) == []
    assert spikes({1000: 30, 1100: 28, 1200: 33, 1300: 20}) == []
    assert spikes({0: 1600, 1: 5, 2: 7, 3: 8}) == [0]
    assert spikes({1: 8, 2: 10, 3: 1600, 4: 12, 5: 14}) == [3]
    assert spikes({0: 800, 3: 800, 20: 2, 24: 1}) == [0, 3]
    assert spikes({3: 400}) == [3]
    assert spikes({3: 19}) == []


# --- tags, flags -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_tag", [-0.05, 0.0, 0.05])
def test_the_effect_of_tags_is_measured(per_tag):
    """What was put in lies in the interval, whose width knows that a user's posts are alike."""
    measured = tag_effect.measure(labels_input(posts(scale=1.0, per_tag=per_tag)))
    low, high = measured["interval_95"]
    assert low - 0.002 < np.expm1(per_tag) < high + 0.002 and high - low < 0.02
    one = posts(users=200).with_columns(tags=pl.lit("selfie"))
    assert tag_effect.measure(labels_input(one)) is None


def labels_input(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(tags=pl.col("tags").str.count_matches(r"\S+"))


def test_a_bonus_of_the_wrong_sign_is_told(tmp_path):
    """Where more tags go with fewer likes, the command says so; where they go with more, it does not."""
    for per_tag, told in ((-0.08, True), (0.08, False)):
        manifest.write(posts(scale=1.0, per_tag=per_tag), tmp_path / "m.parquet")
        done = testlib.command(
            "tools/label.py", "--manifest", tmp_path / "m.parquet", "--out", tmp_path / "l.csv", "--as-of", "2015-10-25"
        )
        assert ("has the wrong sign; --tag-bonus 0 leaves it out" in done.stdout) == told, done.stdout + done.stderr


@pytest.mark.parametrize(
    "column, values, words",
    [
        (
            "posted_at",
            [(AS_OF - timedelta(days=n % 20)).isoformat() for n in range(300)],
            ("--as-of", "--min-age-days"),
        ),
        ("followers", [90_000 + n for n in range(300)], ("more than 50000 followers", "--max-followers changes it")),
        ("followers", [n % 40 for n in range(300)], ("--min-followers changes it",)),
        ("tags", [" ".join(["t"] * 25)] * 300, ("--max-tags changes it",)),
    ],
)
def test_a_filter_that_takes_everything_names_its_flag(column, values, words):
    """A table that is too young, or above the limit as a whole: the message says which option changes it."""
    table = posts(users=60).head(300).with_columns(pl.Series(column, values))
    with pytest.raises(SelfieError) as error:
        labels.label(table, Settings(as_of=None if column == "posted_at" else AS_OF))
    assert all(word in str(error.value) for word in words)


def test_values_that_cannot_be_read_are_counted_with_an_example(tmp_path, caplog):
    """In the report's notes for likes; the labels' filter counts them."""
    caplog.set_level("INFO")
    text = "id,path,likes\n1,a,12 likes\n2,b,many\n3,c,\n4,d,n/a\n5,e,7\n"
    (tmp_path / "m.csv").write_text(text)
    assert manifest.read(tmp_path / "m.csv")["likes"].to_list() == [None, None, None, None, 7]
    assert "likes: 2 of 5 values are no whole numbers, such as '12 likes'" in caplog.text
