"""The quality of a net on labelled selfies: accuracy and AUC with intervals, by margin, calibration, the scores.

Intervals take users as independent, not selfies (common/clusters). Whose a selfie is, and the margin by which its label
was decided, is known from the database (data/lmdb_posts).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import calibration, clusters, parallel, paths, plots, stats
from selfie.common.clusters import Clusters
from selfie.common.errors import SelfieError
from selfie.common.work import Row, Work, Workers
from selfie.data import lmdb_posts, tables
from selfie.data.label_place import MARGINS
from selfie.data.lmdb_posts import Posts
from selfie.data.lmdb_reader import Database
from selfie.net.caffe_net import ScoringNet
from selfie.runs import net_work
from selfie.runs.run_folder import Run

_ACCURACY = {"selfies": int, "accuracy": float, "accuracy_95": [float, float]}
SUMMARY = {  # of <split>_evaluation.json; those of before version 0.2 know no users
    **_ACCURACY,
    "auc": float,
    "auc_95?": ([float, float], None),
    "majority_class?": float,
    "users?": int,
    "users_known?": bool,
    "margins?": [{**_ACCURACY, "margin": str, "users": int}],
    "calibration?": {
        "ece": float,
        "ece_95": ([float, float], None),
        "ece_calibrated": [float, float],
        "bins": [{"selfies": int, "score": float, "good": float, "good_95": [float, float]}],
    },
}
BATCH = 16  # pictures per forward pass: more gains nothing on a CPU


COLUMNS = {"label": int, "score": float, "error": str}  # of a cluster's work
SCORES = {"key": pl.String, "label": pl.Int64, "score": pl.Float64}  # the columns of a file of scores


def score_database(run: Run, path: Path, gpu: int | None = None, workers: Workers | None = None) -> pl.DataFrame:
    """Score a finished database with the run's net, or let `workers` do it: columns key, label, score, in its order."""
    net = run.net(gpu)
    if workers is not None:
        return _by_workers(run, path, net, workers)
    keys: list[str] = []
    labels: list[int] = []
    scores: list[float] = []
    with Database(path) as records, tqdm(total=len(records), unit="selfie", desc=path.name, disable=None) as bar:
        for batch in parallel.batches(records, BATCH):
            scores.extend(net.scores(np.stack([picture for _, picture, _ in batch])))
            keys.extend(key for key, _, _ in batch)
            labels.extend(label for _, _, label in batch)
            bar.update(len(batch))
    return pl.DataFrame({"key": keys, "label": labels, "score": np.asarray(scores, np.float64)})


def _by_workers(run: Run, path: Path, net: ScoringNet, workers: Workers) -> pl.DataFrame:
    """Score a finished database on a cluster. SelfieError for a record that ends its worker."""
    with Database(path) as records:
        keys, content = records.keys(), records.meta["content"]
    parameters = {**net_work.parameters(run, net.gpu, BATCH), "database": str(path.resolve()), "content": content}
    memory, probe = net_work.memory_of(net, BATCH), str((path / "meta.json").resolve())
    work = Work("records-scored", rows_of, parameters, COLUMNS, "error", BATCH, memory, probe)
    labels, scores = [], []
    for key, (label, score, error) in zip(keys, workers(work, keys)):
        if error is not None:
            raise SelfieError(f"{path}: record {key} {error}")
        labels.append(label)
        scores.append(score)
    return pl.DataFrame({"key": keys, "label": labels, "score": np.asarray(scores, np.float64)})


def rows_of(parameters: dict, keys: list[str]) -> Iterator[Row]:
    """In a worker of a cluster: the COLUMNS of records with these keys, which follow each other in their database."""
    net = net_work.net_of(parameters)
    with Database(parameters["database"]) as records:
        if records.meta["content"] != parameters["content"]:
            raise SelfieError(f"{records.path} is another database here than where the command was given")
        for batch in parallel.batches(records.decoded(keys[0], len(keys)), BATCH):
            scores = net.scores(np.stack([picture for _, picture, _ in batch]))
            yield from ((label, score, None) for (_, _, label), score in zip(batch, scores.tolist()))


def validation_scores(run: Run, gpu: int | None = None) -> pl.DataFrame:
    """Read the scores of the run's validation selfies from val_scores.csv, which is computed on first use."""
    file = run.folder / "val_scores.csv"
    if not file.exists():
        scored = score_database(run, run.database("val"), gpu)
        run.check_not_replaced()
        paths.write_csv(file, scored)
    return tables.read(file, SCORES, "scores")


def summarise(scored: pl.DataFrame, posts: Posts) -> dict:
    """Summarise scored, labelled selfies (columns label, score); `posts`: what is known of them.

    Returns the numbers of selfies and users; the accuracy at a threshold of 0.5 with its 95 % interval, that of the
    majority-class baseline, AUC with its 95 % interval (None for one user), the confusion matrix, the accuracy by
    margin, and the calibration (common/calibration).
    """
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    predicted_good = scores >= 0.5
    users = Clusters(posts.users)
    result = accuracy(predicted_good == labels, labels, users)
    low, high = users.auc(scores, labels)
    return {
        **result,
        "users_known": posts.known,
        "good": int(labels.sum()),
        "commoner": result["majority_class"],  # its name before version 0.2, for whoever reads it
        "auc": stats.auc(scores, labels),
        "auc_95": None if np.isnan(low) else (low, high),
        "bootstrap": {"resampled": "users", "resamples": clusters.RESAMPLES, "seed": clusters.SEED},
        "confusion": {
            f"{name}_called_{call}": int(((labels == label) & (predicted_good == (call == "good"))).sum())
            for label, name in enumerate(("bad", "good"))
            for call in ("bad", "good")
        },
        "margins": by_margin(predicted_good == labels, labels, posts),
        "calibration": calibration.reliability(scores, labels, users),
    }


