"""How well can the post's continuum be ordered by nets that saw only its best and worst selfies?

The training tiles are the published best 100 and worst 300 less those that the continuum shows as well; the 240 tiles
of the continuum are the test and are not looked at before a recipe is fixed. A recipe is what Caffe's prototxt and
solver files say - layers that learn, learning rate, length - and how the training tiles are varied in the database.

The rule, fixed beforehand. Each recipe is cross-validated on the training tiles. Best against worst is an easy contrast
(mean brightness alone has an AUC of 0.97), so the AUC saturates and the held-out log-loss decides. Losses within one
standard error of the lowest count as equal (Breiman et al. 1984); among those the recipe that stands first in RECIPES,
where the most constrained come first, is taken. Its nets - every fold, several seeds - vote by their mean log-odds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie.common import parallel, paths, stats
from selfie.common.errors import SelfieError
from selfie.data import image, lmdb_writer
from selfie.data.lmdb_reader import id_column
from selfie.net import solver, variants
from selfie.original import figures
from selfie.runs import evaluate, prepare, run_folder, train
from selfie.runs.run_folder import Run

FOLDS = 3
SEEDS = (2015, 2016, 2017)  # the first for the choice among recipes, all for the vote
COPIES = 4  # of each training tile in the database, where a recipe varies them
SOLVER = paths.SOLVER / "reach.prototxt"


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    variant      which layers learn (prototxt/<variant>)
    base_lr, iterations   of the solver; 32 tiles per iteration
    size         to which all tiles are reduced, see paper.reduce
    crops        the database holds COPIES random crops of each tile, of 70 to 100 % of its side
    light        the database holds COPIES of each tile with random brightness, 60 to 140 %, so that it says less
    Mirroring and small shifts (227 of 256 pixels) are Caffe's own and part of every recipe.
    """

    name: str
    variant: str
    base_lr: float = 1e-4
    iterations: int = 60
    size: int = figures.SIZE
    crops: bool = False
    light: bool = False

    @property
    def tiles(self) -> str:
        """Name of the databases that it shares with other recipes."""
        return f"{self.size}{'-crops' if self.crops else ''}{'-light' if self.light else ''}"

    @property
    def about(self) -> str:
        learning = {"head": "head", "top": "fire6 on"}.get(self.variant.rsplit("_", 1)[1], "all layers")
        varied = [name for name, used in (("crops", self.crops), ("light", self.light)) if used]
        return f"{learning}, lr {self.base_lr:g}, {self.iterations} iterations, {self.size} px" + (
            f", varied: {' and '.join(varied)}" if varied else ""
        )


HEAD, TOP, ALL = "squeezenet_half_head", "squeezenet_half_top", "squeezenet_half"
RECIPES = (  # most constrained first, see the rule above
    Recipe("head_slower", HEAD, base_lr=3e-6, iterations=180),
    Recipe("head_slow", HEAD, base_lr=1e-5, iterations=180),
    Recipe("head_slow_light", HEAD, base_lr=1e-5, iterations=180, light=True),
    Recipe("head", HEAD),
    Recipe("head_long", HEAD, iterations=180),
    Recipe("head_light", HEAD, iterations=180, light=True),
    Recipe("head_crops", HEAD, iterations=180, crops=True),
    Recipe("top_slow", TOP, base_lr=1e-5),
    Recipe("top_short", TOP, iterations=30),
    Recipe("top", TOP),
    Recipe("all_slow", ALL, base_lr=1e-5),
)


@dataclass(frozen=True)
class Place:
    """Where databases and runs go."""

    data: Path
    runs: Path


def place() -> Place:
    """data/reach and runs/reach."""
    return Place(paths.DATA / "reach", paths.RUNS / "reach")


# --- training tiles --------------------------------------------------------------------------------------------------


def folds(labels: pl.DataFrame) -> np.ndarray:
    """Fold of each row of a label table: stratified, by a hash of the id, so the order of rows changes nothing."""
    found = np.empty(len(labels), int)
    digests = [hashlib.sha256(name.encode()).digest() for name in labels["id"]]
    for label in (0, 1):
        rows = [row for row, value in enumerate(labels["label"]) if value == label]
        for number, row in enumerate(sorted(rows, key=digests.__getitem__)):
            found[row] = number % FOLDS
    return found


