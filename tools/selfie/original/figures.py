"""The published figures as data: their geometry, tiles cut out of them, and the same selfie found in two of them.

The post published no data, only pictures. Its grids are made of small selfies in a known order, so they are the one
test set of the original that exists. Selfies of one figure were scaled and JPEG-coded together; that history must not
tell a classifier which figure a tile comes from: see `reduce`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie.common import paths
from selfie.common.download import Source, download
from selfie.common.errors import SelfieError
from selfie.experiments.grids import LAYOUTS, WORST_CELL

HOME = "https://raw.githubusercontent.com/karpathy/karpathy.github.io/master/assets/selfie/"

SIZE = 32  # side to which tiles are reduced, see reduce
WORST_QUALITY = 75  # JPEG quality of all three grids, from their quantisation tables
SAME = 0.93  # correlation from which two tiles show the same selfie, see near_duplicates

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """One published picture, or one grid within it.

    file      name in the post's repository, assets/selfie/
    sha256    of that file
    shape     height, width of the whole picture
    rows, columns, pitch   the grid: cells of pitch x pitch pixels, the last row and column of each a separator line;
              0 where the picture is no grid
    origin    y, x of the grid's first cell
    """

    file: str
    sha256: str
    shape: tuple[int, int] = (0, 0)
    rows: int = 0
    columns: int = 0
    pitch: int = 0
    origin: tuple[int, int] = (0, 0)


def _grid(name: str) -> tuple[int, int, int]:
    """Rows, columns and pitch of a figure: cells of its layout, each with its separator line."""
    layout = LAYOUTS[name]
    return layout.rows, layout.columns, layout.cell + 1


FIGURES = {
    "best": Figure(
        "grid_render_best.jpg",
        "ea58afff56a3f3e8a33d53eddd8c1db6288183ea41217ee37dfd3f8ba4f7bca2",
        (1290, 1290),
        *_grid("best"),
    ),
    "worst": Figure(
        "grid_render_worst.jpg",
        "469b44eef896e575bbc39d564e8be14d178ef4a93c5cd7084ea7464683cfd7e0",
        (490, 1470),
        *_grid("worst"),
    ),
    "continuum": Figure(
        "grid_render_continuum.jpg",
        "d20ae89de64c8a5db947b50b09f37dc56f2d7154b7ef487011691cb2dd2fbc90",
        (2580, 1548),
        *_grid("continuum"),
    ),
    "celebs": Figure(
        "celebs_grid_render.jpg",
        "1b525e7595ad19d1470ea58dad5236d1a5f38263b1c268fd08ad4956de24cbae",
        (4112, 2570),
        *_grid("celebs"),
    ),
    "posneg_bad": Figure(
        "grid_render_posneg.jpg",
        "2bfd0c45e5de4290d4cdc58b6b56898e154257f1d1060640246f65d148e82929",
        (587, 1105),
        *_grid("posneg"),
        origin=(68, 0),
    ),
    "posneg_good": Figure(
        "grid_render_posneg.jpg",
        "2bfd0c45e5de4290d4cdc58b6b56898e154257f1d1060640246f65d148e82929",
        (587, 1105),
        *_grid("posneg"),
        origin=(68, 585),
    ),
    "crops1": Figure("crops1.jpg", "4544d6f09c44eba55333f3161298499a8d24dde9a6b9f21a44b51f2c7aa4cfeb"),
    "crop2": Figure("crop2.jpg", "fd3db937da6ba6839ff60da31f90eeb37a700087e4edb6c07d07e3c9fa2adad4"),
}


@dataclass(frozen=True)
class Tile:
    """One selfie of a grid; row and column count from 0, bgr is size x size x 3 uint8."""

    figure: str
    row: int
    column: int
    bgr: np.ndarray

    @property
    def id(self) -> str:
        """<figure>_RR_CC."""
        return f"{self.figure}_{self.row:02d}_{self.column:02d}"

    @property
    def file(self) -> str:
        """Name of the tile's file when it is written."""
        return f"{self.id}.png"


class Missing(SelfieError):
    """A published figure that is not on this machine."""


def find(name: str) -> Path:
    """The checked file of a figure, in SELFIE_MIRROR or data/figures/. Missing; SelfieError if another file."""
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
    """The checked file of a figure, downloaded into data/figures/ where it is not yet, the mirror tried first."""
    figure = _figure(name)
    path = paths.DATA / "figures" / figure.file
    if paths.mirror(figure.file) is None:
        download(Source(HOME + figure.file, f"sha256:{figure.sha256}"), path)
    return find(name)


def fetch_all() -> None:
    """`fetch` every figure; a warning for those that cannot be had now."""
    for name in dict.fromkeys(figure.file for figure in FIGURES.values()):
        try:
            fetch(next(key for key, figure in FIGURES.items() if figure.file == name))
        except SelfieError as error:
            log.warning("%s: %s", name, error)


