"""Rule residual, and the place of a selfie in what its label was cut from."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from test_labels import AS_OF, good, removed, simulated, table

import testlib
from selfie.common.errors import SelfieError
from selfie.data import label_place, labels, manifest
from selfie.data.label_settings import Settings

RESIDUAL = Settings(rule="residual", as_of=AS_OF)
DECILES = Settings(rule="residual", keep="deciles", as_of=AS_OF)


def kept(rows: int = 3000) -> pl.DataFrame:
    """A manifest that loses no row to a filter."""
    return simulated(rows).filter(pl.col("followers").is_between(50, 50_000))


# --- residual --------------------------------------------------------------------------------------------------------


def test_the_residual_is_that_of_the_report_of_2016():
    """Least squares of log10(1 + likes) on log10(1 + followers) and the number of tags, by numpy; median halves."""
    rows = kept()
    labelled, report = labels.label(rows, RESIDUAL)
    tags = np.array([len(row.split()) for row in rows["tags"]])
    design = np.column_stack([np.ones(len(rows)), np.log10(1 + rows["followers"].to_numpy()), tags])
    likes = np.log10(1 + rows["likes"].to_numpy())
    expected, *_ = np.linalg.lstsq(design, likes, rcond=None)
    assert [report["fit"][name] for name in ("intercept", "followers", "tags")] == pytest.approx(expected, abs=1e-8)
    residual = dict(zip(rows["id"], likes - design @ expected))
    assert report["fit"]["r_squared"] == pytest.approx(1 - np.var(list(residual.values())) / likes.var())
    assert labelled["measure"].to_list() == pytest.approx([residual[name] for name in labelled["id"]], abs=1e-8)
    median = np.median(list(residual.values()))
    assert good(labelled) == {name for name, value in residual.items() if value > median}
    assert labelled["label"].sum() * 2 == labelled.height == len(rows) - len(rows) % 2
    assert labelled.columns == [*labels.COLUMNS, "measure", "place"] and labelled["audience"].null_count() == len(
        labelled
    )


def test_deciles_are_the_best_and_the_worst_tenth():
    """Of all usable selfies; the rest is counted. Their residuals lie outside of all others', their places say so."""
    rows = kept()
    halves, _ = labels.label(rows, RESIDUAL)
    labelled, report = labels.label(rows, DECILES)
    tenth = len(rows) // 10
    ordered = halves.sort("measure")["id"].to_list()
    assert good(labelled) == set(ordered[-tenth:]) and set(labelled["id"]) - good(labelled) == set(ordered[:tenth])
    assert removed(report)["between the deciles"] == len(rows) - 2 * tenth
    assert labelled.filter(label=1)["place"].min() >= 0.9 and labelled.filter(label=0)["place"].max() <= 0.1
    assert report["settings"]["keep"] == "deciles" and "group_size" not in report["settings"]


@pytest.mark.parametrize("settings", [RESIDUAL, DECILES])
def test_neither_order_nor_seed_moves_a_residual(settings):
    """Shuffled rows give the identical table; another seed another split, but the same labels."""
    rows = kept()
    first, report = labels.label(rows, settings)
    again, again_report = labels.label(rows.sample(fraction=1, shuffle=True, seed=1), settings)
    assert again.equals(first) and again_report == report
    other = labels.label(rows, Settings(rule="residual", keep=settings.keep, as_of=AS_OF, seed=9))[0]
    assert good(other) == good(first) and not other["split"].equals(first["split"])


def test_what_does_not_vary_explains_nothing():
    """One number of tags, or of followers, for all: no division by zero, and likes decide alone."""
    labelled, report = labels.label(table(likes=[1, 2, 3, 4]), Settings(rule="residual", as_of=AS_OF))
    assert good(labelled) == {"2", "3"} and (report["fit"]["followers"], report["fit"]["tags"]) == (0, 0)
    equal, report = labels.label(table(likes=[5] * 4), Settings(rule="residual", as_of=AS_OF))
    assert equal["label"].sum() == 2 and report["labels_decided_by_coin"] == 4 and report["fit"]["r_squared"] == 0


def test_its_labels_hardly_know_the_audience():
    """Where likes follow a power of the followers, neither they nor tags tell the label."""
    labelled, _ = labels.label(simulated(50_000), RESIDUAL)
    followers = dict(simulated(50_000).select("id", "followers").iter_rows())
    of_good, of_bad = ([followers[name] for name in labelled.filter(label=label)["id"]] for label in (1, 0))
    assert np.median(of_good) == pytest.approx(np.median(of_bad), rel=0.05)


