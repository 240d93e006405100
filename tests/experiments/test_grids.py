"""Grids of selfies in the post's geometry."""

from __future__ import annotations

import json

import cv2
import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.experiments import grids
from selfie.original import figures
from selfie.runs import evaluate


def test_the_continuum_has_the_geometry_of_the_original():
    """20 rows of 12 cells: 2580 x 1548 pixels, as the published figure."""
    picture = grids.grid([np.full((256, 256, 3), 200, np.uint8)] * 240, 12)
    assert picture.shape[:2] == figures.FIGURES["continuum"].shape
    assert (picture[128::129] == 0).all() and (picture[:, 128::129] == 0).all(), "separator lines"


def test_a_grid_cut_by_the_posts_geometry_gives_the_pictures_back():
    """What we draw can be cut with the code that cuts the published figures."""
    pictures = [np.full((128, 128, 3), value, np.uint8) for value in range(10, 250)]
    tiles = figures.cut("continuum", figures.FIGURES["continuum"], grids.grid(pictures, 12))
    assert [tile.bgr[0, 0, 0] for tile in tiles] == list(range(10, 250))


def test_the_continuum_goes_from_best_to_worst():
    """First the best of all, last the worst, evenly spread between."""
    scored = pl.DataFrame({"key": [f"k{number:03}" for number in range(100)], "score": np.arange(100) / 100})
    keys = grids.spread(scored.reverse(), grids.Layout(5, 4))["key"].to_list()
    assert keys == sorted(keys, reverse=True) and keys[0] == "k099" and keys[-1] == "k000"
    with pytest.raises(SelfieError, match="only 100 are scored"):
        grids.spread(scored.reverse(), grids.Layout(20, 12))


def test_the_command_draws_bright_selfies_on_top(own_run, tmp_path):
    """The tiny run likes brightness: the top row of its continuum is brighter than the bottom row."""
    evaluate.evaluate(own_run)
    result = testlib.command(
        "tools/grids.py", "--run", own_run.folder, "--rows", 4, "--columns", 3, "--out", tmp_path / "c.png"
    )
    assert result.returncode == 0, result.stderr
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture.shape == (4 * 129, 3 * 129, 3)
    assert picture[:128].mean() > picture[-128:].mean() + 20
    testlib.assert_one_line_error(testlib.command("tools/grids.py", "--run", own_run.folder), "need 240 selfies")
    testlib.assert_one_line_error(
        testlib.command(
            "tools/grids.py", "--run", own_run.folder, "--rows", 4, "--columns", 3, "--out", tmp_path / "c.txt"
        ),
        "ends in .png or .jpg",
    )


def test_each_kind_has_the_geometry_of_its_original():
    """Rows, columns and pitch of best, worst, continuum, celebrities; and of the training examples' figure."""
    for kind in ("best", "worst", "continuum", "celebs"):
        layout, figure = grids.LAYOUTS[kind], figures.FIGURES[kind]
        picture = grids.grid([np.zeros((64, 64, 3), np.uint8)] * layout.count, layout.columns, layout.cell)
        assert picture.shape[:2] == figure.shape, kind


def test_examples_lie_side_by_side_as_in_the_original(tmp_path):
    """The figure can be cut with the paper's geometry: bad on the left, good on the right, drawn by the seed."""
    folder = testlib.databases(tmp_path, {"train": 140, "val": 2, "test": 2}) / "train"
    layout = grids.LAYOUTS["posneg"]
    bad, good = grids.examples(folder, layout, seed=1)
    assert grids.examples(folder, layout, seed=1) == (bad, good) != grids.examples(folder, layout, seed=2)
    picture = grids.side_by_side(folder, bad, good, layout)
    assert picture.shape[:2] == figures.FIGURES["posneg_bad"].shape == figures.FIGURES["posneg_good"].shape
    for name, darkest, lightest in (("posneg_bad", 70, 110), ("posneg_good", 140, 180)):
        top, left = figures.FIGURES[name].origin
        cells = picture[top : top + 519, left : left + 519].reshape(519, 519, 3)
        assert darkest < cells[:64, :64].mean() < lightest and darkest < cells[-64:, -65:-1].mean() < lightest
    with pytest.raises(SelfieError, match="70 bad and 70 good"):
        grids.examples(folder, grids.Layout(9, 9), seed=1)


def test_best_and_worst_and_those_with_an_attribute(tmp_path):
    """From either end; never the worst above 48 pixels; those whom a manifest or a list names, best first."""
    scored = pl.DataFrame(
        {
            "key": [f"{number:08d}_s{number}" for number in range(30)],
            "label": [0] * 30,
            "score": np.arange(30, 0, -1) / 30,
        }
    )
    small = grids.Layout(2, 2, 48)
    assert grids.best(scored, small)["key"].to_list() == scored["key"][:4].to_list()
    assert grids.worst(scored, small)["key"].to_list() == scored["key"].reverse()[:4].to_list()
    with pytest.raises(SelfieError, match="at most 48 pixels"):
        grids.worst(scored, grids.Layout(2, 2, 49))
    (tmp_path / "m.csv").write_text("id,is_female\ns9,-1\ns3,-1\ns4,1\ns5,0\nelsewhere,-1\n")
    (tmp_path / "list.txt").write_text("s20\n\ns7\n")
    named = grids.ids_with(tmp_path / "m.csv", "is_female", -1)
    assert grids.picked(scored, named, small)["key"].to_list() == ["00000003_s3", "00000009_s9"]
    assert len(grids.picked(scored, grids.ids_listed(tmp_path / "list.txt"), small)) == 2
    with pytest.raises(SelfieError, match="among the 3 best"):
        grids.picked(scored.head(3), named, small)
    with pytest.raises(SelfieError, match="no column 'male'"):
        grids.ids_with(tmp_path / "m.csv", "male", 1)


def test_celebrities_are_any_pictures_sorted_with_scores_printed(tiny_run, tiny_lmdb, tmp_path):
    """Bright ones first for the tiny run; the JSON tells the order; an unreadable file is named and left out."""
    folder = tmp_path / "celebs"
    for value in (40, 220, 130):
        image.write(folder / f"{value}.png", np.full((90, 60, 3), value, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    drawn = [
        testlib.command(
            "tools/grids.py",
            "celebs",
            folder,
            "--run",
            tiny_run.folder,
            "--columns",
            3,
            "--json",
            "--out",
            tmp_path / f"{len(more)}.png",
            *more,
        )
        for more in ([], ["--scores"])
    ]
    assert [result.returncode for result in drawn] == [0, 0] and "broken.jpg" in drawn[0].stderr
    tiles = json.loads(drawn[0].stdout)["tiles"]
    assert len(tiles) == 3 and [one["score"] for one in tiles] == sorted((one["score"] for one in tiles), reverse=True)
    plain, printed = (cv2.imread(str(tmp_path / f"{number}.png")) for number in (0, 1))
    assert plain.shape == printed.shape == (257, 3 * 257, 3) and (plain[:200] == printed[:200]).all()
    assert (plain[200:] != printed[200:]).any()


def test_wrong_use_of_the_command_is_told(tiny_run):
    """Exit code 2 for arguments that do not go together."""
    for wrong in (["best", "x.jpg"], ["celebs"], ["males"], ["posneg", "--scores"], ["best", "--rows", "0"]):
        assert testlib.command("tools/grids.py", *wrong, "--run", tiny_run.folder).returncode == 2, wrong
