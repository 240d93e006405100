"""Recipes: their readouts, the rule, and a real training on best and worst tiles that no test sees."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import calibration, paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.net import caffemodel, variants, vgg16_forms
from selfie.original import baselines, compare, reach, recipes, reduction, tile_labels
from selfie.original.figures import Tile
from selfie.original.tiles import Tiles
from selfie.runs import readings, train
from selfie.runs.readings import VIEWS
from selfie.runs.run_folder import HELD_OUT


def test_the_most_constrained_recipe_within_one_standard_error_is_taken():
    """Not the lowest, and not the first that is worse than that."""
    results = [
        {"recipe": name, "log_loss": loss, "standard_error": error}
        for name, loss, error in (("a", 0.30, 0.2), ("b", 0.21, 0.05), ("c", 0.20, 0.02), ("d", 0.19, 0.02))
    ]
    assert reach.choose(results)["recipe"] == "b"


@pytest.mark.parametrize("net", recipes.RECIPES)
def test_recipes_are_in_the_order_that_the_rule_needs(net):
    """By decay, then by what the net sees of a tile; names, and readouts with their settings, are there once."""
    listed = recipes.of(net)
    order = [
        (-recipe.weight_decay, recipe.smooth == 0 or (recipe.shrink == 1 and net == "squeezenet")) for recipe in listed
    ]
    assert order == sorted(order)
    assert (
        len({recipe.name for recipe in listed}) == len({replace(recipe, name="") for recipe in listed}) == len(listed)
    )
    for recipe in listed:
        widest = recipes.widest(listed, recipe.readings)
        assert set(recipe.blobs) <= set(widest.blobs) and set(recipe.views) <= set(widest.views) <= set(VIEWS)
        assert variants.get(recipe.variant).readout and recipe.about
    with pytest.raises(SelfieError, match=net):
        recipes.of("demo")


def test_torchvisions_weights_come_with_their_own_mean():
    """They are other weights than those of `vgg16`; all else is the same."""
    ours, theirs = ([recipe.net() for recipe in recipes.of(net)] for net in ("vgg16", "vgg16_torchvision"))
    assert {(net.weights, net.mean) for net in theirs} == {("vgg16_torchvision", variants.TORCHVISION_MEAN)}
    assert [(net.readout, net.smooth) for net in ours] == [(net.readout, net.smooth) for net in theirs]
    assert {(net.weights, net.mean) for net in ours} == {("vgg16", variants.IMAGENET_MEAN)}


def test_a_fold_is_judged_by_a_calibration_that_does_not_know_it():
    """Log-odds stretched ninefold are judged as they were before; a fold that is turned round counts with its loss."""
    generator = np.random.default_rng(0)
    z, fold = generator.normal(0, 2, 900), np.arange(900) % 3
    labels = (generator.random(900) < calibration.probability(z)).astype(int)
    table = pl.DataFrame({"log_odds": z, "label": labels, "fold": fold})
    plain, stretched = (reach.judge(table.with_columns(pl.col("log_odds") * by)) for by in (1, 9))
    assert stretched["log_loss"] == pytest.approx(plain["log_loss"], abs=1e-3)
    assert plain["log_loss"] == pytest.approx(calibration.log_loss(z, labels).mean(), abs=0.01)
    noisy = table.with_columns(
        log_odds=pl.when(pl.col("fold") == 0).then(-0.5 * pl.col("log_odds")).otherwise("log_odds")
    )
    assert reach.judge(noisy)["log_loss"] > 1.2 * plain["log_loss"]


def test_weights_without_fully_connected_layers_serve_what_reads_no_such_layer(tmp_path, caplog):
    """Those of VGG16's convolutions alone leave out fc7's recipes, and say so; those of another net serve none."""
    file = convolutions(tmp_path / "notop.caffemodel", "mine")
    with caplog.at_level("INFO"):
        found = reach.usable("vgg16", str(file))
    assert found == [recipe for recipe in recipes.of("vgg16") if recipe.blobs == ("pool5",)]
    assert "fc7_sharp_10" in caplog.text
    with pytest.raises(SelfieError, match="has no weights for conv1"):
        reach.usable("squeezenet", str(file))


def convolutions(path: Path, net: str) -> Path:
    """Write a caffemodel with VGG16's convolutions, of one number each."""
    names = [layer.name for layer in vgg16_forms.layers() if layer.kind == "Convolution"]
    caffemodel.write(path, net, [(name, "Convolution", [np.zeros(1, np.float32)]) for name in names])
    return path


@pytest.mark.parametrize(
    ("net", "holding", "words"),
    [
        ("vgg16", "vgg16_torchvision", "give --net=vgg16_torchvision"),
        ("vgg16_torchvision", "vgg16", "give --net=vgg16"),
        ("vgg16_torchvision", "vgg16_notop", "give --net=vgg16"),
        ("vgg16", "vgg_face", "give other weights"),
    ],
)
def test_weights_that_go_with_another_mean_are_refused_with_what_to_type(tmp_path, net, holding, words):
    """Also under make, where --net is VARIANT."""
    arguments = ["tools/reach.py", "--net", net, "--weights", convolutions(tmp_path / "x.caffemodel", holding)]
    with pytest.raises(SelfieError, match=f"trained with the mean .*: {words}$"):
        reach.usable(net, str(arguments[-1]))
    if holding == "vgg16_torchvision":
        result = testlib.command(*arguments, env={**os.environ, "SELFIE_MAKE": "1"})
        testlib.assert_one_line_error(result, "give VARIANT=vgg16_torchvision")


