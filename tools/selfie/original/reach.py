"""The post's continuum ordered by heads that saw only its best and worst selfies.

The training tiles are the published best 100 and worst 300 less those that the continuum shows as well; of them a test
split is set aside. The 240 tiles of the continuum are not looked at before a recipe is fixed. A recipe is what Caffe's
prototxt and solver files say: what the heads read of a net that stays as ImageNet left it, in which views of a tile,
and how strongly they are regularised.

The rule, fixed beforehand. Each recipe is cross-validated on the training tiles: every tile is scored by the heads that
do not know it, calibrated on the other folds' tiles. Best against worst is an easy contrast (mean brightness alone has
an AUC of 0.97), so the AUC saturates and the held-out log-loss decides. Losses within one standard error of the lowest
count as equal (Breiman et al. 1984); among those the recipe that stands first in RECIPES, where the most constrained
come first, is taken. All its heads, of every fold of each partition, are one net: its score is their mean log-odds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from selfie.common import calibration, paths, stats
from selfie.common.errors import SelfieError
from selfie.data import tables
from selfie.data.lmdb_reader import Database
from selfie.net import architectures, caffe_net, solver
from selfie.original import agreement, baselines, compare, recipes, tile_labels
from selfie.original.figures import Tile
from selfie.original.recipes import Recipe
from selfie.runs import means, prepare, readings, run_folder, train
from selfie.runs.run_folder import HELD_OUT, Run

log = logging.getLogger(__name__)

COLUMNS = {"key": pl.String, "label": pl.Int64, "fold": pl.Int64, "log_odds": pl.Float64}  # of held_out.csv


@dataclass(frozen=True)
class Place:
    """The databases of the tiles, the folder of what nets make of them, and the folder of the recipes' runs.

    pretrained   the frozen net's weights: a file or a name; None: those of its variant
    """

    lmdb: Path
    readings: Path
    runs: Path
    pretrained: str | None = None


def place(net: str, lmdb: Path, pretrained: str | None = None) -> Place:
    """Return where the recipes of a net are: readings below the databases' folder, runs/reach/<net>."""
    return Place(lmdb, lmdb.parent / "readings", paths.RUNS / "reach" / net, pretrained)


def usable(net: str, pretrained: str | None) -> list[Recipe]:
    """Return those recipes of a net whose frozen layers find their weights; the others are logged.

    SelfieError if none does, or if the weights are known to go with another mean than the net's.
    """
    listed = recipes.of(net)
    weights = prepare.starting_weights(listed[0].net(), pretrained)
    there = {} if weights is None else caffe_net.caffemodel_shapes(weights)
    lacking = {recipe.name: _lacking(recipe, there) for recipe in listed}
    found = [recipe for recipe in listed if not lacking[recipe.name]]
    if weights is None or not found:
        raise SelfieError(f"{pretrained} has no weights for {lacking[listed[0].name][0]}: give another --weights")
    means.check(listed[0].net(), weights, "--net", {name: recipes.of(name)[0].net() for name in recipes.RECIPES})
    if left_out := [recipe.name for recipe in listed if recipe not in found]:
        log.info("%s lacks layers that these recipes read: %s", pretrained, ", ".join(left_out))
    return found


def _lacking(recipe: Recipe, there: caffe_net.Shapes) -> list[str]:
    """List the layers of a recipe's frozen net that are not among those of a caffemodel."""
    variant = recipe.net()
    layers = architectures.build(variant, "deploy")["layer"]
    learned = [layer["name"] for layer in layers if layer["type"] in ("Convolution", "InnerProduct")]
    return [name for name in learned if name not in there and name not in variant.fresh]


# --- the choice ------------------------------------------------------------------------------------------------------


def cross_validate(chosen_from: Sequence[Recipe], where: Place) -> Iterator[dict]:
    """Yield each recipe's held-out results: recipe, about, and those of `judge`. What is trained already stays."""
    ways = len({recipe.readings for recipe in chosen_from})
    log.info("%d recipes; for all of them together the frozen net reads the tiles %d times", len(chosen_from), ways)
    for recipe in chosen_from:
        run = trained(recipe, where, where.runs / recipe.name, chosen_from)
        yield {"recipe": recipe.name, "about": recipe.about, **judge(tables.read(run.folder / HELD_OUT, COLUMNS))}