def test_too_few_for_deciles_say_so():
    """Nine usable selfies have no tenth."""
    with pytest.raises(SelfieError, match=r"9 of the 9 selfies .* fewer than 10: without --keep deciles"):
        labels.label(table(likes=list(range(9))), DECILES)
    with pytest.raises(SelfieError, match="none of the 1 selfies"):
        labels.label(table(likes=[-1]), DECILES)
    with pytest.raises(SelfieError, match="--keep deciles goes with --rule residual"):
        labels.label(table(likes=[1, 2]), Settings(keep="deciles"))


def test_the_command_tells_of_both_rules(tmp_path):
    """Options of another rule are wrong usage; the fit and what the user tells are printed."""
    manifest.write(simulated(2000, users=300), tmp_path / "m.csv")
    common = ["tools/label.py", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv", "--as-of", "2015-10-25"]
    wrong = testlib.command(*common, "--rule", "residual", "--tag-bonus", "0.1")
    assert wrong.returncode == 2 and "--tag-bonus cannot be used with --rule residual" in wrong.stderr
    wrong = testlib.command(*common, "--keep", "deciles")
    assert wrong.returncode == 2 and "--keep cannot be used with --rule audience" in wrong.stderr
    done = testlib.command(*common, "--rule", "residual", "--keep", "deciles")
    assert done.returncode == 0, done.stderr
    assert "likes explained: log10(1 + likes) = " in done.stdout and "what the user's other selfies tell" in done.stdout
    report = json.loads((tmp_path / "l.report.json").read_text())
    assert (
        report["rule"] == "residual" and report["users"]["users"] == pl.read_csv(tmp_path / "l.csv")["user"].n_unique()
    )
    done = testlib.command(*common)
    assert "single groups: " in done.stdout and "users are not known" not in done.stdout
    manifest.write(simulated(2000).drop("user"), tmp_path / "m.csv")
    assert "users are not known: each selfie counts as its own user" in testlib.command(*common).stdout


# --- places ----------------------------------------------------------------------------------------------------------


def test_the_place_is_the_rank_of_the_likes_in_the_group():
    """From labels of rule audience, also of earlier versions: good ones in the upper half; any order of rows."""
    labelled, _ = labels.label(simulated(1000), Settings(as_of=AS_OF, group_size=50))
    place = label_place.of_labels(labelled)
    for (_,), group in labelled.with_columns(place).group_by("group"):
        assert group.sort("likes", "label")["likes"].to_list() == group.sort("place")["likes"].to_list()
        assert sorted(group["place"]) == pytest.approx((np.arange(50) + 0.5) / 50)
        assert (group["place"] > 0.5).cast(pl.Int8).equals(group["label"], check_names=False)
    shuffled = labelled.with_columns(place).sample(fraction=1, shuffle=True, seed=3)
    assert label_place.of_labels(shuffled.drop("place")).equals(shuffled["place"])


def test_where_labels_do_not_follow_from_likes_there_is_no_place():
    """All likes equal, unknown, or against the label; a group for itself."""
    rows = pl.DataFrame(
        {
            "id": list("abcdefgh"),
            "group": [0, 0, 1, 1, 2, 2, 3, 3],
            "label": [0, 1] * 4,
            "likes": [1, 2, 5, 5, 9, 1, None, 3],
        }
    )
    assert label_place.of_labels(rows).to_list() == [0.25, 0.75, *[None] * 6]
    assert label_place.of_labels(rows.drop("likes")).to_list() == [None] * 8
    assert label_place.of_labels(rows.with_columns(place=pl.lit("0.5"))).to_list() == [0.5] * 8


def test_the_place_of_a_residual_and_a_popularity_is_that_among_all():
    """Also of those that are not labelled."""
    labelled, _ = labels.label(table(popularity=[5.0, 1.0, 3.0]).drop("likes"), Settings(rule="median"))
    assert dict(labelled.select("id", "place").iter_rows()) == pytest.approx({"0": 2.5 / 3, "1": 0.5 / 3})
    assert dict(labelled.select("id", "measure").iter_rows()) == {"0": 5.0, "1": 1.0}
