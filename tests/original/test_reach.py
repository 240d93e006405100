"""The continuum ordered by nets that saw only best and worst: folds, the rule, varied tiles, a real training."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from selfie.common import paths
from selfie.net import caffe_net, weights
from selfie.original import baselines, reach, recipes
from selfie.original.figures import Tile
from selfie.original.recipes import Recipe
from selfie.runs import train


def test_folds_are_stratified_and_know_no_order():
    """Each fold has a third of each label; reversing the table reverses the folds."""
    labels = pl.DataFrame({"id": [f"t{number}" for number in range(90)], "label": [int(n < 30) for n in range(90)]})
    fold_of = reach.folds(labels)
    for fold in range(reach.FOLDS):
        assert (labels["label"].to_numpy()[fold_of == fold].sum(), (fold_of == fold).sum()) == (10, 30)
    assert (reach.folds(labels.reverse()) == fold_of[::-1]).all()


def test_the_most_constrained_recipe_within_one_standard_error_is_taken():
    """Not the lowest, and not the first that is worse than that."""
    results = [
        {"recipe": name, "log_loss": loss, "standard_error": error}
        for name, loss, error in (("a", 0.30, 0.2), ("b", 0.21, 0.05), ("c", 0.20, 0.02), ("d", 0.19, 0.02))
    ]
    assert reach.choose(results)["recipe"] == "b"


def test_variation_keeps_size_and_is_repeatable():
    """Crops and light change a tile, the same way for the same seed."""
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for recipe in (Recipe("c", "", crops=True), Recipe("l", "", light=True)):
        first, again, other = (recipes.vary(tile, recipe, seed) for seed in ("a", "a", "b"))
        assert first.shape == tile.shape and (first == again).all() and (first != other).any()


def test_a_recipe_is_trained_on_tiles_of_no_test(published, tmp_path, monkeypatch):
    """Two iterations of the head: held-out scores of all 376 tiles, none of the continuum; frozen layers stay."""
    recipe = Recipe("tiny", recipes.HEAD, iterations=2)
    where = reach.Place(tmp_path / "data", tmp_path / "runs")
    scored = reach.held_out(recipe, 1, where)
    assert len(scored) == 376 and scored["id"].n_unique() == 376
    assert not scored["id"].str.starts_with("continuum").any()
    assert 0 < reach.judge(scored)["log_loss"] < 5
    run = reach.trained(recipe, 0, 1, where)
    monkeypatch.setattr(train, "train", None)  # what is trained already is not trained again
    assert reach.trained(recipe, 0, 1, where).info == run.info
    original = caffe_net.load(paths.PROTOTXT / "squeezenet" / "imagenet.prototxt", weights.caffemodel("squeezenet"))
    loaded = run.net().net
    kept = {name for name, (kernel, _) in loaded.params.items() if name in original.params}
    assert set(loaded.params) - kept == {"conv10_selfie"}
    assert all((loaded.params[name][0].data == original.params[name][0].data).all() for name in kept)
    tiles, values = reach.order(recipe, [1], where)
    assert len(tiles) == len(values) == 240


def test_a_recipe_that_changed_is_trained_again(published, tmp_path):
    """Same name, another length: the old run does not stand for it."""
    where = reach.Place(tmp_path / "data", tmp_path / "runs")
    runs = [reach.trained(Recipe("tiny", recipes.HEAD, iterations=count), 0, 1, where) for count in (1, 2)]
    assert [run.info["iterations"] for run in runs] == [1, 2]


def test_the_choice_is_written_before_the_continuum_is_looked_at(monkeypatch, tmp_path):
    """The chosen recipe is ordered first, with all seeds, and beside the baselines; the others with one seed each."""
    constrained, lowest = Recipe("constrained", recipes.HEAD), Recipe("lowest", recipes.ALL)
    where, asked = reach.Place(tmp_path / "data", tmp_path / "runs"), []
    tiles = [Tile("continuum", row, 0, np.zeros((8, 8, 3), np.uint8)) for row in range(20)]

    def held_out(recipe, seed, place):
        labels = np.tile([0, 1], 50)
        sure = {"constrained": 0.6, "lowest": 0.605}[recipe.name]  # of the right answer, but for one in ten
        right = np.where(np.arange(100) % 10 < 9, sure, 0.1)
        return pl.DataFrame({"label": labels, "score": np.where(labels == 1, right, 1 - right)})

    def order(recipe, seeds, place):
        asked.append((recipe.name, seeds, json.loads((place.runs / "choice.json").read_text())["chosen"]))
        return tiles, -np.arange(20.0)

    monkeypatch.setattr(reach, "RECIPES", (constrained, lowest))
    monkeypatch.setattr(reach, "held_out", held_out)
    monkeypatch.setattr(reach, "order", order)
    monkeypatch.setattr(baselines, "of_tiles", lambda tiles: {"brightness": np.arange(20.0)})
    results = list(reach.cross_validate(where))
    assert results[1]["log_loss"] < results[0]["log_loss"]
    chosen = reach.write_choice(results, where)
    ordered = list(reach.order_continuum(results, chosen, where))
    assert asked == [("constrained", reach.SEEDS, "constrained"), ("lowest", reach.SEEDS[:1], "constrained")]
    assert [(result["nets"], result["continuum"]["value"]) for result, _ in ordered] == [(9, 1), (3, 1)]
    assert ordered[0][1]["score_minus_brightness"]["value"] == 2 and ordered[1][1] is None
    report = json.loads((where.runs / "reach.json").read_text())
    assert report["chosen"] == "constrained" and [row["nets"] for row in report["recipes"]] == [9, 3]
    assert set(report["beside"]) == {"score", "brightness", "score_minus_brightness"}
