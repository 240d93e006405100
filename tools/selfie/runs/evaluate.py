"""The quality of a net on labelled selfies: accuracy with an interval, AUC, confusion matrix, and the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths, plots, stats
from selfie.data import manifest
from selfie.data.lmdb_reader import Database
from selfie.runs.run_folder import Run

SUMMARY = {"accuracy": float, "accuracy_95": [float, float], "auc": float, "selfies": int}  # of <split>_evaluation.json
BATCH = 16  # pictures per forward pass: more gains nothing on a CPU


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
    scored = pl.read_csv(file)
    manifest.require(scored, ("key", "label", "score"), file)
    return scored


def summarise(scored: pl.DataFrame) -> dict:
    """Summarise scored, labelled selfies (columns label, score).

    Returns the accuracy at a threshold of 0.5 with its 95 % interval (Wilson), that of the majority-class baseline, AUC
    and the confusion matrix.
    """
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    predicted_good = scores >= 0.5
    baseline = float(max(labels.mean(), 1 - labels.mean()))
    correct = int((predicted_good == labels).sum())
    return {
        "selfies": len(labels),
        "good": int(labels.sum()),
        "accuracy": correct / len(labels),
        "accuracy_95": stats.wilson(correct, len(labels)),
        "majority_class": baseline,
        "commoner": baseline,  # its name before version 0.2, for whoever reads it
        "auc": stats.auc(scores, labels),
        "confusion": {
            f"{name}_called_{call}": int(((labels == label) & (predicted_good == (call == "good"))).sum())
            for label, name in enumerate(("bad", "good"))
            for call in ("bad", "good")
        },
    }


def evaluate(run: Run, split: str = "test", gpu: int | None = None) -> dict:
    """Score a split of the run's database and write <split>_scores.csv, <split>_evaluation.json and .png.

    Returns the summary, with the run's folder and variant.
    """
    folder = run.database(split)
    scored = validation_scores(run, gpu) if split == "val" else score_database(run, folder, gpu)
    run.check_not_replaced()
    result = {"run": str(run.folder), "variant": run.variant.name, "split": split, **summarise(scored)}
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
