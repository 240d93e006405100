"""How far a score of heads on a frozen net can be relied on: its interval, and whether the net knows such pictures.

interval   95 % of the score, by what the heads say that learned from different selfies
distance   how far a picture is from the average selfie that they learned from: the mean distance of its standardised
           features from 0, in standard deviations
unlike     its percentile among the distances of these selfies, each measured by those of the other folds

Heads can be wrong together where none of them has learned anything: on a drawing, a screenshot, a landscape. So where a
picture is unlike UNKNOWN percent of the selfies, the interval is all that the run's scores can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from selfie.common import calibration, stats
from selfie.data import tables
from selfie.net.caffe_net import ScoringNet
from selfie.runs.run_folder import HELD_OUT, Run

UNKNOWN = 95.0  # percent, from which a picture counts as one that the net does not know
MEMBERS, STANDARDISED = "members", "standardised"  # blobs of a net with heads, see net.heads


@dataclass(frozen=True)
class Judged:
    """Scores of N pictures with their 95 % intervals, and how unlike the training selfies they are, N floats each.

    unlike   percent of the training selfies that are closer to their average; None for runs that did not measure it
    """

    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unlike: np.ndarray | None


@dataclass(frozen=True)
class Trust:
    """What judges the scores of a run with heads: the run, and the distances of the selfies that it learned from."""

    run: Run
    distances: np.ndarray | None

    def judge(self, net: ScoringNet, pictures: np.ndarray) -> Judged:
        """Score N x size x size x 3 uint8 BGR pictures with the run's net."""
        prob, members, standardised = net.forward(pictures, ("prob", MEMBERS, STANDARDISED))
        scores = prob.reshape(len(pictures), -1)[:, 1]
        low, high = interval(self.run, members.reshape(len(pictures), -1))
        if self.distances is None:
            return Judged(scores, low, high, None)
        unlike = stats.percentiles(distance(standardised.reshape(len(pictures), -1)), self.distances)
        bound, unknown = self.run.info["calibration"]["bound"], is_unknown(unlike)
        return Judged(scores, np.where(unknown, bound, low), np.where(unknown, 1 - bound, high), unlike)


def of(run: Run) -> Trust | None:
    """Return what judges the scores of a run; None: its net has no heads. SelfieError for a broken held_out.csv."""
    if "frozen" not in run.info:
        return None
    file = run.folder / HELD_OUT
    measured = file.exists() and "distance" in tables.inferred(file).columns  # not by versions before this one
    return Trust(run, tables.read(file, {"distance": pl.Float64})["distance"].to_numpy() if measured else None)


def distance(standardised: np.ndarray) -> np.ndarray:
    """Measure how far pictures are from the average one: the mean of N x D absolute standardised features, N floats."""
    return np.abs(standardised).mean(1, dtype=np.float64)


def is_unknown(unlike: np.ndarray) -> np.ndarray:
    """Tell which of N pictures the net does not know."""
    return unlike >= UNKNOWN


def interval(run: Run, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends (N floats each) of 95 % intervals of scores, from `members` (N x heads).

    What varies is the training selfies. Heads that lack a fold each tell the variance of what all of them learned, by
    the delete-a-group jackknife (Kott 2001): (folds - 1) / folds times the sum of squares around their mean; those of
    the partitions are averaged. It says nothing of what all heads have in common, such as the frozen net.
    """
    readout, bound = run.readout, run.info["calibration"]["bound"]
    parts = np.asarray(members, np.float64).reshape(len(members), readout.seeds, readout.folds)
    variance = (readout.folds - 1) * parts.var(axis=2).mean(axis=1)
    centre, half = parts.mean(axis=(1, 2)), 1.96 * np.sqrt(variance)
    low, high = (bound + (1 - 2 * bound) * calibration.probability(centre + side * half) for side in (-1, 1))
    return low, high
