"""Calibration: what fits, what is measured, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from selfie.common import calibration
from selfie.common.clusters import Clusters
from selfie.common.errors import SelfieError


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds, and labels drawn by them."""
    generator = np.random.default_rng(seed)
    z = generator.normal(0.3, 1.5, count)
    return z, (generator.random(count) < calibration.probability(z)).astype(int)


def test_platt_and_temperature_undo_what_was_done_to_calibrated_log_odds():
    """Stretched threefold and moved, as an overconfident net does; the temperature does not move them."""
    z, labels = drawn(20_000)
    slope, offset = calibration.platt(3 * z + 1, labels)
    assert (slope, offset) == (pytest.approx(1 / 3, rel=0.05), pytest.approx(-1 / 3, abs=0.05))
    assert calibration.temperature(3 * z, labels) == pytest.approx(1 / 3, rel=0.05)


def test_labels_that_are_parted_without_error_still_give_a_finite_slope():
    """Platt's targets: a hundred selfies do not make anybody certain."""
    z = np.concatenate([np.linspace(-3, -1, 50), np.linspace(1, 3, 50)])
    slope, offset = calibration.platt(z, (z > 0).astype(int))
    assert 0 < slope < 50 and calibration.probability(slope * z + offset).max() < 0.9999


@pytest.mark.parametrize("fit", [calibration.platt, calibration.temperature])
def test_what_cannot_be_calibrated_is_refused(fit):
    """One label only; scores of which higher ones are worse."""
    z, labels = drawn(500)
    for some in (np.zeros(500, int), 1 - labels):
        with pytest.raises(SelfieError, match="calibrat"):
            fit(z, some)


def test_the_error_of_a_calibrated_net_is_what_chance_gives_and_that_of_an_overconfident_one_is_not():
    """Over many draws the mean error is that of the simulation; stretched threefold it is far beyond its 95 %."""
    measured = []
    for seed in range(40):
        z, labels = drawn(300, seed)
        measured.append(calibration.reliability(calibration.probability(z), labels, Clusters(np.arange(300))))
    means = [np.mean([one[name] for one in measured]) for name in ("ece",)]
    assert means[0] == pytest.approx(np.mean([one["ece_calibrated"][0] for one in measured]), rel=0.15)
    z, labels = drawn(300)
    sure = calibration.reliability(calibration.probability(3 * z), labels, Clusters(np.arange(300)))
    assert sure["ece"] > 1.5 * sure["ece_calibrated"][1]


def test_bins_hold_equally_many_and_the_error_is_their_mean_distance():
    """Computed again, bin by bin; users of several selfies widen the interval."""
    z, labels = drawn(400)
    scores = calibration.probability(2 * z)
    measured = calibration.reliability(scores, labels, Clusters(np.arange(400)))
    assert [row["selfies"] for row in measured["bins"]] == [40] * 10
    distances = [abs(row["score"] - row["good"]) for row in measured["bins"]]
    assert measured["ece"] == pytest.approx(np.mean(distances))
    assert measured["ece_95"][0] < measured["ece"] < measured["ece_95"][1]
    low, high = calibration.reliability(
        np.repeat(scores, 5), np.repeat(labels, 5), Clusters(np.repeat(np.arange(400), 5))
    )["ece_95"]
    independent = calibration.reliability(np.repeat(scores, 5), np.repeat(labels, 5), Clusters(np.arange(2000)))[
        "ece_95"
    ]
    assert high - low > 1.5 * (independent[1] - independent[0])