def load(name: str) -> np.ndarray:
    """A figure as H x W x 3 uint8 BGR; errors as in `find`."""
    return cv2.imread(str(find(name)))


def tiles(name: str) -> list[Tile]:
    """The tiles of a grid figure in reading order, without the separator lines."""
    figure = _figure(name)
    if not figure.pitch:
        raise SelfieError(f"{figure.file} is no grid of tiles")
    return cut(name, figure, load(name))


def cut(name: str, figure: Figure, picture: np.ndarray) -> list[Tile]:
    """`picture` along the grid of `figure`; SelfieError if it has another size, or the lines are not where expected."""
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
    """Whether the grid's separator lines are where `figure` says: everywhere more even than any other line.

    JPEG smears the lines, and many selfies have a dark or white border, so no single pixel tells. A separator has one
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


def reduce(some: Sequence[Tile], size: int = SIZE) -> list[Tile]:
    """Tiles of any figures brought to one size, `size` x `size`, and one history, so that only the selfie tells.

    Resolution is not the only thing that gives a figure away. The worst tiles were scaled to 48 pixels and *then*
    coded as JPEG, the others were coded at 128: at 48 pixels the former hold 8 x 8 blocks and ringing, the latter none.
    So every other figure is made again the way the worst one was: bicubic to 48 pixels, laid out at pitch 49, JPEG of
    the same quality; then all are reduced alike, by averaging.

    Measured with a logistic regression on what a selfie's meaning hardly touches (spectral bands as shares of the
    whole power, blockiness, the edges' sharpness), 10-fold cross-validated AUC. Twelve selfies are printed in both
    continuum and worst: a classifier made from the other best and worst tiles should not tell such twins apart, and
    the share of the highest frequencies should be the same in them (shift: mean difference, in deviations of worst).

        treatment        size   best against worst   continuum rows 14-18 against worst   twins told apart   shift
        averaging only    48          1.00                        0.96                        12 of 12
        averaging only    24          0.99                        0.93                        12 of 12
        all by averaging  48          0.96                        0.82                        10 of 12       -1.25
        bilinear          48          0.94                        0.58                         8 of 12       -0.55
        this function     48          0.95                        0.70                         4 of 12       -0.26
        this function     32          0.95                        0.61                         6 of 12       -0.06
        this function     24          0.94                        0.66                         2 of 12       -0.13

    (All by averaging, bilinear: coded again like this function's, but scaled to 48 pixels in that way.) So reducing
    alone does not mend it, however far; the same coding does as far as twelve twins can tell, and 32 pixels, the
    default, leave the least trace of the scaling, which is not known exactly. (The scaling was chosen among six by
    looking at these very twins, so the table flatters it somewhat.) What still parts best from worst is mostly the
    selfies' own sharpness, noise and colour: inside one figure, coded alike, the same statistics tell the continuum's
    upper half from its lower with AUC 0.7. With twelve twins, a small leak cannot be excluded.

    Give whole figures: tiles beside each other share JPEG blocks. SelfieError unless 8 <= size <= 48.
    """
    if not 8 <= size <= WORST_CELL:
        raise SelfieError(
            f"tiles can be reduced to 8 to {WORST_CELL} pixels, not {size}: the worst selfies were "
            f"published at {WORST_CELL}"
        )
    done = []
    for name, group in groupby(some, key=lambda tile: tile.figure):
        group = list(group)
        done += group if name == "worst" else _as_worst(group)
    return [replace(tile, bgr=_resize(tile.bgr, size, cv2.INTER_AREA)) for tile in done]


def _as_worst(group: list[Tile]) -> list[Tile]:
    """Tiles of one figure as if it had been rendered like the worst one."""
    pitch = WORST_CELL + 1
    rows, columns = (1 + max(getattr(tile, axis) for tile in group) for axis in ("row", "column"))
    sheet = np.zeros((rows * pitch, columns * pitch, 3), np.uint8)

    def cell(tile: Tile) -> np.ndarray:
        y, x = tile.row * pitch, tile.column * pitch
        return sheet[y : y + WORST_CELL, x : x + WORST_CELL]

    for tile in group:
        cell(tile)[:] = _resize(tile.bgr, WORST_CELL, cv2.INTER_CUBIC)
    sheet = cv2.imdecode(encode_as_published(sheet), cv2.IMREAD_COLOR)
    return [replace(tile, bgr=cell(tile).copy()) for tile in group]


def encode_as_published(picture: np.ndarray) -> np.ndarray:
    """JPEG bytes with the quantisation tables and chroma subsampling of the published grids."""
    return cv2.imencode(
        ".jpg",
        picture,
        [
            cv2.IMWRITE_JPEG_QUALITY,
            WORST_QUALITY,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        ],
    )[1]


def _resize(bgr: np.ndarray, size: int, how: int) -> np.ndarray:
    return bgr if bgr.shape[:2] == (size, size) else cv2.resize(bgr, (size, size), interpolation=how)


def near_duplicates(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray] | None = None, threshold: float = SAME
) -> list[tuple[int, int]]:
    """Pairs (i, j), sorted, for which first[i] and second[j] show the same selfie; pairs i < j within `first` if alone.

    Pictures are H x W x 3 uint8 BGR of any size. Compared are 32 x 32 gray thumbnails by normalised correlation, each
    whole picture of one side with the whole and with slightly smaller windows of the other, so that another size, JPEG
    quality, brightness, contrast, or a crop of 5 % does not hide a pair. Between the published best, worst and
    continuum, true pairs reach 0.99 and false ones at most 0.89; planted copies of 340 tiles (48 pixels, JPEG quality
    30, 5 % cut off at random) all reach 0.96.
    """
    alone = second is None
    second = first if alone else second
    if not len(first) or not len(second):
        return []
    windows = [(1.0, 0.0, 0.0), *((scale, y, x) for scale in (0.95, 0.9) for y in (0, 0.5, 1) for x in (0, 0.5, 1))]
    whole_first, whole_second = _thumbnails(first, *windows[0]), _thumbnails(second, *windows[0])
    best = whole_first @ whole_second.T
    for window in windows[1:]:
        np.maximum(best, whole_first @ _thumbnails(second, *window).T, out=best)
        np.maximum(best, _thumbnails(first, *window) @ whole_second.T, out=best)
    if alone:
        best[np.tril_indices(len(best))] = -1
    return [(int(i), int(j)) for i, j in np.argwhere(best >= threshold)]


def _thumbnails(pictures: Sequence[np.ndarray], scale: float, y: float, x: float) -> np.ndarray:
    """N x 1024 float32, each row of mean 0 and length 1: the window of relative side `scale`, pushed by y and x in
    [0, 1] from the upper left to the lower right corner, of each picture in gray."""
    side, thumb = 48, 32
    step = scale * side / thumb
    middle = [(1 - scale) * side * shift + (step - 1) / 2 for shift in (x, y)]
    window = np.float32([[step, 0, middle[0]], [0, step, middle[1]]])
    vectors = np.empty((len(pictures), thumb * thumb), np.float32)
    for vector, bgr in zip(vectors, pictures):
        gray = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (side, side), interpolation=cv2.INTER_AREA)
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1)
        vector[:] = cv2.warpAffine(
            gray, window, (thumb, thumb), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        ).ravel()
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def labelled(
    size: int = SIZE, seed: int = 0, whole_continuum: bool = False
) -> tuple[list[Tile], pl.DataFrame, pl.DataFrame]:
    """Best and worst as a labelled split, the continuum as its test: (all tiles, reduced; labels; continuum).

    Labels have the columns of a label file: best 1, worst 0; 70, 15 and 15 % of each fall into train, val and test by
    a seeded hash of the id, so the split does not depend on order. Of near-duplicates among them only the first stays.
    The continuum has id, path, row, column and duplicate_of: the labelled tile that shows the same selfie, else null.
    `whole_continuum` takes such tiles out of the labels instead, which leaves all 240 of the continuum to test on.
    Paths are names of files: relative to the folder of the tiles.
    """
    figures = {name: tiles(name) for name in ("best", "worst", "continuum")}
    known = figures["best"] + figures["worst"]
    twins = near_duplicates([tile.bgr for tile in figures["continuum"]], [tile.bgr for tile in known])
    dropped = {later for _, later in near_duplicates([tile.bgr for tile in known])}
    if whole_continuum:
        dropped |= {index for _, index in twins}
    kept = [tile for index, tile in enumerate(known) if index not in dropped]
    duplicate_of = {index: known[other].id for index, other in twins if other not in dropped}
    split = {
        name: part
        for figure in ("best", "worst")
        for name, part in _split([tile.id for tile in kept if tile.figure == figure], seed).items()
    }
    labels = pl.DataFrame(
        {
            "id": [tile.id for tile in kept],
            "path": [tile.file for tile in kept],
            "label": [int(tile.figure == "best") for tile in kept],
            "split": [split[tile.id] for tile in kept],
            "user": [tile.id for tile in kept],
            "audience": [0.0] * len(kept),
            "group": [0] * len(kept),
            "likes": [0] * len(kept),
        }
    )
    continuum = pl.DataFrame(
        [
            {
                "id": tile.id,
                "path": tile.file,
                "row": tile.row,
                "column": tile.column,
                "duplicate_of": duplicate_of.get(index),
            }
            for index, tile in enumerate(figures["continuum"])
        ]
    )
    return reduce([*known, *figures["continuum"]], size), labels, continuum


def _split(ids: list[str], seed: int) -> dict[str, str]:
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    train, val = round(0.70 * len(ordered)), round(0.85 * len(ordered))
    return {name: "train" if place < train else "val" if place < val else "test" for place, name in enumerate(ordered)}


def _figure(name: str) -> Figure:
    if name not in FIGURES:
        raise SelfieError(f"unknown figure '{name}': choose one of {', '.join(FIGURES)}")
    return FIGURES[name]