@pytest.mark.parametrize(("net", "times"), [("squeezenet", 4), ("vgg16", 2), ("vgg16_torchvision", 2)])
def test_a_tile_is_read_once_for_each_way_in_which_the_net_sees_it(net, times):
    """Not once for each recipe: those that see it alike share what the frozen net makes of it, fc7's with pool5's."""
    listed = recipes.of(net)
    assert len({recipe.readings for recipe in listed}) == len({(one.shrink, one.smooth) for one in listed}) == times
    for recipe in listed:
        shared = recipes.widest(listed, recipe.readings)
        assert set(recipe.net().readout.parts) <= set(shared.parts)
        assert all((blob in ("fc7",)) == (pool == "") for blob, pool in shared.parts)


def test_the_run_reduces_photos_as_far_as_its_tiles_were():
    """The target that builds the tiles' database says the size to which they are reduced."""
    assert f"--detail {reduction.SIZE} " in (paths.ROOT / "Makefile").read_text()


def test_a_recipe_is_trained_on_tiles_of_no_test(published, tmp_path, monkeypatch):
    """SqueezeNet on the published tiles: held-out scores, none of a test tile or of the continuum; a whole order."""
    tile_labels.write(tmp_path, labelled := tile_labels.labelled(whole_continuum=True))
    few = labelled.labels.filter(pl.int_range(pl.len()) % 4 == 0)  # a quarter of the tiles, so that it is quick
    few.write_csv(tmp_path / "labels.csv")
    lmdb_writer.build(tmp_path / "labels.csv", tmp_path / "tiles", tmp_path / "lmdb", raw=True, jobs=1)
    where = replace(reach.place("squeezenet", tmp_path / "lmdb"), runs=tmp_path / "runs")
    listed = recipes.of("squeezenet")
    chosen_from = [replace(listed[0], views=("centre",)), replace(listed[1], views=("centre",))]
    read, numbers = [], readings._Computation._read
    monkeypatch.setattr(
        readings._Computation, "_read", lambda self, *batch: read.append(len(batch[1])) or numbers(self, *batch)
    )
    results = list(reach.cross_validate(chosen_from, where))
    assert all(result["auc"] > 0.9 and 0 < result["log_loss"] < 0.7 for result in results)
    scored = pl.read_csv(tmp_path / "runs" / chosen_from[0].name / HELD_OUT)
    ids = scored["key"].str.slice(9)
    assert sorted(ids) == sorted(few.filter(pl.col("split") != "test")["id"])
    assert sum(read) == len(ids), "the net read each tile once, for both recipes"
    monkeypatch.setattr(train, "train", None)  # what is trained already is not trained again
    run = reach.trained(chosen_from[0], where, tmp_path / "runs" / chosen_from[0].name, chosen_from)
    assert compare.trained_on(run, Tiles()) == set(ids) and run.readout.blobs == ("fire9/concat",)
    tiles, values = reach.order(run)
    assert len(tiles) == len(values) == 240 and 0 < values.min() < values.max() < 1
    stronger = replace(chosen_from[0], weight_decay=20)
    with pytest.raises(TypeError, match="not callable"):  # the same name with another decay is trained again
        reach.trained(stronger, where, tmp_path / "runs" / chosen_from[0].name, [stronger])


def test_the_choice_is_written_before_the_continuum_is_looked_at(monkeypatch, tmp_path):
    """The chosen recipe is ordered first, and beside the baselines."""
    listed = recipes.of("squeezenet")[:2]
    where, asked = reach.Place(tmp_path, tmp_path, tmp_path / "runs"), []
    tiles = [Tile("continuum", row, 0, np.zeros((8, 8, 3), np.uint8)) for row in range(20)]

    def order(run):
        asked.append((run, json.loads((where.runs / "choice.json").read_text())["chosen"]))
        return tiles, -np.arange(20.0)

    monkeypatch.setattr(reach, "trained", lambda recipe, *_: recipe.name)
    monkeypatch.setattr(reach, "order", order)
    monkeypatch.setattr(baselines, "of_tiles", lambda tiles: {"brightness": np.arange(20.0)})
    results = [
        {"recipe": recipe.name, "log_loss": loss, "standard_error": 0.1} for recipe, loss in zip(listed, (0.3, 0.1))
    ]
    chosen = reach.write_choice(results, where)
    ordered = list(reach.order_continuum(results, chosen, listed, where))
    assert asked == [(listed[1].name, chosen), (listed[0].name, chosen)] and chosen == listed[1].name
    assert ordered[0][1]["score_minus_brightness"]["value"] == 2 and ordered[1][1] is None
    report = json.loads((where.runs / "reach.json").read_text())
    assert report["chosen"] == chosen and [row["continuum"]["value"] for row in report["recipes"]] == [1, 1]
    assert set(report["beside"]) == {"score", "brightness", "score_minus_brightness"}
