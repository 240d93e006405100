"""Linear heads on a frozen net: an ensemble that Caffe trains, held-out scores of every selfie, and one net of it all.

The selfies of train and val are cut into folds by user, several times over; each head learns from all but one fold. So
every selfie, of either database, is scored by heads that do not know it (cross-fitting). These held-out scores are what
the run's calibration is fitted to, what stands in its val_scores.csv, and what recipes are chosen by. The net that
scores has all heads and averages their log-odds.

    readings/           what the frozen net makes of each selfie (selfie.runs.readings)
    heads/train, val    records for Caffe: targets of all heads, then features. val holds each selfie for those heads
                        that do not learn from it, so the validation loss in Caffe's log is the held-out one
    start.caffemodel    the statistics by which features are standardised
    weights.caffemodel  the frozen net with its heads, calibrated: what scores
    held_out.csv        key, split, label, fold, log_odds (mean of its heads, as trained), score (calibrated), distance
                        (from the average selfie of the other folds, see selfie.runs.trust)
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import polars as pl

from selfie.common import calibration, paths
from selfie.common.errors import SelfieError
from selfie.data import datum, lmdb_posts
from selfie.net import caffe_net, device, pycaffe
from selfie.net.heads import IGNORED
from selfie.net.variants import Variant
from selfie.runs import readings, trust
from selfie.runs.readings import SPLITS, Readings
from selfie.runs.run_folder import HELD_OUT, Run

START, TRAINED = "start.caffemodel", "weights.caffemodel"
EPSILON = 1e-5  # which BatchNorm adds to variances, by default
PAGE = 4096  # bytes, of LMDB
VAL_SCORES = ("key", "label", "score")  # columns of val_scores.csv


@dataclass(frozen=True)
class Selfies:
    """The N selfies that heads learn from, those of train first.

    table   key, split and label of each
    folds   seeds x N integers: the fold of each in every partition
    """

    table: pl.DataFrame
    folds: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Return the labels, N integers."""
        return self.table["label"].to_numpy()

    def held_out_by(self, folds: int) -> np.ndarray:
        """Tell which heads do not learn from which selfie: N x members booleans; members are partition by partition."""
        return (self.folds[:, :, None] == np.arange(folds)).transpose(1, 0, 2).reshape(len(self.table), -1)


def rows(variant: Variant, sizes: dict[str, int]) -> dict[str, int]:
    """Count the records that heads learn from, and are tested on, by the databases' sizes."""
    assert variant.readout is not None
    selfies = sum(sizes[split] for split in SPLITS)
    return {"train": selfies * len(variant.readout.views), "val": selfies}


# --- before Caffe ----------------------------------------------------------------------------------------------------


def prepare(run: Run) -> None:
    """Compute the readings, and write what Caffe trains the heads with. SelfieError if folds cannot be made."""
    readout = run.readout
    read = _readings(run)
    selfies = _selfies(run, read)
    features = np.concatenate([read.of(readout, split) for split in SPLITS])
    held_out = selfies.held_out_by(readout.folds)
    labels = selfies.labels[:, None]
    order = np.random.default_rng(run.info["seed"] % (1 << 32)).permutation(features.shape[0] * features.shape[1])
    learned = np.repeat(np.where(held_out, IGNORED, labels), features.shape[1], axis=0)
    shutil.rmtree(run.folder / "heads", ignore_errors=True)
    _write_records(run.folder / "heads" / "train", learned, features.reshape(len(learned), -1), order)
    tested = np.where(held_out, labels, IGNORED)
    centre = features[:, readout.views.index("centre")]
    _write_records(run.folder / "heads" / "val", tested, centre, np.arange(len(centre)))
    _write_start(run.folder / START, features.reshape(len(learned), -1))


def _readings(run: Run) -> Readings:
    """Compute the run's readings, or open them."""
    weights, out = run.info["weights"]["path"], run.info["frozen"]["readings"]
    lmdb = run.database("train").parent
    return readings.compute(run.variant, paths.ROOT / weights, lmdb, paths.ROOT / out, device.first(run.info["gpu"]))


def _selfies(run: Run, read: Readings) -> Selfies:
    """List the selfies of both databases, and cut them into folds by user."""
    tables, users, known = [], [], 0
    for split in SPLITS:
        table = read.keys(split).with_columns(split=pl.lit(split)).select("key", "split", "label")
        posts = lmdb_posts.read(run.database(split), table["key"].to_list())
        users.append(posts.users + known)  # numbered in each database from 0 on
        known += int(posts.users.max()) + 1
        tables.append(table)
    table = pl.concat(tables)
    labels, of_user = table["label"].to_numpy(), np.concatenate(users)
    return Selfies(
        table, np.stack([folds(of_user, labels, run.readout.folds, seed) for seed in range(run.readout.seeds)])
    )


