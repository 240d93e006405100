"""The map: selfies laid out in the plane so that those whose features are alike lie close together (t-SNE).

features (N x D) --PCA--> N x 50 --t-SNE--> N x 2, in pictures and in a viewer for the browser. t-SNE is openTSNE's
(Policar et al. 2019; van der Maaten and Hinton 2008). A map is a folder:

    map.csv       name,x,y,score of each selfie
    model.npz     what places a new selfie: the PCA, and the selfies after it
    map.json      where it came from, settings, versions. Written last: without it the map is not finished
    exact.jpg     selfies at their exact places, the later over the earlier
    grid.jpg      40 x 40 cells, to each its own selfie so that all together are moved least; in the geometry of the
                  post's figures, with lines of one pixel
    reduced.jpg   the grid at the size of the post's published figure, 800 x 800 pixels
    viewer/       index.html: pan, zoom, click (see selfie.experiments.viewer)

The same features and seed give the same map, however many cores there are.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import locks, parallel, paths, shapes
from selfie.common.errors import DAMAGED_ZIP, SelfieError
from selfie.data import image, tables
from selfie.experiments import grids, pca, viewer
from selfie.experiments.features import Features, Files, export
from selfie.runs.run_folder import Run

CELLS = 40  # per side, as in the post's figure
REDUCED = 20  # pixels of a cell in the post's reduced figure
CANVAS = 2400  # side of the exact picture
BACKGROUND = 24  # dark grey: neither black-and-white selfies nor white borders are lost on it
ROUNDS, ROUNDS_PER_CALL = 750, 50  # openTSNE's defaults: 250 rounds of early exaggeration, 500 without


# --- t-SNE -----------------------------------------------------------------------------------------------------------


def tsne(reduced: np.ndarray, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """Lay N x K points out in the plane: N x 2 places. SelfieError for fewer than 3 x perplexity + 1 points."""
    _check_perplexity(len(reduced), perplexity)
    openTSNE = _openTSNE()
    with tqdm(total=ROUNDS, unit="round", desc="t-SNE", disable=None) as bar:
        # One thread: with more, sums are rounded in another order, and t-SNE makes another map of that.
        return np.asarray(
            openTSNE.TSNE(
                random_state=seed,
                n_jobs=1,
                callbacks_every_iters=ROUNDS_PER_CALL,
                callbacks=lambda *_: bar.update(ROUNDS_PER_CALL) and None,
            ).fit(reduced, affinities=_affinities(reduced, perplexity, seed)),
            np.float64,
        )


def _check_perplexity(count: int, perplexity: float) -> None:
    """Raise SelfieError unless so many selfies are enough for the perplexity."""
    if not perplexity >= 1:  # nor nan
        raise SelfieError(f"a perplexity of {perplexity:g} makes no sense: it is a number of neighbours, at least 1")
    if count < 3 * perplexity + 1:
        fitting = f"--perplexity {(count - 1) // 3}" if count > 3 else "more selfies"
        raise SelfieError(
            f"{count} selfies are too few for a perplexity of {perplexity:g}, which takes "
            f"{3 * perplexity + 1:g}: give {fitting}"
        )


def _affinities(reduced: np.ndarray, perplexity: float, seed: int) -> Any:
    """Compute openTSNE's affinities of N x K points; they do not depend on the number of cores."""
    cores = parallel.cores()
    with _openmp_threads(cores):
        return _openTSNE().affinity.PerplexityBasedNN(reduced, perplexity=perplexity, random_state=seed, n_jobs=cores)