def judge(held_out: pl.DataFrame) -> dict[str, float]:
    """Compute log_loss (mean of -ln p of the right answer), its standard_error, and auc of held-out log-odds.

    Those of each fold are calibrated on the others'.
    """
    z, labels, folds = (held_out[name].to_numpy() for name in ("log_odds", "label", "fold"))
    calibrated = np.empty(len(z))
    for fold in np.unique(folds):
        slope, offset = calibration.platt(z[folds != fold], labels[folds != fold])
        calibrated[folds == fold] = slope * z[folds == fold] + offset
    losses = calibration.log_loss(calibrated, labels)
    return {
        "log_loss": float(losses.mean()),
        "standard_error": float(losses.std(ddof=1) / np.sqrt(len(losses))),
        "auc": stats.auc(z, labels),
    }


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


# --- training --------------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, where: Place, folder: Path, shared_by: Sequence[Recipe], replaces: bool = False) -> Run:
    """Return the finished run of a recipe in `folder`; train it unless it is there already.

    shared_by   the recipes that the net's readings are to serve
    replaces    another run that is there is removed
    """
    if (folder / "run.json").exists():
        run = run_folder.load(folder)
        if run.finished and _is_of(run, recipe, where):
            return run
    variant = recipe.net()
    pretrained = prepare.starting_weights(variant, where.pretrained)
    shared = where.readings / recipe.readings
    widest = replace(variant, readout=recipes.widest(tuple(shared_by), recipe.readings))
    assert pretrained is not None
    readings.compute(widest, pretrained, where.lmdb, shared)
    decay = {"weight_decay": f"{recipe.weight_decay:g}"}
    job = prepare.Job(variant, where.lmdb, folder, pretrained, replace=True, settings=decay, readings=shared)
    return train.train(job)


def _is_of(run: Run, recipe: Recipe, where: Place) -> bool:
    """Tell whether a run was trained by a recipe as it is today, on this database, from these weights."""
    used = solver.read(run.folder / "solver.prototxt")
    with Database(where.lmdb / "train") as records:
        there, learned = records.meta, run.info["lmdb"]["train"]
    same_tiles = there["content"] == learned["content"] and _detail(there) == _detail(learned)
    variant = recipe.net()
    same_net = "frozen" in run.info and (run.variant.shrink, run.variant.smooth) == (variant.shrink, variant.smooth)
    weights = prepare.starting_weights(variant, where.pretrained)
    same_net = same_net and weights is not None and run.info["weights"]["sha256"] == paths.sha256(weights)
    return (
        same_tiles
        and same_net
        and run.readout == variant.readout
        and abs(used.weight_decay / recipe.weight_decay - 1) < 1e-3
    )


def _detail(meta: dict) -> int:
    """Return the detail of a database's pictures, see image.square."""
    return meta["inputs"].get("detail", 0)


# --- the test --------------------------------------------------------------------------------------------------------


def order_continuum(
    results: Sequence[dict], chosen: str, chosen_from: Sequence[Recipe], where: Place
) -> Iterator[tuple[dict, dict | None]]:
    """Yield (each recipe's result with its Spearman on the continuum; the baselines beside the chosen one, or None).

    The chosen recipe comes first. <runs>/reach.json is written after each, with `results`, to which continuum is added.
    """
    beside = None
    for result, recipe in sorted(zip(results, chosen_from), key=lambda pair: pair[1].name != chosen):
        tiles, values = order(trained(recipe, where, where.runs / recipe.name, chosen_from))
        published = np.array([-tile.row for tile in tiles])
        result["continuum"] = stats.spearman_report(values, published)
        if recipe.name == chosen:
            beside = agreement.ordered({"score": values, **baselines.of_tiles(tiles)}, published)
        paths.write_json(where.runs / "reach.json", {"chosen": chosen, "beside": beside, "recipes": results})
        yield result, beside if recipe.name == chosen else None


def order(run: Run) -> tuple[list[Tile], np.ndarray]:
    """Score the continuum's 240 tiles: (tiles, scores). SelfieError if a selfie of it is among the training tiles."""
    every, _, continuum = tile_labels.labelled(whole_continuum=True)
    if continuum["duplicate_of"].count():
        raise SelfieError("a selfie of the continuum is among the training tiles")
    tiles = [tile for tile in every if tile.figure == "continuum"]
    return tiles, compare.scores(run, [tile.bgr for tile in tiles])
