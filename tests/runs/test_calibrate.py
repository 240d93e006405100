"""A finished run calibrated: the weights of its head, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import calibration, paths
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net
from selfie.runs import calibrate, evaluate, run_folder, train


def noisy(run) -> None:
    """Replace validation labels at random, so that the run is overconfident about them."""
    scored = evaluate.validation_scores(run)
    flips = np.random.default_rng(0).random(len(scored)) < 0.3
    paths.write_csv(
        run.folder / "val_scores.csv", scored.with_columns(label=pl.col("label") ^ pl.Series(flips).cast(int))
    )


def test_an_overconfident_run_becomes_less_confident_and_keeps_its_order(own_run, tiny_lmdb):
    """Scores from plain Caffe are those of before with their log-odds times the slope; a second time is refused."""
    noisy(own_run)
    with Database(tiny_lmdb / "test") as records:
        pictures = np.stack([picture for _, picture, _ in records])
    blob = own_run.net().net.bottom_names["prob"][0]
    [before], snapshot = own_run.net().forward(pictures, (blob,)), own_run.caffemodel
    result = testlib.command("tools/calibrate.py", "--run", own_run.folder)
    assert result.returncode == 0, result.stderr
    run = run_folder.load(own_run.folder)
    slope = run.info["calibration"]["slope"]
    assert (
        0 < slope < 0.9
        and run.finished
        and run.info["calibration"]["log_loss"][1] < run.info["calibration"]["log_loss"][0]
    )
    expected = calibration.probability(slope * (before[:, 1] - before[:, 0]))
    np.testing.assert_allclose(run.net().scores(pictures), expected, atol=1e-5)
    head = run.variant.head
    ours, theirs = (caffe_net.caffemodel_blobs(path) for path in (run.caffemodel, snapshot))
    assert all(np.array_equal(a, b) for name in ours if name != head for a, b in zip(ours[name], theirs[name]))
    testlib.assert_one_line_error(testlib.command("tools/calibrate.py", "--run", run.folder), "calibrated already")


def test_killed_on_the_way_it_is_finished_by_resume(own_run, monkeypatch):
    """Between the new weights and their scores: --resume scores, and the run is calibrated."""
    noisy(own_run)
    scores, calls = evaluate.validation_scores, []

    def killed(run, gpu=None):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return scores(run, gpu)

    monkeypatch.setattr(evaluate, "validation_scores", killed)
    with pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(own_run)
    monkeypatch.setattr(evaluate, "validation_scores", scores)
    assert not run_folder.load(own_run.folder).finished
    run = train.resume(own_run.folder)
    assert run.finished and run.info["caffemodel"] == "weights.caffemodel"
    with pytest.raises(SelfieError, match="already"):
        calibrate.calibrate(run)