def build_database(recipe: Recipe, fold: int, where: Place) -> Path:
    """Databases train and val (one fold, never varied) of a recipe's tiles; what is finished is left as it is."""
    out = where.data / f"{recipe.tiles}-fold{fold}"
    if (out / "lmdb" / "val" / "meta.json").exists():
        return out / "lmdb"
    tiles, labels, _ = figures.labelled(recipe.size, whole_continuum=True)
    pictures = {tile.id: tile.bgr for tile in tiles}
    rows = []
    for row, held_out in zip(labels.iter_rows(named=True), folds(labels) == fold):
        copies = 1 if held_out or not (recipe.crops or recipe.light) else COPIES
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


def vary(bgr: np.ndarray, recipe: Recipe, seed: str) -> np.ndarray:
    """A copy of a tile, cropped and lit as the recipe says; the same for the same seed."""
    generator = np.random.default_rng(list(seed.encode()))
    side, (scale, x, y, light) = len(bgr), generator.random(4)
    if recipe.crops:
        scale = 0.7 + 0.3 * scale
        window = np.float32([[scale, 0, x * (1 - scale) * side], [0, scale, y * (1 - scale) * side]])
        bgr = cv2.warpAffine(
            bgr, window, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
    if recipe.light:
        bgr = np.clip(bgr * (0.6 + 0.8 * light), 0, 255).astype(np.uint8)
    return bgr


# --- training --------------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, fold: int, seed: int, where: Place) -> Run:
    """The finished run of a recipe on all folds but one; trained unless it is there already."""
    lmdb = build_database(recipe, fold, where)
    folder = where.runs / f"{recipe.name}-fold{fold}-seed{seed}"
    settings = {"base_lr": f"{recipe.base_lr:.6f}", "max_iter": str(recipe.iterations)}
    if (folder / "run.json").exists():
        run = run_folder.load(folder)
        used = solver.parse((folder / "solver.prototxt").read_text())
        same = (used.max_iter, run.info["variant"], run.info["lmdb"]["path"]) == (
            recipe.iterations,
            recipe.variant,
            paths.shown(lmdb),
        )
        if run.finished and same and abs(used.base_lr / recipe.base_lr - 1) < 1e-3:
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
            settings=settings,
        )
    )


def held_out(recipe: Recipe, seed: int, where: Place) -> pl.DataFrame:
    """Columns id, label, score of all training tiles, each scored by the net that was not trained on it."""
    parts = [evaluate.validation_scores(trained(recipe, fold, seed, where)) for fold in range(FOLDS)]
    return pl.concat(parts).select(id_column("key").alias("id"), "label", "score").sort("id")


def judge(scored: pl.DataFrame) -> dict:
    """Held-out log-loss (mean of -ln p of the right answer) with its standard error, and the AUC."""
    labels = scored["label"].to_numpy()
    z = log_odds(scored["score"].to_numpy())
    losses = np.logaddexp(0, np.where(labels == 1, -z, z))
    return {
        "log_loss": float(losses.mean()),
        "standard_error": float(losses.std(ddof=1) / np.sqrt(len(losses))),
        "auc": stats.auc(z, labels),
    }


def log_odds(scores: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)), of scores kept 1e-7 away from 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


def choose(results: Sequence[dict]) -> dict:
    """The first whose log-loss is within one standard error (its own, of the lowest) of the lowest."""
    lowest = min(results, key=lambda one: one["log_loss"])
    return next(one for one in results if one["log_loss"] <= lowest["log_loss"] + lowest["standard_error"])


# --- the test --------------------------------------------------------------------------------------------------------


def order(recipe: Recipe, seeds: Sequence[int], where: Place) -> tuple[list[figures.Tile], np.ndarray]:
    """The continuum's 240 tiles, reduced as the recipe says, and their mean log-odds over folds and seeds."""
    tiles, _, continuum = figures.labelled(recipe.size, whole_continuum=True)
    if continuum["duplicate_of"].count():
        raise SelfieError("a selfie of the continuum is among the training tiles")
    tiles = [tile for tile in tiles if tile.figure == "continuum"]
    pictures = [image.square(tile.bgr) for tile in tiles]
    votes = []
    for seed in seeds:
        for fold in range(FOLDS):
            run = trained(recipe, fold, seed, where)
            net = run.net()
            scores = [net.scores(np.stack(batch)) for batch in parallel.batches(pictures, evaluate.BATCH)]
            votes.append(log_odds(np.concatenate(scores)))
    return tiles, np.mean(votes, axis=0)
