"""Calibration of probabilities: whether of all selfies that score 70 %, 70 % are good, and how to make it so.

log-odds        z = ln(p / (1 - p))
Platt           p = sigmoid(slope z + offset), by maximum likelihood on selfies that the net has not seen
temperature     the same with offset 0, which keeps the order and what is called good (Guo et al. 2017)
ECE             expected calibration error: the mean distance between score and share of good selfies, in bins of
                equally many selfies
"""

from __future__ import annotations

import numpy as np

from selfie.common.clusters import Clusters
from selfie.common.errors import SelfieError

BINS = 10
LEAST = 20  # selfies of a bin, so that a share means something
SIMULATIONS, SEED = 1000, 2015  # of a net that is calibrated
CLOSEST = 1e-7  # to which scores are kept away from 0 and 1, before their log-odds are taken


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Return ln(p / (1 - p)) of scores (N), which are kept 1e-7 away from 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), CLOSEST, 1 - CLOSEST)
    return np.log(clipped / (1 - clipped))


def probability(z: np.ndarray) -> np.ndarray:
    """Return the probabilities of log-odds (N): the sigmoid."""
    from scipy.special import expit

    return expit(np.asarray(z, np.float64))


def log_loss(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return -ln p of the right answer of each log-odds (N)."""
    return np.logaddexp(0, np.where(labels == 1, -z, z))


def platt(z: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset of held-out log-odds (N) to labels (N; Platt 1999).

    One more selfie of either kind is imagined at each end (his targets), so that labels which the scores part without
    an error give a finite slope. SelfieError unless both labels occur, or if higher scores are not better.
    """
    from scipy.optimize import minimize

    good, bad = int((labels == 1).sum()), int((labels == 0).sum())
    if not good or not bad:
        raise SelfieError("a calibration needs both good and bad selfies")
    targets = np.where(labels == 1, (good + 1) / (good + 2), 1 / (bad + 2))
    centre, spread = float(z.mean()), float(z.std()) or 1.0  # so that both numbers are about 1

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        x = parameters[0] * (z - centre) / spread + parameters[1]
        slip = probability(x) - targets
        gradient = np.array([(slip * (z - centre) / spread).mean(), slip.mean()])
        return float((np.logaddexp(0, x) - targets * x).mean()), gradient

    steepness, offset = minimize(loss, [1.0, 0.0], jac=True, method="BFGS").x
    slope = float(steepness) / spread
    if slope <= 0:
        raise SelfieError("these scores cannot be calibrated: higher ones are not better")
    return slope, float(offset) - slope * centre


def temperature(z: np.ndarray, labels: np.ndarray) -> float:
    """Fit the slope, one over the temperature, of held-out log-odds (N) to labels (N) by maximum likelihood.

    Between 1/100 and 100. SelfieError unless both labels occur, or if higher scores are not better.
    """
    from scipy.optimize import minimize_scalar

    if len(set(labels.tolist())) < 2:
        raise SelfieError("a calibration needs both good and bad selfies")
    if float(((labels - 0.5) * z).mean()) <= 0:
        raise SelfieError("these scores cannot be calibrated: higher ones are not better")
    limit = np.log(100)
    best = minimize_scalar(
        lambda power: log_loss(np.exp(power) * z, labels).mean(), bounds=(-limit, limit), method="bounded"
    )
    return float(np.exp(best.x))


def reliability(scores: np.ndarray, labels: np.ndarray, users: Clusters) -> dict:
    """Measure how far scores (N) can be taken at their word, by labels (N).

    Returns ece with its 95 % interval ece_95 over users (None for one user); ece_calibrated, which a calibrated net
    would show on as many selfies of such scores, by chance (its mean, and its 95th percentile); and the bins of the
    reliability diagram: selfies, the mean score, the share of good ones, and its 95 % interval.
    """
    bins = _bins(scores)
    ece = float(_errors(np.ones((1, len(scores))), scores, labels, bins)[0])
    resampled = [_errors(times, scores, labels, bins) for times in users.samples()]
    low, high = users.interval(np.concatenate(resampled))
    chance = _by_chance(scores, bins)
    rows = []
    for members in bins:
        share = labels[members]
        rows.append(
            {
                "selfies": len(members),
                "score": float(scores[members].mean()),
                "good": float(share.mean()),
                "good_95": Clusters(users.codes[members]).proportion(share == 1),
            }
        )
    return {
        "ece": ece,
        "ece_95": None if np.isnan(low) else (low, high),
        "ece_calibrated": [float(chance.mean()), float(np.quantile(chance, 0.95))],
        "bins": rows,
    }


def _bins(scores: np.ndarray) -> list[np.ndarray]:
    """Cut selfies into bins of equally many, by score: at most BINS, of at least LEAST selfies where there are."""
    order = np.argsort(scores, kind="stable")
    return np.array_split(order, max(1, min(BINS, len(scores) // LEAST)))


def _errors(times: np.ndarray, scores: np.ndarray, labels: np.ndarray, bins: list[np.ndarray]) -> np.ndarray:
    """Compute the ECE of samples: times (B x N), how often each selfie is in each -> B floats."""
    off = times * (scores - labels)
    return sum(np.abs(off[:, members].sum(1)) for members in bins) / times.sum(1)


def _by_chance(scores: np.ndarray, bins: list[np.ndarray]) -> np.ndarray:
    """Simulate the ECE that chance alone gives scores which are calibrated: SIMULATIONS floats."""
    drawn = np.random.default_rng(SEED).random((SIMULATIONS, len(scores))) < scores
    return _errors(np.ones((1, len(scores))), scores, drawn, bins)
