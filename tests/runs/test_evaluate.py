"""What a run is worth: intervals over users, and the accuracy where the label is clear."""

from __future__ import annotations

import re
import shutil

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import paths, stats
from selfie.data import lmdb_posts
from selfie.data.lmdb_posts import Posts
from selfie.runs import evaluate
from selfie.runs.run_folder import Run


def scored(labels: np.ndarray, right: np.ndarray) -> pl.DataFrame:
    """Scores that call each selfie what it is, or not."""
    score = np.where(labels == right, 0.9, 0.1) + np.linspace(0, 0.01, len(labels))
    return pl.DataFrame({"key": [f"{n:08d}_{n}" for n in range(len(labels))], "label": labels, "score": score})


def test_users_widen_the_interval():
    """Twenty selfies each, all right or all wrong: as wide as with the 30 users alone, and said in the counts."""
    users = np.repeat(np.arange(30), 20)
    labels = np.tile([0, 1], 300)
    table = scored(labels, (users % 3 > 0).astype(int))
    of_users = evaluate.summarise(table, Posts(users, np.full(600, np.nan), True))
    of_selfies = evaluate.summarise(table, Posts.unknown(600))
    assert (of_users["selfies"], of_users["users"], of_selfies["users"]) == (600, 30, 600)
    assert (of_users["users_known"], of_selfies["users_known"]) == (True, False)
    assert of_selfies["accuracy_95"] == pytest.approx(stats.wilson(400, 600))
    assert of_users["accuracy_95"] == pytest.approx(stats.wilson(20, 30), abs=0.02)
    (low, high), (narrow_low, narrow_high) = of_users["auc_95"], of_selfies["auc_95"]
    assert low < narrow_low < of_users["auc"] == of_selfies["auc"] < narrow_high < high
    assert of_users["margins"] == of_selfies["margins"] == []
    assert of_users["bootstrap"] == {"resampled": "users", "resamples": 2000, "seed": 2015}


def test_one_user_alone_has_no_interval():
    """0 to 1, and none for the AUC; no crash, and nothing that JSON cannot hold."""
    result = evaluate.summarise(
        scored(np.tile([0, 1], 10), np.ones(20)), Posts(np.zeros(20, int), np.full(20, 0.5), True)
    )
    assert (result["accuracy_95"], result["auc_95"], result["users"]) == ((0, 1), None, 1)


def test_the_accuracy_is_given_by_margin():
    """A net that is right wherever the label is clear: all of the outer deciles, fewer of the thirds, least of all."""
    place = (np.arange(300) + 0.5) / 300
    labels, right = (place > 0.5).astype(int), (abs(place - 0.5) > 0.2).astype(int)
    margins = evaluate.by_margin(right == 1, labels, Posts(np.arange(300) // 2, place, True))
    assert [(row["margin"], row["selfies"], row["users"]) for row in margins] == [
        ("all", 300, 150),
        ("outer thirds", 200, 100),
        ("outer deciles", 60, 30),
    ]
    assert [row["accuracy"] for row in margins] == pytest.approx([0.6, 0.9, 1.0])
    for row in margins:
        low, high = row["accuracy_95"]
        assert low < row["accuracy"] < high + 1e-9


def test_margins_are_only_what_can_be_told_apart():
    """Where only deciles were labelled all are of the outer deciles; a selfie without a place is of no margin."""
    place = np.array([0.01, 0.05, 0.95, 0.99])
    only = evaluate.by_margin(np.ones(4, bool), np.array([0, 0, 1, 1]), Posts(np.arange(4), place, True))
    assert [(row["margin"], row["selfies"]) for row in only] == [("outer deciles", 4)]
    place = np.array([0.01, 0.4, np.nan, 0.6])
    some = evaluate.by_margin(np.ones(4, bool), np.array([0, 0, 1, 1]), Posts(np.arange(4), place, True))
    assert [(row["margin"], row["selfies"]) for row in some] == [("all", 3), ("outer deciles", 1)]


def test_the_command_tells_of_users_and_margins(own_run, tmp_path):
    """From the database that the run was trained on; without that knowledge it says so, and the numbers stay."""
    lmdb = shutil.copytree(paths.ROOT / own_run.info["lmdb"]["path"], tmp_path / "lmdb")
    run = Run(own_run.folder, {**own_run.info, "lmdb": {**own_run.info["lmdb"], "path": str(lmdb)}}).save()
    keys = pl.read_csv(lmdb / "test" / "posts.csv")["key"]
    count = pl.int_range(pl.len())
    posts = pl.DataFrame({"key": keys}).with_columns(user=count // 4, place=(count + 0.5) / len(keys))
    paths.write_csv(lmdb / "test" / lmdb_posts.FILE, posts)
    first = testlib.command("tools/evaluate.py", "--run", run.folder)
    assert first.returncode == 0, first.stderr
    assert "on 24 test selfies of 6 users, 12 good" in first.stdout
    assert re.search(r"outer thirds +16 +4 +100.0% +\(\d", first.stdout)
    (lmdb / "test" / lmdb_posts.FILE).unlink()
    second = testlib.command("tools/evaluate.py", "--run", run.folder)
    assert "24 test selfies (users not known: each counts as its own), 12 good" in second.stdout
    assert "does not say whose its selfies are" in second.stderr and "margin" not in second.stdout
