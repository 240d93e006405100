"""The best possible classifier on the demo corpus, which knows every planted rule but not the noise."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import tables
from selfie.data.demo_corpus.rules import NOISE


def best_accuracy(truth: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    """Accuracy of the best possible classifier on these labelled rows; it knows a picture's true attributes.

    It answers "good" where p = P(good | quality) > 1/2, with p from `chance_of_good`: it knows the noise's size but
    not its value. No classifier that sees only pictures can expect more than mean(max(p, 1 - p)).

    truth: rows of truth.csv; labels: rows with id and label (1 good, 0 bad), any selection of them, say the test split.
    Returns rows; expected = mean(max(p, 1 - p)); realised = its accuracy on exactly these labels; and
    standard_error = sqrt(sum(p (1 - p))) / rows, how far realised strays from expected by the luck of the draw.
    Rows that have no planted quality (pictures without a face) count as p = 1/2.
    """
    if not labels.height:
        raise SelfieError("no labelled rows: the best accuracy of none is not defined")
    rows = labels.select(pl.col("id").cast(pl.String), "label").join(
        truth.select("id", "p_good"), on="id", how="left", validate="m:1"
    )
    p = rows["p_good"].fill_null(0.5).to_numpy()
    good = rows["label"].to_numpy() == 1
    return {
        "rows": len(p),
        "expected": float(np.maximum(p, 1 - p).mean()),
        "realised": float(((p > 0.5) == good).mean()),
        "standard_error": float(np.sqrt((p * (1 - p)).sum()) / len(p)),
    }


def best_on_test(folder: str | os.PathLike, labels: str | os.PathLike) -> dict[str, float]:
    """`best_accuracy` on the test split of a labels.csv that was made from the corpus in `folder`.

    SelfieError if a file or one of the columns id, label and split is missing.
    """
    truth = tables.inferred(Path(folder) / "truth.csv", ("id",), "corpus")
    rows = tables.read(labels, {"id": pl.String, "label": pl.Int64, "split": pl.String}, "labels file")
    return best_accuracy(truth, rows.filter(pl.col("split") == "test"))


def chance_of_good(
    quality: np.ndarray, reach: np.ndarray, group: int = 100, rounds: int = 1000, noise: float = NOISE
) -> np.ndarray:
    """P(good | quality) for each row, under the rule of the post, by Monte Carlo: float64 in [0, 1].

    One round deals the qualities out at random over the audiences (they are independent), draws
    log likes = log reach + quality + noise * N(0, 1), marches down the rows sorted by reach in groups of `group`, and
    calls the half of each group with the most likes good. p is the share of rounds in which a row's quality was good;
    its standard error is at most 0.5 / sqrt(rounds). The spread of audiences inside a group is thus accounted for.
    """
    group = min(group, len(quality) // 2 * 2)
    if group < 2:
        return np.full(len(quality), 0.5)
    rng = np.random.default_rng(0)
    used = len(quality) // group * group
    audience = np.sort(np.log(reach))[:used]
    good, seen = np.zeros(len(quality)), np.zeros(len(quality))
    for _ in range(rounds):
        dealt = rng.permutation(len(quality))[:used]
        likes = (audience + quality[dealt] + noise * rng.standard_normal(used)).reshape(-1, group)
        winners = likes > np.partition(likes, group // 2 - 1, axis=1)[:, group // 2 - 1 : group // 2]
        good[dealt] += winners.ravel()
        seen[dealt] += 1
    return good / np.maximum(seen, 1)


def interpolate(x: np.ndarray, known_x: np.ndarray, known_y: np.ndarray) -> np.ndarray:
    """Linear interpolation at `x` between points in any order; 0.5 everywhere where there is no point."""
    if not len(known_x):
        return np.full(len(x), 0.5)
    order = np.argsort(known_x, kind="stable")
    return np.interp(x, known_x[order], known_y[order])
