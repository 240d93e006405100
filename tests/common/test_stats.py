"""Statistics against scipy's, as far as it has them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from selfie.common import stats


def test_spearman_and_auc_are_those_of_scipy():
    """With ties, as published rows have them."""
    generator = np.random.default_rng(0)
    rows, values = generator.integers(0, 20, 240), generator.normal(size=240).round(1)
    assert stats.spearman(values, rows) == pytest.approx(scipy.stats.spearmanr(values, rows).statistic)
    labels = (rows > 12).astype(int)
    mann_whitney = scipy.stats.mannwhitneyu(values[labels == 1], values[labels == 0]).statistic
    assert stats.auc(values, labels) == pytest.approx(mann_whitney / labels.sum() / (1 - labels).sum())


def test_bootstrap_intervals_are_those_of_scipy():
    """As wide and where scipy's percentile bootstrap puts them, up to the luck of the draw."""
    generator = np.random.default_rng(1)
    first = generator.normal(size=150)
    second = first + generator.normal(size=150)
    expected = scipy.stats.bootstrap(
        (first, second),
        lambda a, b: scipy.stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        random_state=0,  # scipy's older name for it, which all know
    ).confidence_interval
    report = stats.spearman_report(first, second)
    assert (report["low"], report["high"]) == pytest.approx((expected.low, expected.high), abs=0.02)
    labels = (second > 0).astype(int)
    report = stats.auc_report(first, labels)
    assert report["low"] < report["value"] < report["high"] < 1
