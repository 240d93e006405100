"""The quality of a net on labelled selfies: accuracy and AUC with intervals, by margin, confusion matrix, the scores.

Intervals take users as independent, not selfies (common/clusters). Whose a selfie is, and the margin by which its label
was decided, is known from the database (data/lmdb_posts).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import clusters, parallel, paths, plots, stats
from selfie.common.clusters import Clusters
from selfie.data import lmdb_posts, tables
from selfie.data.label_place import MARGINS
from selfie.data.lmdb_posts import Posts
from selfie.data.lmdb_reader import Database
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
}
BATCH = 16  # pictures per forward pass: more gains nothing on a CPU


SCORES = {"key": pl.String, "label": pl.Int64, "score": pl.Float64}  # the columns of a file of scores


def score_database(run: Run, path: Path, gpu: int | None = None) -> pl.DataFrame:
    """Score a finished database with the run's net: columns key, label, score, in the database's order."""
    net = run.net(gpu)
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
    majority-class baseline, AUC with its 95 % interval (None for one user), the confusion matrix, and the accuracy by
    margin.
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


def evaluate(run: Run, split: str = "test", gpu: int | None = None) -> dict:
    """Score a split of the run's database and write <split>_scores.csv, <split>_evaluation.json and .png.

    Returns the summary, with the run's folder and variant.
    """
    folder = run.database(split)
    scored = validation_scores(run, gpu) if split == "val" else score_database(run, folder, gpu)
    posts = lmdb_posts.read(folder, scored["key"].to_list())
    result = {"run": str(run.folder), "variant": run.variant.name, "split": split, **summarise(scored, posts)}
    run.check_not_replaced()
    paths.write_csv(run.folder / f"{split}_scores.csv", scored)
    paths.write_json(run.folder / f"{split}_evaluation.json", result)
    draw(scored, result, run.folder / f"{split}_evaluation.png")
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
