"""Agreement of measures of tiles with what was published of them: order, separation, halves. With 95 % intervals.

`values` are named measures, each N floats, larger is better; "score" is the run's own, the others are baselines.
"""

from __future__ import annotations

import numpy as np

from selfie.common import stats


def ordered(values: dict[str, np.ndarray], published: np.ndarray) -> dict[str, dict[str, float]]:
    """Correlate each measure with the published order (N, larger is better) by Spearman's rank correlation.

    score_minus_<baseline> is how much the score's correlation exceeds a baseline's, by paired bootstrap.
    """
    report = {name: stats.spearman_report(measure, published) for name, measure in values.items()}
    for name in list(report)[1:]:
        low, high = stats.bootstrap(
            lambda ours, other, order: stats.spearman(ours, order) - stats.spearman(other, order),
            values["score"],
            values[name],
            published,
        )
        excess = report["score"]["value"] - report[name]["value"]
        report[f"score_minus_{name}"] = {"value": excess, "low": low, "high": high}
    return report


def separated(values: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Compute the AUC of each measure against the labels (N, 1 is good)."""
    return {name: stats.auc_report(measure, labels) for name, measure in values.items()}


def halved(values: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Compute the accuracy of calling what lies above each measure's median good; Wilson's interval."""
    report = {}
    for name, measure in values.items():
        right = int(((measure > np.median(measure)) == labels).sum())
        low, high = stats.wilson(right, len(labels))
        report[name] = {"value": right / len(labels), "low": low, "high": high}
    return report
