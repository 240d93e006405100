"""How good a net is on labelled selfies: accuracy with an interval, AUC, confusion, and the scores themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie import database, manifest, net, paths, plots, runs
from selfie.errors import SelfieError

BATCH = 16  # pictures per forward pass: more gains nothing on a CPU


def score_database(run: runs.Run, path: Path, gpu: int | None = None) -> pl.DataFrame:
    """Columns key, label, score: every selfie of a finished database, in its order, scored by the run's net."""
    caffe_net = run.net(gpu)
    keys, labels, scores = [], [], []

    with database.Database(path) as records, \
            tqdm(total=len(records), unit="selfie", desc=path.name, disable=None) as bar:
        for batch in batches(records, BATCH):
            scores.extend(net.scores(caffe_net, np.stack([picture for _, picture, _ in batch]), run.variant))
            keys.extend(key for key, _, _ in batch)
            labels.extend(label for _, _, label in batch)
            bar.update(len(batch))
    return pl.DataFrame({"key": keys, "label": labels, "score": np.asarray(scores, np.float64)})


def batches(items, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def validation_scores(run: runs.Run, gpu: int | None = None) -> pl.DataFrame:
    """Scores of the run's validation selfies: val_scores.csv, made when it is not there."""
    file = run.folder / "val_scores.csv"
    if not file.exists():
        scored = score_database(run, run.database("val"), gpu)
        paths.write_csv(file, scored)
    scored = pl.read_csv(file)
    manifest.require(scored, ("key", "label", "score"), file)
    return scored


def percentiles(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Percent of `reference` scores that each score beats, ties counted half (in [0, 100])."""
    reference = np.sort(reference)
    below = np.searchsorted(reference, scores, "left") + np.searchsorted(reference, scores, "right")
    return 50 * below / len(reference)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a good selfie scores above a bad one, ties counted half (Mann-Whitney U; Hanley 1982).

    SelfieError unless both labels, 0 and 1, occur.
    """
    good, bad = scores[labels == 1], scores[labels == 0]
    if not len(good) or not len(bad):
        raise SelfieError("an AUC needs both good and bad selfies")
    return float(percentiles(good, bad).mean() / 100)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return float(centre - half), float(centre + half)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation in [-1, 1] (Spearman 1904): Pearson's correlation of mid-ranks."""
    ranks = [pl.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def bootstrap(measure, *arrays: np.ndarray, groups: np.ndarray | None = None, seed: int = 2015,
              resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of measure(*arrays); rows are drawn together, within `groups` where given."""
    generator = np.random.default_rng(seed)
    parts = [np.arange(len(arrays[0]))] if groups is None else [np.flatnonzero(groups == one)
                                                                for one in np.unique(groups)]
    values = []
    for _ in range(resamples):
        picked = np.concatenate([part[generator.integers(0, len(part), len(part))] for part in parts])
        values.append(measure(*(array[picked] for array in arrays)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def spearman_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of spearman()."""
    return bootstrap(spearman, first, second)


def spearman_report(values: np.ndarray, published: np.ndarray) -> dict:
    """value, low, high: spearman() and its interval."""
    values, published = np.asarray(values), np.asarray(published)
    low, high = spearman_interval(values, published)
    return {"value": spearman(values, published), "low": low, "high": high}


def auc_report(scores: np.ndarray, labels: np.ndarray) -> dict:
    """value, low, high: auc() and its bootstrap interval, resampled within each label."""
    low, high = bootstrap(auc, scores, labels, groups=labels)
    return {"value": auc(scores, labels), "low": low, "high": high}


def report(scored: pl.DataFrame) -> dict:
    """Of scored, labelled selfies: accuracy at 0.5 with its 95 % interval, the accuracy of always giving the commoner
    answer, AUC, and the confusion matrix."""
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    called = scores >= 0.5
    right = int((called == labels).sum())
    return {
        "selfies": len(labels), "good": int(labels.sum()), "accuracy": right / len(labels),
        "accuracy_95": wilson(right, len(labels)), "commoner": float(max(labels.mean(), 1 - labels.mean())),
        "auc": auc(scores, labels),
        "confusion": {f"{name}_called_{call}": int(((labels == label) & (called == (call == "good"))).sum())
                      for label, name in enumerate(("bad", "good")) for call in ("bad", "good")}}


def evaluate(run: runs.Run, split: str = "test", gpu: int | None = None) -> dict:
    """Score a split of the run's database; write <split>_scores.csv, <split>_evaluation.json and .png; the report."""
    folder = run.database(split)
    scored = validation_scores(run, gpu) if split == "val" else score_database(run, folder, gpu)
    result = {"run": str(run.folder), "variant": run.variant.name, "split": split, **report(scored)}
    paths.write_csv(run.folder / f"{split}_scores.csv", scored)
    paths.write_json(run.folder / f"{split}_evaluation.json", result)
    draw(scored, result, run.folder / f"{split}_evaluation.png")
    return result


def draw(scored: pl.DataFrame, result: dict, path: Path) -> None:
    """Left: how the scores of good and bad selfies are spread. Right: the ROC curve."""
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    with plots.figure(path, 1, 2, width=10) as (left, right):
        for label, name, colour in ((0, "bad", plots.BAD), (1, "good", plots.GOOD)):
            left.hist(100 * scores[labels == label], bins=20, range=(0, 100), alpha=0.6, color=colour, label=name)
        left.set_xlabel("score, %")
        left.set_ylabel("selfies")
        left.legend()
        order = np.argsort(-scores, kind="stable")
        hits = np.cumsum(labels[order]) / labels.sum()
        alarms = np.cumsum(1 - labels[order]) / (1 - labels).sum()
        right.plot([0, *alarms], [0, *hits], color=plots.GOOD)
        right.plot([0, 1], [0, 1], color="gray", linestyle=":")
        right.set_xlabel("bad selfies called good")
        right.set_ylabel("good selfies called good")
        low, high = result["accuracy_95"]
        right.set_title(f"accuracy {result['accuracy']:.1%} ({low:.1%} to {high:.1%}), AUC {result['auc']:.3f}")
