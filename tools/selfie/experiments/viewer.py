"""The map in a browser: a folder that works from file://, with no server and nothing loaded from elsewhere.

    index.html viewer.css viewer.js   as they stand in viewer_files
    data.js                           names, places, scores, ranks (a script, because file:// forbids reading data)
    small-0.jpg ...                   thumbnails of 48 pixels, 42 x 42 in a picture: few files, quickly drawn
    large-0.jpg ...                   of 128 pixels, 16 x 16 in a picture; loaded when one of them is clicked

Bad selfies, those below 50 %, are kept at 48 pixels throughout, as the post's worst are: nobody can be recognised.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie.common import paths
from selfie.experiments.grids import WORST_CELL

FILES = Path(__file__).with_name("viewer_files")
QUALITY = 85  # of the JPEGs: 10,000 selfies take some 50 MB


@dataclass(frozen=True)
class Sprites:
    """Thumbnails of `cell` pixels, columns x columns in a picture (about 2048 x 2048: what every browser can draw)."""

    name: str
    cell: int
    columns: int

    @property
    def count(self) -> int:
        """Thumbnails in a picture."""
        return self.columns**2

    def file(self, number: int) -> str:
        """Name of the picture with that number."""
        return f"{self.name}-{number}.jpg"


SMALL, LARGE = Sprites("small", WORST_CELL, 42), Sprites("large", 128, 16)
LARGE_SIZE = LARGE.cell, LARGE.cell


def write(out: Path, table: pl.DataFrame, pictures: Iterable[np.ndarray], title: str) -> np.ndarray:
    """Write the viewer of a map (columns name, x, y, score) and its pictures, in the table's order, into `out`.

    Returns the N x 48 x 48 x 3 thumbnails. Pictures of an earlier map in `out` are removed first.
    """
    for old in [*out.glob("small-*.jpg"), *out.glob("large-*.jpg")]:
        old.unlink()
    bad = (table["score"] < 0.5).to_list()
    small = np.empty((len(table), SMALL.cell, SMALL.cell, 3), np.uint8)
    group: list[np.ndarray] = []
    for row, picture in enumerate(pictures):
        small[row] = cv2.resize(picture, (SMALL.cell, SMALL.cell), interpolation=cv2.INTER_AREA)
        large = _enlarged(small[row]) if bad[row] else cv2.resize(picture, LARGE_SIZE, interpolation=cv2.INTER_AREA)
        group.append(large)
        if len(group) == LARGE.count or row == len(table) - 1:
            _write_sprites(out, LARGE, row // LARGE.count, group)
            group.clear()
    for number, start in enumerate(range(0, len(small), SMALL.count)):
        _write_sprites(out, SMALL, number, small[start : start + SMALL.count])
    _write_page(out, table, title)
    return small


def _enlarged(thumbnail: np.ndarray) -> np.ndarray:
    """Blow a thumbnail of a bad selfie up to the size of the large ones: as blurred as it was."""
    return cv2.resize(thumbnail, LARGE_SIZE, interpolation=cv2.INTER_LINEAR)


def _write_sprites(out: Path, sprites: Sprites, number: int, thumbnails: Iterable[np.ndarray]) -> None:
    """Write one picture full of thumbnails, row by row; black where there are fewer."""
    sheet = np.zeros((sprites.columns * sprites.cell,) * 2 + (3,), np.uint8)
    for place, thumbnail in enumerate(thumbnails):
        top, left = (sprites.cell * part for part in divmod(place, sprites.columns))
        sheet[top : top + sprites.cell, left : left + sprites.cell] = thumbnail
    with paths.atomic_write(out / sprites.file(number), "wb") as file:
        file.write(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


def _write_page(out: Path, table: pl.DataFrame, title: str) -> None:
    """Write data.js, and the page and its script and style as they are."""
    data = {
        "title": title,
        "names": table["name"].to_list(),
        "x": table["x"].round(4).to_list(),
        "y": table["y"].round(4).to_list(),
        "score": table["score"].to_list(),
        "rank": table["score"].rank("ordinal", descending=True).to_list(),
        **{
            sprites.name: {
                "cell": sprites.cell,
                "columns": sprites.columns,
                "files": [sprites.file(number) for number in range(-(-len(table) // sprites.count))],
            }
            for sprites in (SMALL, LARGE)
        },
    }
    with paths.atomic_write(out / "data.js") as file:
        file.write(f"const MAP = {json.dumps(data, separators=(',', ':'))};\n")
    for name in ("viewer.css", "viewer.js", "index.html"):
        shutil.copyfile(FILES / name, out / name)
