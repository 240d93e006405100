"""Tiles reduced to one size, and resized and re-encoded identically, so that nothing but the selfie tells its figure.

Selfies of one figure were scaled and coded as JPEG together; that history must not tell a classifier where a tile comes
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import cv2
import numpy as np

from selfie.common.errors import SelfieError
from selfie.experiments.grids import WORST_CELL
from selfie.original.figures import Tile

SIZE = 32  # side in pixels to which tiles are reduced unless asked otherwise, see reduce
WORST_QUALITY = 75  # JPEG quality of all three grids, from their quantisation tables


def reduce(tiles: Sequence[Tile], size: int = SIZE) -> list[Tile]:
    """Reduce tiles of any figures to `size` x `size` pixels, all resized and re-encoded identically.

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
    alone does not mend it, however far; the same coding does as far as twelve twins show it, and 32 pixels, the
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
    encoded: list[Tile] = []
    for name, grouped in groupby(tiles, key=lambda tile: tile.figure):
        group = list(grouped)
        encoded += group if name == "worst" else _as_worst(group)
    return [replace(tile, bgr=_resize(tile.bgr, size, cv2.INTER_AREA)) for tile in encoded]


def _as_worst(group: list[Tile]) -> list[Tile]:
    """Render the tiles of one figure again as the worst figure was rendered."""
    pitch = WORST_CELL + 1
    rows, columns = (1 + max(getattr(tile, axis) for tile in group) for axis in ("row", "column"))
    sheet = np.zeros((rows * pitch, columns * pitch, 3), np.uint8)

    def cell(tile: Tile) -> np.ndarray:
        y, x = tile.row * pitch, tile.column * pitch
        return sheet[y : y + WORST_CELL, x : x + WORST_CELL]

    for tile in group:
        cell(tile)[:] = _resize(tile.bgr, WORST_CELL, cv2.INTER_CUBIC)
    sheet[:] = cv2.imdecode(encode_as_published(sheet), cv2.IMREAD_COLOR)
    return [replace(tile, bgr=cell(tile).copy()) for tile in group]


def encode_as_published(picture: np.ndarray) -> np.ndarray:
    """Encode a picture as JPEG with the quantisation tables and chroma subsampling of the published grids."""
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


def _resize(bgr: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    return bgr if bgr.shape[:2] == (size, size) else cv2.resize(bgr, (size, size), interpolation=interpolation)
