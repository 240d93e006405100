"""How far scores of heads can be relied on: intervals, and whether the net knows such pictures. Real Caffe."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import calibration
from selfie.data import image
from selfie.data.lmdb_reader import Database
from selfie.runs import run_folder, score, trust
from selfie.runs.run_folder import HELD_OUT, Run

KNOWN = "unlike what this net learned from"


def pictures(lmdb: Path, split: str) -> np.ndarray:
    """The pictures of a database."""
    with Database(lmdb / split) as records:
        return np.stack([picture for _, picture, _ in records])


def test_intervals_hold_their_scores_and_are_as_wide_as_the_jackknife_says(heads_run, tiny_lmdb):
    """Around the score, within the bound; for one partition the jackknife's formula, head by head."""
    members, prob = heads_run.net().forward(pictures(tiny_lmdb, "test"), ("members", "prob"))
    low, high = trust.interval(heads_run, members)
    assert (low < prob[:, 1]).all() and (prob[:, 1] < high).all() and low.min() > 1 / 46 - 1e-6
    once = replace(testlib.READOUT, blobs=("pool3",), seeds=1)
    frozen = {**heads_run.info["frozen"], "readout": {**heads_run.info["frozen"]["readout"], "seeds": 1}}
    one = Run(heads_run.folder, {**heads_run.info, "frozen": frozen})
    values = members[:1, : once.folds].astype(float)
    spread = np.sqrt(2 / 3 * ((values - values.mean()) ** 2).sum())
    bound = heads_run.info["calibration"]["bound"]
    expected = bound + (1 - 2 * bound) * calibration.probability(values.mean() + 1.96 * spread)
    assert trust.interval(one, values)[1][0] == pytest.approx(expected)


def test_distances_are_from_the_selfies_of_other_folds(heads_run, tiny_lmdb):
    """Each training selfie's is what its features are, standardised by those of the folds without it."""
    table = pl.read_csv(heads_run.folder / HELD_OUT)
    shown = np.concatenate([pictures(tiny_lmdb, split) for split in ("train", "val")])
    features = heads_run.net().forward(shown, ("features",))[0].reshape(len(shown), -1).astype(float)
    fold = table["fold"].to_numpy()
    for place in (0, 7, 70):
        others = features[fold != fold[place]]
        standard = (features[place] - others.mean(0)) / np.sqrt(others.var(0) + 1e-5)
        assert table["distance"][place] == pytest.approx(np.abs(standard).mean(), rel=1e-3)


def test_selfies_like_those_it_learned_from_are_known_and_others_are_not(heads_run, tiny_lmdb, skimage_data):
    """It learned from coloured noise. Fresh noise is spread over the percentiles; photographs and text are beyond."""
    judge, net = trust.of(heads_run), heads_run.net()
    alike = judge.judge(net, pictures(tiny_lmdb, "test"))
    assert 20 < alike.unlike.mean() < 80 and trust.is_unknown(alike.unlike).mean() < 0.25
    names = ("astronaut.png", "coffee.png", "text.png", "chessboard_RGB.png")
    others = judge.judge(net, np.stack([heads_run.preprocessing.square(image.read(skimage_data / n)) for n in names]))
    bound = heads_run.info["calibration"]["bound"]
    assert trust.is_unknown(others.unlike).all() and (others.low == bound).all() and (others.high == 1 - bound).all()
    assert (others.scores >= others.low - 1e-6).all() and (others.scores <= others.high + 1e-6).all()


def test_the_command_says_which_pictures_the_net_does_not_know(heads_run, tiny_lmdb, skimage_data):
    """In the table a line says so, in JSON and CSV it is a number."""
    arguments = ["tools/score.py", "--run", heads_run.folder, skimage_data / "text.png"]
    arguments += sorted((tiny_lmdb.parent / "images").glob("test*"))
    lines = testlib.command(*arguments).stdout.splitlines()[1:]
    objects = [json.loads(line) for line in testlib.command(*arguments, "--json").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(testlib.command(*arguments, "--csv").stdout)))
    assert [one["unlike"] for one in objects] == [float(row["unlike"]) for row in rows]
    assert [KNOWN in line for line in lines] == [one["unlike"] >= 95 for one in objects]
    assert KNOWN in lines[0] and sum(KNOWN in line for line in lines[1:]) < len(lines) / 4


def test_runs_that_did_not_measure_distances_have_their_intervals_only(heads_run, tiny_lmdb, tmp_path):
    """As they were before: no picture is called unknown, and no interval is widened."""
    folder = shutil.copytree(heads_run.folder, tmp_path / "run")
    pl.read_csv(folder / HELD_OUT).drop("distance").write_csv(folder / HELD_OUT)
    names = [str(file) for file in sorted((tiny_lmdb.parent / "images").glob("test*"))[:3]]
    for one, other in zip(score.score(run_folder.load(folder), list(names)), score.score(heads_run, list(names))):
        assert one.unlike is None and not one.unknown and one.high - one.low < 0.9 and "unlike" not in one.fields()
        assert one.score == other.score and (other.unknown or (one.low, one.high) == (other.low, other.high))
