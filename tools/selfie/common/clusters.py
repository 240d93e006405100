"""Statistics of selfies that come in clusters: the several selfies of one user, which are liked alike.

Intervals and tests that take selfies as independent are too narrow for them, the more so the more selfies a user has
and the more these agree. Here users are what varies, not selfies. Where each user has one selfie, all is as with
independent selfies.

Measures that are no mean are resampled: whole users are drawn, with replacement (cluster bootstrap; Davison and Hinkley
1997, section 3.8). Shares have a formula: the variance by the jackknife that leaves out one user at a time, which
unlike the simpler sums of squares is not too small where few users own most selfies (CR3 of Bell and McCaffrey 2002).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from selfie.common import stats

RESAMPLES, SEED = 2000, 2015
LEVEL = 0.95
CELLS = 1 << 21  # of a block of samples: 16 MiB


class Clusters:
    """Which of N selfies are of the same user; `users` (N) names or numbers the users.

    codes      N integers from 0 on, one number for each user
    sizes      selfies of each user
    effective  number of users with equally many selfies that would tell as much: N^2 / sum(sizes^2) (Kish 1965)
    """

    def __init__(self, users: np.ndarray) -> None:
        users = np.asarray(users)
        self.codes = users if _numbered(users) else np.unique(users, return_inverse=True)[1].ravel()
        self.sizes = np.bincount(self.codes)
        self.effective = float(len(self.codes) ** 2 / np.square(self.sizes, dtype=float).sum()) if len(users) else 0.0

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.sizes)

    # --- without resampling ------------------------------------------------------------------------------------------

    def variance(self, influence: np.ndarray) -> float:
        """Estimate the variance of a sum of N numbers, which are 0 on average, by the jackknife over users.

        influence: what each selfie adds to an estimate beyond its value. Infinite for one user.
        """
        if len(self) < 2:
            return np.inf
        left = np.bincount(self.codes, influence) / (1 - self.sizes / len(self.codes))
        return float((left**2).sum() * (len(self) - 1) / len(self))

    def design_effect(self, influence: np.ndarray) -> float:
        """Estimate how many times larger a variance is than that of independent selfies (Kish 1965): at least 1.

        influence as for `variance`. Where it is 0 everywhere (all answers right), users are taken as of one opinion
        each. It is 1 where every user has one selfie.
        """
        count = len(self.codes)
        independent = float((influence**2).sum()) * count / max(count - 1, 1)
        if not independent:
            return count / self.effective
        return max(1.0, self.variance(influence) / independent)

    def proportion(self, right: np.ndarray) -> tuple[float, float]:
        """95 % interval of the share of true among N booleans, in [0, 1].

        Wilson's (1927) of the effective number of selfies, N over the design effect, less what the few users' uncertain
        variance costs (Korn and Graubard 1998, with Wilson's interval as of Franco, Little, Louis and Slud 2019; the
        degrees of freedom are of the effective number of users, Carter, Schnepel and Steigerwald 2017). One user tells
        nothing: 0 to 1.
        """
        share, count = float(right.mean()), len(right)
        if len(self) < 2:
            return stats.wilson(int(right.sum()), count) if count == 1 else (0.0, 1.0)
        lost = (_quantile(count - 1) / self.quantile) ** 2
        trials = count / self.design_effect(right - share) * lost
        return stats.wilson(share * trials, trials)

    def one_sided(self, z: float) -> float:
        """P value of an estimate over its standard error, upper tail: Student's t of the effective number of users."""
        from scipy.special import stdtr

        return float(stdtr(max(self.effective - 1, 1), -z))

    def two_sided(self, z: float) -> float:
        """P value of an estimate over its standard error, both tails."""
        return 2 * self.one_sided(abs(z))

    @cached_property
    def quantile(self) -> float:
        """How many standard errors a 95 % interval reaches to each side: 1.96 for many users, more for few."""
        return _quantile(self.effective - 1)

    # --- with resampling ---------------------------------------------------------------------------------------------

    def samples(self, seed: int = SEED, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
        """Yield blocks of bootstrap samples, B x N: how often each selfie is in each, `resamples` rows in all.

        As many users are drawn as there are, each with all selfies.
        """
        generator = np.random.default_rng(seed)
        users = len(self)
        block = max(1, CELLS // max(len(self.codes), 1))
        for start in range(0, resamples, block):
            rows = min(block, resamples - start)
            drawn = generator.integers(0, users, (rows, users)) + users * np.arange(rows)[:, None]
            times = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
            yield times.astype(float)[:, self.codes]

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """95 % percentile interval of a measure's values on the bootstrap samples; NaN, where it has none, is left out.

        The percentiles lie farther out the fewer the users: their bootstrap varies too little, by (users - 1) / users,
        and with a normal's tails (Hesterberg 2015, "expanded percentile"). (nan, nan) if no sample has a value.
        """
        from scipy.special import ndtr

        values = values[~np.isnan(values)]
        if not len(values) or len(self) < 2:
            return np.nan, np.nan
        effective = max(self.effective, 2)
        tail = float(ndtr(-np.sqrt(effective / (effective - 1)) * self.quantile))
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(low), float(high)

    def auc(
        self, scores: np.ndarray, labels: np.ndarray, seed: int = SEED, resamples: int = RESAMPLES
    ) -> tuple[float, float]:
        """95 % cluster bootstrap interval of `stats.auc` of N scores and labels, 1 and 0; NaN for one user."""
        measure = _SampledAUC(scores, labels)
        return self.interval(np.concatenate([measure(times) for times in self.samples(seed, resamples)]))


def _numbered(users: np.ndarray) -> bool:
    """Tell whether users are numbered from 0 on, without gaps."""
    if users.dtype.kind not in "iu" or not len(users) or users.min() != 0 or users.max() >= len(users):
        return False
    return bool(np.bincount(users).all())


def _quantile(freedom: float) -> float:
    """97.5 % quantile of Student's t, of at least one degree of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1), (1 + LEVEL) / 2))


class _SampledAUC:
    """The AUC of scores (N) against labels (N) on samples, all at a time: times (B x N) -> B floats.

    NaN for a sample without one of the labels.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        order = np.argsort(scores, kind="stable")
        self.good, self.bad = order[labels[order] == 1], order[labels[order] == 0]
        self.below, self.upto = (
            np.searchsorted(scores[self.bad], scores[self.good], side) for side in ("left", "right")
        )

    def __call__(self, times: np.ndarray) -> np.ndarray:
        good, bad = times[:, self.good], times[:, self.bad]
        through = np.zeros((len(times), len(self.bad) + 1))
        np.cumsum(bad, axis=1, out=through[:, 1:])
        beaten = through[:, self.below] + through[:, self.upto]
        np.multiply(beaten, good, out=beaten)
        pairs = good.sum(1) * bad.sum(1)
        return np.where(pairs > 0, beaten.sum(1) / np.where(pairs > 0, 2 * pairs, 1), np.nan)


def of_users(counts: Mapping[str, Any]) -> str:
    """Say whose some selfies are, after their number: " of 55 users"; from a result with `users` and `users_known`.

    "" for a result that lacks one of them, as those of before users were counted do.
    """
    if counts.get("users") is None or counts.get("users_known") is None:
        return ""
    return f" of {counts['users']:,} users" if counts["users_known"] else " (users not known: each counts as its own)"


def auc_influence(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each selfie (N) adds to the AUC beyond its value: its placement among the others' (DeLong et al. 1988).

    With `Clusters.variance` the variance of an AUC of clustered data (Obuchowski 1997).
    """
    good, bad = scores[labels == 1], scores[labels == 0]
    value = stats.auc(scores, labels)
    influence = np.zeros(len(scores))
    influence[labels == 1] = (stats.percentiles(good, bad) / 100 - value) / len(good)
    influence[labels == 0] = (1 - stats.percentiles(bad, good) / 100 - value) / len(bad)
    return influence


def cliff(
    values: np.ndarray, group: np.ndarray, users: np.ndarray, seed: int = SEED, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Cliff's delta (1993) of the values (N) of group 1 over those of group 0; rows of other groups do not count.

    delta, delta_low, delta_high: value and 95 % cluster bootstrap interval; delta_p: p of the Mann-Whitney test (normal
    approximation with ties), its statistic divided by the root of the design effect, as Rao and Scott (1992) do with
    counts. SelfieError unless both groups have rows.
    """
    from scipy.stats import mannwhitneyu, norm

    known = (group == 0) | (group == 1)
    values, group, clusters = values[known], group[known], Clusters(users[known])
    value = 2 * stats.auc(values, group) - 1
    low, high = clusters.auc(values, group, seed, resamples)
    test = mannwhitneyu(values[group == 1], values[group == 0], use_continuity=False, method="asymptotic")
    z = norm.isf(test.pvalue / 2) / np.sqrt(clusters.design_effect(auc_influence(values, group)))
    all_equal = values.min() == values.max()
    return {
        "delta": value,
        "delta_low": 2 * low - 1,
        "delta_high": 2 * high - 1,
        "delta_p": 1.0 if all_equal else clusters.two_sided(float(z)),
    }