@contextmanager
def _openmp_threads(count: int) -> Iterator[None]:
    """Tell scikit-learn the number of threads in the block, unless the user has set it.

    Otherwise joblib counts physical cores with lscpu and, where lscpu reports none (in many virtual machines), prints a
    warning and a traceback.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(count)
    try:
        yield
    finally:
        del os.environ[name]


def _openTSNE() -> ModuleType:
    """Import openTSNE, silenced below errors; SelfieError where it is not installed."""
    try:
        import openTSNE
        import openTSNE.affinity
    except ImportError as error:
        raise SelfieError(
            f"the map needs openTSNE ({error}): run '.venv/bin/python -m pip install -r requirements-map.txt'"
        ) from error
    logging.getLogger("openTSNE").setLevel(logging.ERROR)  # it tells its defaults as warnings
    return openTSNE


# --- the map ---------------------------------------------------------------------------------------------------------


def make(
    features: Features, out: str | os.PathLike, perplexity: float = 30, seed: int = 0, side: int | None = None
) -> dict:
    """Write a map into the folder `out`; returns map.json. `side`: cells per side of the grid, 40 or fewer if None."""
    out = Path(out)
    with locks.folder(out):  # first: where nothing can be written, the work need not begin
        return _make(features, out, perplexity, seed, side)


def _make(features: Features, out: Path, perplexity: float, seed: int, side: int | None) -> dict:
    """Write a map into a folder whose lock is held."""
    side = side or min(CELLS, int(len(features.matrix) ** 0.5))
    _check_perplexity(len(features.matrix), perplexity)
    _check_cells(len(features.matrix), side)
    principal = pca.fit(features.matrix, seed=seed)
    reduced = principal.project(features.matrix)
    places = tsne(reduced, perplexity, seed)
    table = pl.DataFrame(
        {"name": features.table["name"], "x": places[:, 0], "y": places[:, 1], "score": features.table["score"]}
    )
    info = {
        "run": features.meta["run"],
        "variant": features.meta["variant"],
        **features.meta["inputs"],
        "features": str(features.folder),
        "selfies": len(table),
        "perplexity": perplexity,
        "seed": seed,
        "cells": side,
        "components": len(principal.variances),
        "variance_kept": float(principal.variances.sum() / principal.total),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "openTSNE")},
    }
    (out / "map.json").unlink(missing_ok=True)
    paths.write_csv(out / "map.csv", table)
    with paths.atomic_write(out / "model.npz", "wb") as file:
        np.savez(file, mean=principal.mean, components=principal.components, reduced=reduced)
    pictures = tqdm(features.pictures(), total=len(table), unit="selfie", desc="pictures", disable=None)
    draw(
        out,
        places,
        viewer.write(
            out / "viewer", table, pictures, f"{len(table)} selfies as {paths.shown(Path(info['run']))} sees them"
        ),
        side,
    )
    paths.write_json(out / "map.json", info)
    return info


MAP = {"run": str, "caffemodel": str, "blob": str, "perplexity": float, "seed": int}  # what map.json must have


@dataclass(frozen=True)
class Map:
    """A finished map: map.json and the table of map.csv."""

    folder: Path
    info: dict
    table: pl.DataFrame

    @property
    def places(self) -> np.ndarray:
        """The selfies' places, N x 2."""
        return self.table.select("x", "y").to_numpy()

    def model(self) -> tuple[pca.Pca, np.ndarray]:
        """Read what places new selfies: the PCA, and the map's selfies after it. SelfieError if not of this map."""
        file = paths.existing_file(self.folder / "model.npz")
        try:
            with np.load(file) as model:
                mean, components, reduced = model["mean"], model["components"], model["reduced"]
            shapes_fit = components.shape == (*mean.shape, reduced.shape[-1]) and len(reduced) == self.table.height
            fine = shapes_fit and all(np.isfinite(array).all() for array in (mean, components, reduced))
        except PermissionError:
            raise
        # TypeError and AttributeError: an array alone; OSError: a place before the file's beginning
        except (OSError, TypeError, AttributeError, IndexError, *DAMAGED_ZIP):
            fine = False
        if not fine:
            raise SelfieError(f"{file} is damaged, or not of this map: make the map again")
        return pca.Pca(mean, components, np.empty(0), 0), reduced


MAP_COLUMNS = {"name": pl.String, "x": pl.Float64, "y": pl.Float64, "score": pl.Float64}


def load(folder: str | os.PathLike) -> Map:
    """Open the finished map in `folder`; SelfieError if there is none."""
    folder = Path(folder)
    if not (folder / "map.json").exists():
        raise SelfieError(f"{folder} holds no finished map: run tools/tsne_map.py --out {folder} without --place first")
    table = tables.read(folder / "map.csv", MAP_COLUMNS, "map")
    return Map(folder, shapes.read(folder / "map.json", MAP), table)


