"""The published tiles as a labelled split: best and worst to train on, the continuum as its test."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import polars as pl
from tqdm import tqdm

from selfie.common import paths
from selfie.data import image, label_rule
from selfie.original import figures
from selfie.original.duplicates import near_duplicates
from selfie.original.figures import Tile
from selfie.original.reduction import SIZE, reduce

GRIDS = ("best", "worst", "continuum")  # the figures that are needed
TRAIN, TRAIN_AND_VAL = 0.70, 0.85  # shares of the tiles; the rest is test


class Labelled(NamedTuple):
    """The figures as a labelled split; paths are names of files, relative to the folder of the tiles.

    tiles       all tiles of the three figures, reduced
    labels      the columns of a label file: best 1, worst 0
    continuum   id, path, row, column and duplicate_of: the labelled tile that shows the same selfie, else null
    """

    tiles: list[Tile]
    labels: pl.DataFrame
    continuum: pl.DataFrame


def labelled(size: int = SIZE, seed: int = 0, whole_continuum: bool = False) -> Labelled:
    """Label the tiles of best and worst, split them, and mark their selfies in the continuum.

    size              side in pixels to which all tiles are reduced
    seed              of the split: a hash of each id, so it does not depend on order
    whole_continuum   take selfies of the continuum out of the labels instead of marking them, which leaves all 240 of
                      the continuum to test on
    Of near-duplicates among best and worst only the first stays. Errors as of figures.find and reduce.
    """
    cut = {name: figures.tiles(name) for name in GRIDS}
    known = cut["best"] + cut["worst"]
    twins = near_duplicates([tile.bgr for tile in cut["continuum"]], [tile.bgr for tile in known])
    dropped = {later for _, later in near_duplicates([tile.bgr for tile in known])}
    if whole_continuum:
        dropped |= {index for _, index in twins}
    duplicate_of = {index: known[other].id for index, other in twins if other not in dropped}
    return Labelled(
        reduce([*known, *cut["continuum"]], size),
        _label_table([tile for index, tile in enumerate(known) if index not in dropped], seed),
        _continuum_table(cut["continuum"], duplicate_of),
    )


def write(out: Path, labelled: Labelled) -> None:
    """Write tiles/, labels.csv, labels.report.json and continuum.csv into the folder `out`."""
    for tile in tqdm(labelled.tiles, "tiles", disable=None):
        image.write(out / "tiles" / tile.file, tile.bgr)
    paths.write_json(out / "labels.report.json", {"rule": label_rule.PUBLISHED})
    paths.write_csv(out / "labels.csv", labelled.labels)
    paths.write_csv(out / "continuum.csv", labelled.continuum)


def _label_table(tiles: list[Tile], seed: int) -> pl.DataFrame:
    """Make the label file of best and worst tiles, each figure split by itself."""
    split = {
        name: part
        for figure in ("best", "worst")
        for name, part in split_of([tile.id for tile in tiles if tile.figure == figure], seed).items()
    }
    return pl.DataFrame(
        {
            "id": [tile.id for tile in tiles],
            "path": [tile.file for tile in tiles],
            "label": [int(tile.figure == "best") for tile in tiles],
            "split": [split[tile.id] for tile in tiles],
            "user": [tile.id for tile in tiles],
            "audience": [0.0] * len(tiles),
            "group": [0] * len(tiles),
            "likes": [0] * len(tiles),
        }
    )


def _continuum_table(tiles: list[Tile], duplicate_of: dict[int, str]) -> pl.DataFrame:
    """List the continuum's tiles with the labelled ones that show the same selfies, by place."""
    return pl.DataFrame(
        {
            "id": [tile.id for tile in tiles],
            "path": [tile.file for tile in tiles],
            "row": [tile.row for tile in tiles],
            "column": [tile.column for tile in tiles],
            "duplicate_of": pl.Series([duplicate_of.get(place) for place in range(len(tiles))], dtype=pl.String),
        }
    )


def split_of(ids: list[str], seed: int) -> dict[str, str]:
    """Split ids into train, val and test (70, 15 and 15 %) in the order of a seeded hash: id -> split."""
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    train, val = (round(share * len(ordered)) for share in (TRAIN, TRAIN_AND_VAL))
    return {name: "train" if place < train else "val" if place < val else "test" for place, name in enumerate(ordered)}
