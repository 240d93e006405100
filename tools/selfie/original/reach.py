"""The post's continuum ordered by nets that saw only its best and worst selfies.

The training tiles are the published best 100 and worst 300 less those that the continuum shows as well; the 240 tiles
of the continuum are the test and are not looked at before a recipe is fixed. A recipe is what Caffe's prototxt and
solver files say - layers that learn, learning rate, length - and how the training tiles are varied in the database.

The rule, fixed beforehand. Each recipe is cross-validated on the training tiles. Best against worst is an easy contrast
(mean brightness alone has an AUC of 0.97), so the AUC saturates and the held-out log-loss decides. Losses within one
standard error of the lowest count as equal (Breiman et al. 1984); among those the recipe that stands first in RECIPES,
where the most constrained come first, is taken. Its nets - every fold, several seeds - are an ensemble: their log-odds
are averaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from selfie.common import parallel, paths, stats
from selfie.common.errors import SelfieError
from selfie.data import image, lmdb_writer
from selfie.data.lmdb_reader import id_column
from selfie.net import solver, variants, weights
from selfie.original import agreement, baselines, figures, tile_labels
from selfie.original.figures import Tile
from selfie.original.recipes import COPIES, RECIPES, Recipe, vary
from selfie.runs import evaluate, prepare, run_folder, train
from selfie.runs.run_folder import Run

FOLDS = 3
SEEDS = (2015, 2016, 2017)  # the first for the choice among recipes, all for the ensemble
SOLVER = paths.SOLVER / "reach.prototxt"


@dataclass(frozen=True)
class Place:
    """The folders of databases and runs."""

    data: Path
    runs: Path


def place() -> Place:
    """Return data/reach and runs/reach."""
    return Place(paths.DATA / "reach", paths.RUNS / "reach")


# --- the experiment --------------------------------------------------------------------------------------------------


def obtain() -> None:
    """Fetch what the experiment needs: the three figures and SqueezeNet's weights. SelfieError if one cannot be had."""
    for name in tile_labels.GRIDS:
        figures.fetch(name)
    weights.obtain("squeezenet")


def cross_validate(where: Place) -> Iterator[dict]:
    """Yield each recipe's held-out results: recipe, about, and those of `judge`. What is trained already stays."""
    for recipe in RECIPES:
        yield {"recipe": recipe.name, "about": recipe.about, **judge(held_out(recipe, SEEDS[0], where))}


def choose(results: Sequence[dict]) -> dict:
    """Return the first result whose log-loss is within one standard error (its own, of the lowest) of the lowest."""
    lowest = min(results, key=lambda result: result["log_loss"])
    most = lowest["log_loss"] + lowest["standard_error"]
    return next(result for result in results if result["log_loss"] <= most)


def write_choice(results: Sequence[dict], where: Place) -> str:
    """Choose by the rule and write <runs>/choice.json, before the continuum is looked at; the chosen recipe's name."""
    chosen = choose(results)["recipe"]
    paths.write_json(where.runs / "choice.json", {"chosen": chosen, "recipes": results})
    return chosen


def order_continuum(results: Sequence[dict], chosen: str, where: Place) -> Iterator[tuple[dict, dict | None]]:
    """Yield (each recipe's result with its Spearman on the continuum; the baselines beside the chosen one, or None).

    The chosen recipe comes first, with all seeds; the others have one each. <runs>/reach.json is written after each,
    with `results`, to which nets and continuum are added.
    """
    beside = None
    for result, recipe in sorted(zip(results, RECIPES), key=lambda pair: pair[1].name != chosen):
        seeds = SEEDS if recipe.name == chosen else SEEDS[:1]
        tiles, values = order(recipe, seeds, where)
        published = np.array([-tile.row for tile in tiles])
        result |= {"nets": len(seeds) * FOLDS, "continuum": stats.spearman_report(values, published)}
        if recipe.name == chosen:
            beside = agreement.ordered({"score": values, **baselines.of_tiles(tiles)}, published)
        paths.write_json(where.runs / "reach.json", {"chosen": chosen, "beside": beside, "recipes": results})
        yield result, beside if recipe.name == chosen else None


# --- training tiles --------------------------------------------------------------------------------------------------


def folds(labels: pl.DataFrame) -> np.ndarray:
    """Assign each row of a label table to a fold, 0 to FOLDS - 1: N integers.

    Stratified, and by a hash of the id, so the order of rows changes nothing.
    """
    fold = np.empty(len(labels), int)
    digests = [hashlib.sha256(name.encode()).digest() for name in labels["id"]]
    for label in (0, 1):
        rows = [row for row, value in enumerate(labels["label"]) if value == label]
        for number, row in enumerate(sorted(rows, key=digests.__getitem__)):
            fold[row] = number % FOLDS
    return fold


