"""The published figures: their files, the geometry of their grids, and the tiles cut out of them.

The post published no data, only pictures. Its grids are made of small selfies in a known order, so they are the one
test set of the original that exists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from selfie.common import paths
from selfie.common.download import Source, download
from selfie.common.errors import SelfieError
from selfie.experiments.grids import LAYOUTS

HOME = "https://raw.githubusercontent.com/karpathy/karpathy.github.io/master/assets/selfie/"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """One published picture, or one grid within it.

    file      name in the post's repository, assets/selfie/
    sha256    of that file
    shape     height and width of the whole picture, in pixels
    rows, columns, pitch   the grid: cells of pitch x pitch pixels, the last row and column of each a separator line;
              0 where the picture is no grid
    origin    y and x of the grid's first cell, in pixels
    """

    file: str
    sha256: str
    shape: tuple[int, int] = (0, 0)
    rows: int = 0
    columns: int = 0
    pitch: int = 0
    origin: tuple[int, int] = (0, 0)


def _grid(layout: str, file: str, sha256: str, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Figure:
    """Describe a figure with the rows and columns of a layout: cells of its size, each with its separator line."""
    grid = LAYOUTS[layout]
    return Figure(file, sha256, shape, grid.rows, grid.columns, grid.cell + 1, origin)


_POSNEG = "grid_render_posneg.jpg", "2bfd0c45e5de4290d4cdc58b6b56898e154257f1d1060640246f65d148e82929", (587, 1105)

FIGURES = {
    "best": _grid(
        "best",
        "grid_render_best.jpg",
        "ea58afff56a3f3e8a33d53eddd8c1db6288183ea41217ee37dfd3f8ba4f7bca2",
        (1290, 1290),
    ),
    "worst": _grid(
        "worst",
        "grid_render_worst.jpg",
        "469b44eef896e575bbc39d564e8be14d178ef4a93c5cd7084ea7464683cfd7e0",
        (490, 1470),
    ),
    "continuum": _grid(
        "continuum",
        "grid_render_continuum.jpg",
        "d20ae89de64c8a5db947b50b09f37dc56f2d7154b7ef487011691cb2dd2fbc90",
        (2580, 1548),
    ),
    "celebs": _grid(
        "celebs",
        "celebs_grid_render.jpg",
        "1b525e7595ad19d1470ea58dad5236d1a5f38263b1c268fd08ad4956de24cbae",
        (4112, 2570),
    ),
    "posneg_bad": _grid("posneg", *_POSNEG, origin=(68, 0)),
    "posneg_good": _grid("posneg", *_POSNEG, origin=(68, 585)),
    "crops1": Figure("crops1.jpg", "4544d6f09c44eba55333f3161298499a8d24dde9a6b9f21a44b51f2c7aa4cfeb"),
    "crop2": Figure("crop2.jpg", "fd3db937da6ba6839ff60da31f90eeb37a700087e4edb6c07d07e3c9fa2adad4"),
}


@dataclass(frozen=True)
class Tile:
    """A selfie of a grid: row and column count from 0, bgr is size x size x 3 uint8."""

    figure: str
    row: int
    column: int
    bgr: np.ndarray

    @property
    def id(self) -> str:
        """Return <figure>_RR_CC, its name in label files and databases."""
        return f"{self.figure}_{self.row:02d}_{self.column:02d}"

    @property
    def file(self) -> str:
        """Return the name of the tile's file when it is written."""
        return f"{self.id}.png"


class Missing(SelfieError):
    """A published figure that is not on this machine."""


def find(name: str) -> Path:
    """Return the file of a figure, found in SELFIE_MIRROR or data/figures/.

    Missing if it is in neither; SelfieError if its sha256 is another.
    """
    figure = _figure(name)
    path = paths.mirror(figure.file) or paths.DATA / "figures" / figure.file
    if not path.exists():
        folder = path.parent.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path.parent
        raise Missing(
            f"the published figure {figure.file} is not here: get it from the post's repository "
            f"(karpathy/karpathy.github.io on GitHub, assets/selfie/) into {folder}, or set "
            f"SELFIE_MIRROR to a folder that holds it"
        )
    if paths.sha256(path) != figure.sha256:
        raise SelfieError(f"{path} is not the published figure (its sha256 differs): remove it and get the original")
    return path


def fetch(name: str) -> Path:
    """Return the file of a figure, from the mirror, from data/figures/, or downloaded into it; errors as of `find`."""
    figure = _figure(name)
    path = paths.DATA / "figures" / figure.file
    if paths.mirror(figure.file) is None:
        download(Source(HOME + figure.file, f"sha256:{figure.sha256}"), path)
    return find(name)


def fetch_all() -> None:
    """Fetch every figure; warn of those that cannot be had now."""
    for file, name in {figure.file: name for name, figure in FIGURES.items()}.items():
        try:
            fetch(name)
        except SelfieError as error:
            log.warning("%s: %s", file, error)


def load(name: str) -> np.ndarray:
    """Read a figure as H x W x 3 uint8 BGR; errors as of `find`."""
    picture = cv2.imread(str(find(name)))
    assert picture is not None  # find has checked its sha256
    return picture


def tiles(name: str) -> list[Tile]:
    """Cut a grid figure into its tiles, in reading order, without the separator lines; errors as of `find`."""
    figure = _figure(name)
    if not figure.pitch:
        raise SelfieError(f"{figure.file} is no grid of tiles")
    return cut(name, figure, load(name))


def cut(name: str, figure: Figure, picture: np.ndarray) -> list[Tile]:
    """Cut `picture`, H x W x 3, along the grid of `figure`; `name` goes into the tiles.

    SelfieError if it has another size, or its separator lines are not where expected.
    """
    if picture.shape[:2] != figure.shape:
        raise SelfieError(
            f"{figure.file} is {picture.shape[1]} x {picture.shape[0]} pixels instead of "
            f"{figure.shape[1]} x {figure.shape[0]}"
        )
    if not lines_fit(figure, picture):
        raise SelfieError(f"{figure.file}: the separator lines are not every {figure.pitch} pixels")
    top, left = figure.origin
    pitch, side = figure.pitch, figure.pitch - 1
    corners = [
        (row, column, top + row * pitch, left + column * pitch)
        for row in range(figure.rows)
        for column in range(figure.columns)
    ]
    return [
        Tile(name, row, column, np.ascontiguousarray(picture[y : y + side, x : x + side]))
        for row, column, y, x in corners
    ]


def lines_fit(figure: Figure, picture: np.ndarray) -> bool:
    """Tell whether the grid's separator lines are where `figure` says: everywhere more even than any other line.

    JPEG smears the lines, and many selfies have a dark or white border, so no single pixel decides. A separator has one
    colour along the whole figure; a line of pixels anywhere else crosses many selfies. For each of the `pitch` possible
    offsets the deviation along its lines is measured: at the right one it is below a third of the median of the rest
    (published best, worst, continuum: 0.04, 0.08, 0.06 of it).
    """
    top, left = figure.origin
    grid = picture[top : top + figure.rows * figure.pitch, left : left + figure.columns * figure.pitch].mean(2)
    for lines in (grid, grid.T):
        deviation = np.array([lines[offset :: figure.pitch].std(1).mean() for offset in range(figure.pitch)])
        if deviation.argmin() != figure.pitch - 1 or deviation[-1] > np.median(deviation) / 3:
            return False
    return True


def _figure(name: str) -> Figure:
    if name not in FIGURES:
        raise SelfieError(f"unknown figure '{name}': choose one of {', '.join(FIGURES)}")
    return FIGURES[name]
