"""The ablations: every arm trained, a difference shown or not."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.experiments import ablations
from selfie.runs import run_folder


def test_ablations_train_every_arm_and_go_on(tiny_lmdb, tmp_path):
    """Two seeds of each arm of the demo net from scratch; a second call trains nothing; another length is refused."""
    arms = (ablations.Arm("base", "demo", "none"), ablations.Arm("dropout", "demo_dropout", "none"))
    plan = ablations.Plan("demo", tiny_lmdb, (1, 2), tmp_path / "runs", epochs=4)
    answers = [ablations.right(plan, arm) for arm in arms]
    assert [one.shape for one in answers] == [(2, 24)] * 2
    ended = [run_folder.load(path.parent).info["ended"] for path in sorted((tmp_path / "runs").glob("*/run.json"))]
    assert len(ended) == 4 and (ablations.right(plan, arms[0]) == answers[0]).all()
    assert ended == [
        run_folder.load(path.parent).info["ended"] for path in sorted((tmp_path / "runs").glob("*/run.json"))
    ]
    ablations.agree(plan)
    with pytest.raises(SelfieError, match="another length"):
        ablations.agree(dataclasses.replace(plan, epochs=5))
    with pytest.raises(SelfieError, match="vgg16"):
        ablations.run(dataclasses.replace(plan, net="nothing"))


def test_a_planted_difference_shows_and_none_does_not():
    """5 points between arms on 2,000 selfies are seen; two samples of one arm hold 0; faces need only be no better."""
    generator = np.random.default_rng(0)
    base, worse, same = (generator.random((3, 2000)) < share for share in (0.75, 0.70, 0.75))
    apart = ablations.difference(worse, base)
    assert apart["low"] < apart["value"] < apart["high"] < 0 and ablations.verdict("dropout", apart) == "shows"
    assert ablations.verdict("dropout", ablations.difference(same, base)).startswith("does not show")
    assert ablations.verdict("face_init", apart) == "shows: not better"
    assert ablations.verdict("face_init", ablations.difference(base, worse)).startswith("contradicted")


def test_what_the_post_does_not_claim_is_not_contradicted():
    """A start from random weights is worse, better, or neither; no verdict speaks of a claim."""
    told = {
        "worse": (-0.2, -0.1),
        "better": (0.1, 0.2),
        "no difference at this size: the interval holds 0": (-0.1, 0.1),
    }
    for words, (low, high) in told.items():
        assert ablations.verdict("no_init", {"value": (low + high) / 2, "low": low, "high": high}) == words


def test_users_widen_the_interval_of_a_difference():
    """Answers that are right or wrong by user: a difference of 5 points between 40 users is luck; seeds vary, too."""
    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 50)
    base, worse = (np.tile((generator.random(40) < share)[users], (3, 1)) for share in (0.75, 0.70))
    alone, of_users = ablations.difference(worse, base), ablations.difference(worse, base, users)
    assert of_users["value"] == alone["value"] and of_users["low"] < alone["low"] and of_users["high"] > alone["high"]
    assert of_users["low"] < 0 < of_users["high"]
    assert ablations.difference(base, base, users) == {"value": 0, "low": 0, "high": 0}
    seeds = np.vstack([base[:1], worse[:1], base[:1]])
    assert ablations.difference(seeds, seeds, users)["high"] > 0, "the seeds of each arm by themselves"


def test_a_test_set_of_one_user_is_refused_before_any_training(tmp_path):
    """One line; nothing is trained."""
    labels = testlib.pictures(tmp_path, {"train": 8, "val": 8, "test": 8})
    pl.read_csv(labels).with_columns(user=pl.col("split")).write_csv(labels)
    lmdb_writer.build(labels, tmp_path / "images", tmp_path / "lmdb", raw=True, jobs=1)
    plan = ablations.Plan("demo", tmp_path / "lmdb", (1, 2), tmp_path / "runs", epochs=1)
    with pytest.raises(SelfieError, match="are all of one user"):
        ablations.run(plan)
    assert not list((tmp_path / "runs").glob("*/run.json"))
