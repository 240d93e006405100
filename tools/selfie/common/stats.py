"""Statistics of scores, labels and ranks: AUC, intervals, rank correlation, effect sizes, corrections.

scipy does what it has. Where a function of ours stands although scipy has one, a comment says why: usually because
scipy's differs in a digit of numbers that results already published with a run would no longer agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np

from selfie.common.errors import SelfieError


def percentiles(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Percent of `reference` scores that each score beats, ties counted half: N floats in [0, 100].

    SelfieError if there is no reference.
    """
    # scipy.stats.percentileofscore(..., "mean") rounds otherwise (times 50 / n), in a quarter of all values.
    if not len(reference):
        raise SelfieError("a percentile needs scores to compare with")
    reference = np.sort(reference)
    below = np.searchsorted(reference, scores, "left") + np.searchsorted(reference, scores, "right")
    return 50 * below / len(reference)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a good selfie scores above a bad one, ties counted half (Hanley and McNeil 1982).

    SelfieError unless both labels, 0 and 1, occur.
    """
    # U of scipy.stats.mannwhitneyu over the number of pairs; 20 times as fast, which the bootstrap needs.
    good, bad = scores[labels == 1], scores[labels == 0]
    if not len(good) or not len(bad):
        raise SelfieError("an AUC needs both good and bad selfies")
    return float(percentiles(good, bad).mean() / 100)


def wilson(successes: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), in [0, 1]; `trials` need not be whole (an effective number)."""
    # scipy.stats.binomtest(...).proportion_ci("wilson") has z = 1.959964: its fifth digit differs.
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return float(centre - half), float(centre + half)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation in [-1, 1] (Spearman 1904): Pearson's correlation of mid-ranks."""
    # scipy.stats.spearmanr also tests it, and rounds otherwise, in a third of all values.
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def bootstrap(
    measure: Callable[..., float],
    *arrays: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 2015,
    resamples: int = 2000,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of measure(*arrays), each of N rows.

    Rows are drawn together over all arrays; with `groups` (N) as many from each group as it has. scipy.stats.bootstrap
    has no groups.
    """
    generator = np.random.default_rng(seed)
    rows = len(arrays[0])
    strata = [np.arange(rows)] if groups is None else [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([stratum[generator.integers(0, len(stratum), len(stratum))] for stratum in strata])
        values.append(measure(*(array[drawn] for array in arrays)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def spearman_report(values: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """value, low, high: `spearman` and its 95 % bootstrap interval."""
    values, published = np.asarray(values), np.asarray(published)
    low, high = bootstrap(spearman, values, published)
    return {"value": spearman(values, published), "low": low, "high": high}


def auc_report(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """value, low, high: `auc` and its 95 % bootstrap interval, resampled within each label."""
    low, high = bootstrap(auc, scores, labels, groups=labels)
    return {"value": auc(scores, labels), "low": low, "high": high}


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for many tests (Holm 1979), in the order given. scipy has no Holm."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)))
    return corrected.tolist()


def two_sided(z: float) -> float:
    """P value of a standard normal test statistic, both tails."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal quantiles of the values' mid-ranks: N floats."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))


def thirds(values: np.ndarray) -> np.ndarray:
    """1 for the upper third of the values, 0 for the lower one, -1 between: N integers."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return np.where(values >= high, 1, np.where(values <= low, 0, -1))