def build_database(recipe: Recipe, fold: int, where: Place) -> Path:
    """Build databases train and val (one fold, never varied) of a recipe's tiles; what is finished stays."""
    out = where.data / f"{recipe.tiles}-fold{fold}"
    if (out / "lmdb" / "val" / "meta.json").exists():
        return out / "lmdb"
    tiles, labels, _ = tile_labels.labelled(recipe.size, whole_continuum=True)
    pictures = {tile.id: tile.bgr for tile in tiles}
    rows = []
    for row, held_out in zip(labels.iter_rows(named=True), folds(labels) == fold):
        copies = COPIES if recipe.varied and not held_out else 1
        for number in range(copies):
            name = row["id"] if copies == 1 else f"{row['id']}_{number}"
            bgr = pictures[row["id"]] if copies == 1 else vary(pictures[row["id"]], recipe, f"{fold} {name}")
            image.write(out / "tiles" / f"{name}.png", bgr)
            rows.append(
                {"id": name, "path": f"{name}.png", "label": row["label"], "split": "val" if held_out else "train"}
            )
    paths.write_csv(out / "labels.csv", pl.DataFrame(rows))
    lmdb_writer.build(out / "labels.csv", out / "tiles", out / "lmdb", force=True)
    return out / "lmdb"


# --- training --------------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, fold: int, seed: int, where: Place) -> Run:
    """Return the finished run of a recipe on all folds but one; train it unless it is there already."""
    lmdb = build_database(recipe, fold, where)
    folder = where.runs / f"{recipe.name}-fold{fold}-seed{seed}"
    if (folder / "run.json").exists():
        run = run_folder.load(folder)
        if run.finished and _is_of(run, recipe, lmdb):
            return run
    variant = variants.get(recipe.variant)
    return train.train(
        prepare.Job(
            variant,
            lmdb,
            folder,
            prepare.starting_weights(variant, None),
            SOLVER,
            seed=seed,
            replace=True,
            settings={"base_lr": f"{recipe.base_lr:.6f}", "max_iter": str(recipe.iterations)},
        )
    )


def _is_of(run: Run, recipe: Recipe, lmdb: Path) -> bool:
    """Tell whether a run was trained by a recipe as it is today, on this database."""
    used = solver.read(run.folder / "solver.prototxt")
    same = (used.max_iter, run.info["variant"], run.info["lmdb"]["path"]) == (
        recipe.iterations,
        recipe.variant,
        paths.shown(lmdb),
    )
    return same and abs(used.base_lr / recipe.base_lr - 1) < 1e-3


def held_out(recipe: Recipe, seed: int, where: Place) -> pl.DataFrame:
    """Score all training tiles, each by the net that was not trained on it: columns id, label, score."""
    parts = [evaluate.validation_scores(trained(recipe, fold, seed, where)) for fold in range(FOLDS)]
    return pl.concat(parts).select(id_column("key").alias("id"), "label", "score").sort("id")


def judge(scored: pl.DataFrame) -> dict[str, float]:
    """Compute log_loss (mean of -ln p of the right answer), its standard_error, and auc of held-out scores."""
    labels = scored["label"].to_numpy()
    z = log_odds(scored["score"].to_numpy())
    losses = np.logaddexp(0, np.where(labels == 1, -z, z))
    return {
        "log_loss": float(losses.mean()),
        "standard_error": float(losses.std(ddof=1) / np.sqrt(len(losses))),
        "auc": stats.auc(z, labels),
    }


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Return ln(p / (1 - p)) of scores (N), which are kept 1e-7 away from 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


# --- the test --------------------------------------------------------------------------------------------------------


def order(recipe: Recipe, seeds: Sequence[int], where: Place) -> tuple[list[Tile], np.ndarray]:
    """Score the continuum's 240 tiles by the ensemble of all folds and seeds: (tiles, mean log-odds).

    The tiles are reduced as the recipe says. SelfieError if a selfie of the continuum is among the training tiles.
    """
    every, _, continuum = tile_labels.labelled(recipe.size, whole_continuum=True)
    if continuum["duplicate_of"].count():
        raise SelfieError("a selfie of the continuum is among the training tiles")
    tiles = [tile for tile in every if tile.figure == "continuum"]
    pictures = [image.square(tile.bgr) for tile in tiles]
    members = []
    for seed in seeds:
        for fold in range(FOLDS):
            net = trained(recipe, fold, seed, where).net()
            scores = [net.scores(np.stack(batch)) for batch in parallel.batches(pictures, evaluate.BATCH)]
            members.append(log_odds(np.concatenate(scores)))
    return tiles, np.mean(members, axis=0)
