"""Pictures made of many selfies, in the geometry of the post's figures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie import database, paths, runs
from selfie.errors import SelfieError

CELL = 128  # pixels of a selfie in the post's grids; a line of one pixel follows on the right and below


def grid(pictures: list[np.ndarray], columns: int, cell: int = CELL) -> np.ndarray:
    """Square BGR pictures, row by row, each reduced to `cell` pixels and followed by a black line of one pixel."""
    rows = -(-len(pictures) // columns)
    canvas = np.zeros((rows * (cell + 1), columns * (cell + 1), 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (cell + 1) * (number // columns), (cell + 1) * (number % columns)
        canvas[top:top + cell, left:left + cell] = cv2.resize(picture, (cell, cell), interpolation=cv2.INTER_AREA)
    return canvas


def continuum_order(scored: pl.DataFrame, rows: int, columns: int) -> list[str]:
    """Keys of rows x columns selfies from best to worst, evenly spread over all of `scored` (columns key, score)."""
    if len(scored) < rows * columns:
        raise SelfieError(f"{rows} x {columns} cells need {rows * columns} selfies, but only {len(scored)} are scored: "
                          f"give smaller --rows and --columns")
    ordered = scored.sort(["score", "key"], descending=[True, False])["key"]
    places = np.linspace(0, len(ordered) - 1, rows * columns).round().astype(int)
    return ordered.gather(places).to_list()


def continuum(run: runs.Run, rows: int = 20, columns: int = 12, split: str = "test") -> np.ndarray:
    """The run's test selfies from best (top left) to worst (bottom right), as in the post's continuum figure.

    SelfieError if the split was not scored yet.
    """
    file = run.folder / f"{split}_scores.csv"
    if not file.exists():
        raise SelfieError(f"{run.folder} has no {file.name}: run 'make eval RUN={run.folder}'")
    keys = continuum_order(pl.read_csv(file), rows, columns)
    return grid(pictures_of(paths.ROOT / run.info["lmdb"]["path"] / split, keys), columns)


def pictures_of(folder: Path, keys: list[str]) -> list[np.ndarray]:
    """The pictures of a database's records with these keys, in the order of `keys`."""
    wanted = set(keys)
    with database.Database(folder) as records:
        found = {key: picture for key, picture, _ in records if key in wanted}
    return [found[key] for key in keys]