def folds(users: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cut N selfies into `count` folds so that no user is in two: N integers, 0 to count - 1.

    Users are dealt out in the order of their share of good selfies, by a seeded hash where that is equal, so each fold
    has its part of the good. SelfieError if a fold would lack good or bad selfies to learn from.
    """
    numbers, user = np.unique(users, return_inverse=True)
    good = np.bincount(user, labels) / np.bincount(user)
    digests = [hashlib.sha256(f"{seed}:{number}".encode()).digest() for number in numbers]
    fold_of = np.empty(len(numbers), int)
    fold_of[sorted(range(len(numbers)), key=lambda place: (good[place], digests[place]))] = (
        np.arange(len(numbers)) % count
    )
    fold = fold_of[user]
    for number in range(count):
        if len(set(labels[fold != number].tolist())) < 2:
            raise SelfieError(
                f"heads need good and bad selfies of at least two users each; here are {len(numbers)} users"
            )
    return fold


def _write_records(folder: Path, targets: np.ndarray, features: np.ndarray, order: np.ndarray) -> None:
    """Write an LMDB of float Datums, a row of targets and of features each, in an order."""
    folder.mkdir(parents=True)
    size = -(-(5 * (targets.shape[1] + features.shape[1]) + 64) // PAGE) * PAGE
    map_size = (size + PAGE) * len(order) + (64 << 20)
    with lmdb.open(str(folder), map_size=map_size) as database, database.begin(write=True) as transaction:
        for number, row in enumerate(order):
            record = datum.encode_floats(np.concatenate([targets[row], features[row]]))
            transaction.put(f"{number:010d}".encode(), record, append=True)


def _write_start(path: Path, features: np.ndarray) -> None:
    """Write a caffemodel of the layer `standardised`: means and variances of N x D features."""
    message = pycaffe.caffe_pb2().NetParameter(name="start")
    layer = message.layer.add(name="standardised", type="BatchNorm")
    for values in (features.mean(0, dtype=np.float64), features.var(0, dtype=np.float64), np.ones(1)):
        blob = layer.blobs.add()
        blob.shape.dim.append(len(values))
        blob.data.extend(values.tolist())
    with paths.atomic_write(path, "wb") as file:
        file.write(message.SerializeToString())


# --- after Caffe -----------------------------------------------------------------------------------------------------


def finish(run: Run, trained: Path) -> Run:
    """Calibrate the heads that Caffe trained, write held_out.csv, val_scores.csv and the net of it all.

    `trained`: Caffe's caffemodel. Returns the run with the calibration in its run.json.
    """
    readout, read = run.readout, _readings(run)
    selfies = _selfies(run, read)
    features = np.concatenate([read.of(readout, split)[:, readout.views.index("centre")] for split in SPLITS])
    blobs = caffe_net.caffemodel_blobs(trained)
    (mean, variance, _), (weights, bias) = blobs["standardised"], blobs["members"]
    odds = (features - mean) / np.sqrt(variance + EPSILON) @ weights.T + bias
    held_out = selfies.held_out_by(readout.folds)
    log_odds = np.where(held_out, odds, 0).sum(1) / held_out.sum(1)
    fitted = Calibration.fit(log_odds, selfies.labels)
    scores = fitted.scores(log_odds)
    distance = _held_out_distances(features, selfies.folds[0])
    table = selfies.table.with_columns(fold=selfies.folds[0], log_odds=log_odds, score=scores, distance=distance)
    _write_net(run, blobs["standardised"], weights * fitted.slope, bias * fitted.slope + fitted.offset, fitted.bound)
    shutil.rmtree(run.folder / "heads")
    paths.write_csv(run.folder / HELD_OUT, table)
    paths.write_csv(run.folder / "val_scores.csv", table.filter(pl.col("split") == "val").select(VAL_SCORES))
    return run.save(calibration=fitted.record(log_odds, selfies.labels))


def _held_out_distances(features: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Measure how far each of N selfies (N x D features) is from the average one of the other folds: N floats."""
    distances = np.empty(len(features))
    for number in np.unique(fold):
        others = features[fold != number].astype(np.float64)
        deviation = np.sqrt(others.var(0) + EPSILON)
        distances[fold == number] = trust.distance((features[fold == number] - others.mean(0)) / deviation)
    return distances


@dataclass(frozen=True)
class Calibration:
    """The calibration of an ensemble: sigmoid(slope z + offset), then drawn towards one half by `bound`.

    The bound is what n selfies, those of the rarer label, leave open at best: no score is above (n + 1) / (n + 2)
    (Laplace's rule of succession) nor below 1 / (n + 2).
    """

    slope: float
    offset: float
    bound: float

    @classmethod
    def fit(cls, log_odds: np.ndarray, labels: np.ndarray) -> Calibration:
        """Fit it to held-out log-odds (N) and labels (N)."""
        rarer = min(int((labels == 1).sum()), int((labels == 0).sum()))
        return cls(*calibration.platt(log_odds, labels), 1 / (rarer + 2))

    def scores(self, log_odds: np.ndarray) -> np.ndarray:
        """Return the scores of log-odds (N)."""
        return self.bound + (1 - 2 * self.bound) * calibration.probability(self.slope * log_odds + self.offset)

    def record(self, log_odds: np.ndarray, labels: np.ndarray) -> dict:
        """Describe it for run.json, with the held-out log-loss before and after."""
        after = calibration.log_odds(self.scores(log_odds))
        return {
            "slope": self.slope,
            "offset": self.offset,
            "bound": self.bound,
            "fitted_on": f"{len(labels)} held-out selfies of train and val",
            "log_loss": [float(calibration.log_loss(z, labels).mean()) for z in (log_odds, after)],
        }


def _write_net(run: Run, statistics: list[np.ndarray], weights: np.ndarray, bias: np.ndarray, bound: float) -> None:
    """Write the caffemodel that scores: the frozen net's weights, and the heads with their calibration in them."""
    net = caffe_net.load(run.folder / "deploy.prototxt")
    net.copy_from(str(paths.ROOT / run.info["weights"]["path"]))
    members = len(bias)
    half = np.full((1, members), 0.5 / members)
    values = {
        "standardised": statistics,
        "members": [weights, bias],
        "ensemble": [np.concatenate([-half, half]), np.zeros(2)],
        "bounded": [np.array([[1 - bound, bound], [bound, 1 - bound]]), np.zeros(2)],
    }
    for layer, arrays in values.items():
        for blob, array in zip(net.params[layer], arrays):
            blob.data[...] = array
    with paths.atomic_path(run.folder / TRAINED) as temporary:
        net.save(str(temporary))