def accuracy(right: np.ndarray, labels: np.ndarray, users: Clusters) -> dict:
    """Accuracy of N answers (booleans: right or not) with its 95 % interval, beside the majority-class baseline."""
    return {
        "selfies": len(right),
        "users": len(users),
        "accuracy": float(right.mean()),
        "accuracy_95": users.proportion(right),
        "majority_class": float(max(labels.mean(), 1 - labels.mean())),
    }


def by_margin(right: np.ndarray, labels: np.ndarray, posts: Posts) -> list[dict]:
    """Accuracy of N answers for all selfies, and for those whose label is clearer: `accuracy`, with the margin's name.

    Outer thirds and deciles are those of the measure that the label was cut from, likes among selfies of the same
    audience by default, over all splits. Only selfies whose place is known count. A margin without selfies, or with no
    others than a narrower one (where only deciles were labelled, all selfies are of the outer deciles), is left out.
    """
    rows: list[dict] = []
    for margin, share in reversed(MARGINS.items()):
        chosen = (posts.place <= share) | (posts.place >= 1 - share)
        if chosen.sum() > (rows[-1]["selfies"] if rows else 0):
            rows.append({"margin": margin, **accuracy(right[chosen], labels[chosen], Clusters(posts.users[chosen]))})
    return rows[::-1]


def evaluate(run: Run, split: str = "test", gpu: int | None = None, workers: Workers | None = None) -> dict:
    """Score a split of the run's database; write <split>_scores.csv, _evaluation.json and .png, and _reliability.png.

    The net computes here, or in `workers`. Returns the summary, with the run's folder and variant.
    """
    folder = run.database(split)
    scored = validation_scores(run, gpu) if split == "val" else score_database(run, folder, gpu, workers)
    posts = lmdb_posts.read(folder, scored["key"].to_list())
    result = {"run": str(run.folder), "variant": run.variant.name, "split": split, **summarise(scored, posts)}
    run.check_not_replaced()
    paths.write_csv(run.folder / f"{split}_scores.csv", scored)
    paths.write_json(run.folder / f"{split}_evaluation.json", result)
    draw(scored, result, run.folder / f"{split}_evaluation.png")
    draw_reliability(result["calibration"], run.folder / f"{split}_reliability.png")
    return result


def draw(scored: pl.DataFrame, result: dict, path: Path) -> None:
    """Draw the score distributions of good and bad selfies (left) and the ROC curve (right)."""
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    with plots.figure(path, 1, 2, width=10) as (left, right):
        for label, name, colour in ((0, "bad", plots.BAD), (1, "good", plots.GOOD)):
            left.hist(100 * scores[labels == label], bins=20, range=(0, 100), alpha=0.6, color=colour, label=name)
        left.set_xlabel("score, %")
        left.set_ylabel("selfies")
        left.legend()
        order = np.argsort(-scores, kind="stable")
        true_positive_rate = np.cumsum(labels[order]) / labels.sum()
        false_positive_rate = np.cumsum(1 - labels[order]) / (1 - labels).sum()
        right.plot([0, *false_positive_rate], [0, *true_positive_rate], color=plots.GOOD)
        right.plot([0, 1], [0, 1], color="gray", linestyle=":")
        right.set_xlabel("bad selfies called good")
        right.set_ylabel("good selfies called good")
        low, high = result["accuracy_95"]
        right.set_title(f"accuracy {result['accuracy']:.1%} ({low:.1%} to {high:.1%}), AUC {result['auc']:.3f}")


def draw_reliability(measured: dict, path: Path) -> None:
    """Draw the share of good selfies over the score, bin by bin, with 95 % intervals; on the diagonal it is right."""
    scores, shares = (np.array([row[name] for row in measured["bins"]]) for name in ("score", "good"))
    low, high = np.array([row["good_95"] for row in measured["bins"]]).T
    errors = 100 * np.maximum([shares - low, high - shares], 0)
    with plots.figure(path, width=5.5, height=5) as axis:
        axis.plot([0, 100], [0, 100], color="gray", linestyle=":")
        axis.errorbar(100 * scores, 100 * shares, errors, color=plots.GOOD, capsize=2, marker="o", markersize=4)
        axis.set_xlabel("score, %")
        axis.set_ylabel("of these are good, %")
        axis.set_title(f"calibration error {measured['ece']:.1%}; by chance {measured['ece_calibrated'][0]:.1%}")


def calibration_sentence(measured: dict) -> str:
    """Say how large the calibration error is, and what chance alone would give."""
    between = "" if measured["ece_95"] is None else "95 % interval {:.1%} to {:.1%}; ".format(*measured["ece_95"])
    return f"{measured['ece']:.1%}   ({between}a calibrated net has {measured['ece_calibrated'][0]:.1%} by chance)"