def place(finished: Map, run: Run, names: list[str], gpu: int | None = None) -> pl.DataFrame:
    """Place other pictures into a finished map, which stays as it is: columns name, x, y, score, neighbour.

    The neighbour is the selfie of the map whose features, after the PCA, are nearest. A name given twice counts once.

    SelfieError if the map was made with another net, or a picture cannot be read.
    """
    if paths.sha256(run.caffemodel) != finished.info["caffemodel"]:
        raise SelfieError(
            f"{finished.folder} was made with another net than {run.folder}'s: give the --run that it was "
            f"made with, or make it again"
        )
    with tempfile.TemporaryDirectory() as folder:
        features = export(run, Files(names, Path.cwd()), folder, finished.info["blob"], gpu)
        rejects = tables.read(features.folder / "rejects.csv", {"name": pl.String, "reason": pl.String})
        if len(rejects):
            raise SelfieError(f"cannot place {rejects['name'][0]}: {rejects['reason'][0]}")
        new, table = np.array(features.matrix), features.table
    principal, known = finished.model()
    new = principal.project(new)
    perplexity, seed = finished.info["perplexity"], finished.info["seed"]
    embedding = _openTSNE().TSNEEmbedding(
        finished.places, _affinities(known, perplexity, seed), random_state=seed, n_jobs=1
    )
    # At so low a perplexity a point goes where its very nearest are, as openTSNE's guide advises.
    with _openmp_threads(parallel.cores()):
        places = np.asarray(embedding.transform(new, perplexity=min(5, perplexity)))
    nearest = [int(((known - point) ** 2).sum(axis=1).argmin()) for point in new]
    return table.select(
        "name",
        pl.Series("x", places[:, 0]),
        pl.Series("y", places[:, 1]),
        "score",
        finished.table["name"].gather(nearest).alias("neighbour"),
    )


# --- pictures --------------------------------------------------------------------------------------------------------


def unit(places: np.ndarray) -> np.ndarray:
    """Stretch N x 2 places to fill the unit square; y points up in the map and down in pictures."""
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.where(high > low, high - low, 1) * [1, -1] + [0, 1]


def cells(places: np.ndarray, side: int) -> np.ndarray:
    """Assign a selfie, by its index, to each of side x side cells, row by row; none is used twice.

    It is the assignment with the smallest sum of squared distances between selfies and the centres of their cells.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    _check_cells(len(places), side)
    down, right = np.divmod(np.arange(side * side), side)
    centres = (np.stack([right, down], axis=1) + 0.5) / side
    return linear_sum_assignment(cdist(centres, unit(places), "sqeuclidean"))[1]


def draw(out: Path, places: np.ndarray, small: np.ndarray, side: int) -> None:
    """Write exact.jpg, grid.jpg and reduced.jpg of N places and N x 48 x 48 x 3 thumbnails."""
    image.write(out / "exact.jpg", exact(places, small))
    grid = grids.grid(list(small[cells(places, side)]), side, small.shape[1])
    image.write(out / "grid.jpg", grid)
    size = side * REDUCED
    image.write(out / "reduced.jpg", cv2.resize(grid, (size, size), interpolation=cv2.INTER_AREA))


def _check_cells(count: int, side: int) -> None:
    """Raise SelfieError unless so many selfies can fill the cells."""
    if side * side > count:
        raise SelfieError(f"{side} x {side} cells need {side * side} selfies, there are {count}: give smaller --cells")


def exact(places: np.ndarray, small: np.ndarray, canvas: int = CANVAS) -> np.ndarray:
    """Draw thumbnails at their exact places, the later over the earlier: canvas x canvas x 3."""
    size = small.shape[1]
    picture = np.full((canvas, canvas, 3), BACKGROUND, np.uint8)
    corners = (unit(places) * (canvas - size)).round().astype(int)
    for (left, top), thumbnail in zip(corners, small):
        picture[top : top + size, left : left + size] = thumbnail
    return picture
