"""Grids of selfies in the post's geometry, and a run held against the published continuum."""

from __future__ import annotations

import cv2
import numpy as np
import polars as pl
import pytest
import testlib
from selfie import compare, evaluate, grids, image, paper
from selfie.errors import SelfieError


def test_the_continuum_has_the_geometry_of_the_original():
    """20 rows of 12 cells: 2580 x 1548 pixels, as the published figure."""
    picture = grids.grid([np.full((256, 256, 3), 200, np.uint8)] * 240, 12)
    assert picture.shape[:2] == paper.FIGURES["continuum"].shape
    assert (picture[128::129] == 0).all() and (picture[:, 128::129] == 0).all(), "separator lines"


def test_a_grid_cut_by_the_papers_geometry_gives_the_pictures_back():
    """What we draw can be cut with the code that cuts the published figures."""
    pictures = [np.full((128, 128, 3), value, np.uint8) for value in range(10, 250)]
    tiles = paper.cut("continuum", paper.FIGURES["continuum"], grids.grid(pictures, 12))
    assert [tile.bgr[0, 0, 0] for tile in tiles] == list(range(10, 250))


def test_the_continuum_goes_from_best_to_worst():
    """First the best of all, last the worst, evenly spread between; the order of the scores' rows is irrelevant."""
    scored = pl.DataFrame({"key": [f"k{number:03}" for number in range(100)], "score": np.arange(100) / 100})
    keys = grids.continuum_order(scored, 5, 4)
    assert keys == sorted(keys, reverse=True) and keys[0] == "k099" and keys[-1] == "k000"
    assert grids.continuum_order(scored.sample(fraction=1, shuffle=True, seed=1), 5, 4) == keys
    with pytest.raises(SelfieError, match="only 100 are scored"):
        grids.continuum_order(scored, 20, 12)


def test_the_command_draws_bright_selfies_on_top(tiny_run, tmp_path):
    """The tiny run likes brightness: the top row of its continuum is brighter than the bottom row."""
    evaluate.evaluate(tiny_run)
    result = testlib.command("tools/grids.py", "--run", tiny_run.folder, "--rows", 4, "--columns", 3,
                             "--out", tmp_path / "c.png")
    assert result.returncode == 0, result.stderr
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture.shape == (4 * 129, 3 * 129, 3)
    assert picture[:128].mean() > picture[-128:].mean() + 20
    testlib.assert_one_line_error(testlib.command("tools/grids.py", "--run", tiny_run.folder), "need 240 selfies")
    testlib.assert_one_line_error(testlib.command("tools/grids.py", "--run", tiny_run.folder, "--rows", 4, "--columns",
                                                  3, "--out", tmp_path / "c.txt"), "ends in .png or .jpg")


def test_comparison_with_a_continuum_that_is_ordered_by_light(tiny_run, tmp_path):
    """A net that likes brightness agrees with a continuum from bright to dark; marked duplicates are left out."""
    rows = []
    for row in range(12):
        value = 230 - 17 * row
        image.write(tmp_path / "tiles" / f"c{row}.png",
                    np.random.default_rng(row).normal(value, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8))
        rows.append({"id": f"c{row}", "path": f"c{row}.png", "row": row, "column": 0,
                     "duplicate_of": "best_00_00" if row == 3 else None})
    pl.DataFrame(rows).write_csv(tmp_path / "continuum.csv")
    scored, result = compare.continuum(tiny_run, tmp_path)
    assert (result["tiles"], result["left_out"]) == (11, 1) and "c3" not in scored["id"]
    assert result["spearman_brightness"]["value"] > 0.95 and result["spearman_score"]["value"] > 0.6
    assert result["spearman_score"]["low"] <= result["spearman_score"]["value"] <= result["spearman_score"]["high"]
    assert compare.picture(scored, tmp_path).ndim == 3


def test_comparison_without_cut_figures_is_one_line(tiny_run, tmp_path):
    """It names the command that cuts them."""
    testlib.assert_one_line_error(
        testlib.command("tools/compare_paper.py", "--run", tiny_run.folder, "--figures", tmp_path), "make figures-run")
