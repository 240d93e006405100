"""Statistics of scores, labels and ranks: AUC, intervals, rank correlation, effect sizes, corrections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import polars as pl

from selfie.common.errors import SelfieError


def percentiles(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Percent of `reference` scores that each score beats, ties counted half (in [0, 100])."""
    reference = np.sort(reference)
    below = np.searchsorted(reference, scores, "left") + np.searchsorted(reference, scores, "right")
    return 50 * below / len(reference)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a good selfie scores above a bad one, ties counted half (Mann-Whitney U; Hanley 1982).

    SelfieError unless both labels, 0 and 1, occur.
    """
    good, bad = scores[labels == 1], scores[labels == 0]
    if not len(good) or not len(bad):
        raise SelfieError("an AUC needs both good and bad selfies")
    return float(percentiles(good, bad).mean() / 100)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return float(centre - half), float(centre + half)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation in [-1, 1] (Spearman 1904): Pearson's correlation of mid-ranks."""
    ranks = [pl.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def bootstrap(
    measure, *arrays: np.ndarray, groups: np.ndarray | None = None, seed: int = 2015, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of measure(*arrays); rows are drawn together, within `groups` where given."""
    generator = np.random.default_rng(seed)
    parts = (
        [np.arange(len(arrays[0]))] if groups is None else [np.flatnonzero(groups == one) for one in np.unique(groups)]
    )
    values = []
    for _ in range(resamples):
        picked = np.concatenate([part[generator.integers(0, len(part), len(part))] for part in parts])
        values.append(measure(*(array[picked] for array in arrays)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def spearman_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of spearman()."""
    return bootstrap(spearman, first, second)


def spearman_report(values: np.ndarray, published: np.ndarray) -> dict:
    """value, low, high: spearman() and its interval."""
    values, published = np.asarray(values), np.asarray(published)
    low, high = spearman_interval(values, published)
    return {"value": spearman(values, published), "low": low, "high": high}


def auc_report(scores: np.ndarray, labels: np.ndarray) -> dict:
    """value, low, high: auc() and its bootstrap interval, resampled within each label."""
    low, high = bootstrap(auc, scores, labels, groups=labels)
    return {"value": auc(scores, labels), "low": low, "high": high}


def cliff(values: np.ndarray, group: np.ndarray, generator: np.random.Generator, resamples: int) -> dict:
    """Cliff's delta of group 1 over group 0 with its bootstrap interval (groups resampled each for itself), and the p
    of the Mann-Whitney test (normal approximation, ties accounted for)."""
    place = np.unique(values, return_inverse=True)[1]
    upper, lower = (np.bincount(place[group == which], minlength=place.max() + 1) for which in (1, 0))
    many, few = upper.sum(), lower.sum()
    if not many or not few:
        raise SelfieError("effects need both good and bad selfies")
    value = _delta(upper, lower)
    sample = [
        _delta(generator.multinomial(many, upper / many), generator.multinomial(few, lower / few))
        for _ in range(resamples)
    ]
    low, high = np.percentile(sample, [2.5, 97.5])
    ties, total = (upper + lower).astype(float), float(many + few)
    spread = math.sqrt((total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (3 * many * few))
    return {
        "delta": value,
        "delta_low": float(low),
        "delta_high": float(high),
        "delta_p": two_sided(value / spread) if spread else 1.0,
    }


def _delta(upper: np.ndarray, lower: np.ndarray) -> float:
    """Cliff's delta from how often each value occurs in the two groups."""
    through = np.cumsum(lower)
    return float((upper * (2 * through - lower - through[-1])).sum() / (upper.sum() * lower.sum()))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for many tests (Holm 1979), in the order given."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)))
    return corrected.tolist()


def two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal quantiles of the mid-ranks."""
    ranks = (pl.Series(values).rank().to_numpy() - 0.5) / len(values)
    return np.array([NormalDist().inv_cdf(rank) for rank in ranks])


def thirds(values: np.ndarray) -> np.ndarray:
    """1 for the upper third of the values, 0 for the lower one, -1 between."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return np.where(values >= high, 1, np.where(values <= low, 0, -1))
