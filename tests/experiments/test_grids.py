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

# Heights and widths of the published pictures, in pixels; those that a mirror holds are looked at themselves.
PUBLISHED = {
    "best": ("grid_render_best.jpg", (1290, 1290)),
    "worst": ("grid_render_worst.jpg", (490, 1470)),
    "continuum": ("grid_render_continuum.jpg", (2580, 1548)),
    "celebs": ("celebs_grid_render.jpg", (4112, 2570)),
}


def white(kind: str) -> np.ndarray:
    """A grid of white pictures in the layout of a kind."""
    layout = grids.LAYOUTS[kind]
    return grids.grid([np.full((64, 64, 3), 255, np.uint8)] * layout.count, layout.columns, layout.cell)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_each_kind_has_the_size_of_the_published_picture(kind):
    """And as many selfies as the post says: the best 100, the worst 300, 20 rows of 12, 160 celebrities."""
    assert white(kind).shape == (*PUBLISHED[kind][1], 3)
    assert grids.LAYOUTS[kind].count == {"best": 100, "worst": 300, "continuum": 240, "celebs": 160}[kind]


@pytest.mark.parametrize("kind", ["best", "worst", "continuum"])
def test_lines_are_where_the_published_picture_has_its(kind, mirror):
    """Black where the post's lines are, in every cell's last row and column, and nowhere else."""
    published = cv2.imread(str(mirror(PUBLISHED[kind][0])))
    ours = white(kind)[..., 0] == 0
    assert published.shape[:2] == ours.shape
    for axis in (0, 1):  # of the post's lines JPEG leaves at most 24 on average, of its darkest selfies at least 30
        np.testing.assert_array_equal(published.max(axis=2).mean(axis=axis) < 27, ours.all(axis=axis))


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


def test_examples_lie_side_by_side_as_in_the_original(tmp_path):
    """1105 x 587 pixels, as published, and cut as the published one is: bad left, good right, drawn by the seed."""
    folder = testlib.databases(tmp_path, {"train": 140, "val": 2, "test": 2}) / "train"
    layout = grids.LAYOUTS["posneg"]
    bad, good = grids.examples(folder, layout, seed=1)
    assert grids.examples(folder, layout, seed=1) == (bad, good) != grids.examples(folder, layout, seed=2)
    picture = grids.side_by_side(folder, bad, good, layout)
    assert picture.shape == (587, 1105, 3)
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
    assert len(grids.best(scored, grids.Layout(5, 4, 48))) == 20
    assert grids.best(scored, grids.Layout(5, 4, 49))["score"].min() >= 0.5, "those below are not drawn large"
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
