"""Pictures made of many selfies, in the geometry of the post's figures.

`scored_grid`, `examples_grid` and `files_grid` make the post's figures from a run. They work in two steps: choose what
is drawn, in the order in which it is drawn, then draw it. Scores are tables with the columns key, label and score (the
probability of *good* in [0, 1]), best first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.data import datum, image, lmdb_reader, manifest, tables
from selfie.data.lmdb_reader import Database
from selfie.runs import evaluate, score
from selfie.runs.run_folder import Run
from selfie.runs.score import Scored

log = logging.getLogger(__name__)

CELL = 128  # pixels of a selfie in most of the post's grids; a line of one pixel follows on the right and below
WORST_CELL = 48  # of a bad selfie, in the post and everywhere here: nobody should be recognised
LARGEST_SIDE = 65_500  # of a JPEG
HEADER, GAP = 68, 65  # of the post's figure of training examples: lines above its two grids, columns between them


@dataclass(frozen=True)
class Layout:
    """rows x columns selfies of `cell` pixels."""

    rows: int
    columns: int
    cell: int = CELL

    @property
    def count(self) -> int:
        """Number of selfies that fill it."""
        return self.rows * self.columns


LAYOUTS = {  # of the post's figures; selfie.original.figures cuts them along the same grids
    "continuum": Layout(20, 12),
    "best": Layout(10, 10),
    "worst": Layout(10, 30, WORST_CELL),
    "posneg": Layout(8, 8, 64),
    "celebs": Layout(16, 10, 256),
    "males": Layout(4, 7, 150),  # the post's is a screenshot: 28 selfies of about 150 pixels, laid out by hand
}

# --- which selfies ---------------------------------------------------------------------------------------------------


def scored(run: Run, split: str = "test") -> pl.DataFrame:
    """Read the run's scores of a split, best first; SelfieError if it was not scored yet."""
    file = run.folder / f"{split}_scores.csv"
    if not file.exists():
        raise SelfieError(f"{run.folder} has no {file.name}: run 'make eval RUN={run.folder}'")
    return tables.read(file, evaluate.SCORES).sort(["score", "key"], descending=[True, False])


def spread(ordered: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Choose as many rows of `ordered` as the layout holds, evenly spread from the first to the last."""
    _check_enough(ordered, layout)
    return ordered[np.linspace(0, len(ordered) - 1, layout.count).round().astype(int)]


def best(ordered: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Choose the best, best first; for cells above WORST_CELL only those that score at least one half."""
    _check_enough(ordered, layout)
    chosen = ordered.head(layout.count)
    return chosen if layout.cell <= WORST_CELL else chosen.filter(pl.col("score") >= 0.5)


def worst(ordered: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Choose the worst, worst first. SelfieError for cells above WORST_CELL: nobody is to be recognised."""
    if layout.cell > WORST_CELL:
        raise SelfieError(
            f"the worst selfies are drawn with cells of at most {WORST_CELL} pixels, not "
            f"{layout.cell}, so that nobody can be recognised"
        )
    _check_enough(ordered, layout)
    return ordered.reverse().head(layout.count)


def picked(ordered: pl.DataFrame, ids: set[str], layout: Layout) -> pl.DataFrame:
    """Choose the rows of `ordered` with one of these ids, best first, at most as many as the layout holds."""
    named = ordered.filter(lmdb_reader.id_column("key").is_in(list(ids)))
    if named.is_empty():
        raise SelfieError(f"none of the {len(ids)} selfies asked for is among the {len(ordered)} best scored")
    return named.head(layout.count)


def ids_with(
    path: str | os.PathLike, column: str, value: float, reading: manifest.Reading = manifest.AS_IT_IS
) -> set[str]:
    """Read the ids of the manifest's rows whose attribute `column` is the number `value`."""
    table = manifest.read(path, None, reading, ("id", column))
    ids = table.filter(pl.col(column).cast(pl.Float64, strict=False) == value)["id"].drop_nulls()
    if ids.is_empty():
        raise SelfieError(f"no row of {path} has {column} = {value:g}")
    return set(ids)


def ids_listed(path: str | os.PathLike) -> set[str]:
    """Read ids from a hand-made list, one on a line."""
    ids = {line.strip() for line in paths.read_text(path, "list").splitlines() if line.strip()}
    if not ids:
        raise SelfieError(f"{path} lists no id")
    return ids


def examples(folder: Path, layout: Layout, seed: int) -> tuple[list[str], list[str]]:
    """Draw the keys of (bad, good) selfies at random from the database in `folder`, layout.count of each."""
    keys: tuple[list[str], list[str]] = ([], [])
    for line in filter(None, paths.read_text(folder / "list.txt", "database").split("\n")):
        key, label, _ = line.split("\t", 2)
        keys[int(label)].append(key)
    if min(map(len, keys)) < layout.count:
        raise SelfieError(
            f"{folder} has {len(keys[0])} bad and {len(keys[1])} good selfies, the grids need "
            f"{layout.count} of each: give smaller --rows and --columns"
        )
    rng = np.random.default_rng(seed)
    bad, good = (rng.choice(some, layout.count, replace=False).tolist() for some in keys)
    return bad, good


def celebrities(run: Run, names: Sequence[str], gpu: int | None = None) -> list[Scored]:
    """Score files and folders of any pictures, best first; what cannot be read is logged and left out."""
    readable = []
    for each in score.score(run, score.expand(names), gpu):
        if each.score is None:
            log.warning("left out: %s: %s", shown(each.path), each.error)
        else:
            readable.append((-each.score, each.path, each))
    if not readable:
        raise SelfieError("none of these pictures can be read")
    return [each for *_, each in sorted(readable, key=lambda row: row[:2])]


def _check_enough(table: pl.DataFrame, layout: Layout) -> None:
    """Raise SelfieError unless there are enough scored selfies to fill the layout."""
    if len(table) < layout.count:
        raise SelfieError(
            f"{layout.rows} x {layout.columns} cells need {layout.count} selfies, but only {len(table)} "
            f"are scored: give smaller --rows and --columns"
        )


# --- pictures --------------------------------------------------------------------------------------------------------


def grid(pictures: list[np.ndarray], columns: int, cell: int = CELL, scores: Sequence[float] = ()) -> np.ndarray:
    """Lay BGR pictures out row by row, reduced to `cell` x `cell` pixels and followed by a black line of one pixel.

    With `scores`, each in [0, 1], they are printed on the pictures in percent.
    """
    rows = -(-len(pictures) // columns)
    if max(rows, columns) * (cell + 1) > LARGEST_SIDE:
        raise SelfieError(f"{rows} x {columns} cells of {cell} pixels are too large for one picture")
    canvas = np.zeros((rows * (cell + 1), columns * (cell + 1), 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (cell + 1) * (number // columns), (cell + 1) * (number % columns)
        canvas[top : top + cell, left : left + cell] = cv2.resize(picture, (cell, cell), interpolation=cv2.INTER_AREA)
        if len(scores):
            _print(canvas[top : top + cell, left : left + cell], scores[number])
    return canvas


def _print(tile: np.ndarray, score: float) -> None:
    """Print a score in percent, white on black, into the lower left corner of a tile, in place."""
    text = f"{100 * score:.1f}" if len(tile) >= 96 else f"{100 * score:.0f}"  # a tiny dot is not seen
    size = max(0.3, len(tile) / 320)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    tile[len(tile) - height - below - 2 :, : width + 4] = 0
    cv2.putText(tile, text, (2, len(tile) - below - 1), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def draw(folder: Path, chosen: pl.DataFrame, layout: Layout, with_scores: bool = False) -> np.ndarray:
    """Draw the grid of `chosen` (columns key, score) from the database in `folder`: H x W x 3 uint8 BGR."""
    pictures = pictures_of(folder, chosen["key"].to_list())
    return grid(pictures, layout.columns, layout.cell, chosen["score"].to_list() if with_scores else ())


def side_by_side(folder: Path, bad: list[str], good: list[str], layout: Layout) -> np.ndarray:
    """Draw bad training examples on the left, good ones on the right, on white, each below its title."""
    left, right = (grid(pictures_of(folder, keys), layout.columns, layout.cell) for keys in (bad, good))
    height, width = left.shape[:2]
    canvas = np.full((HEADER + height - 1, 2 * width + GAP, 3), 255, np.uint8)  # the post's lacks the last line
    for picture, start, title in ((left, 0, "bad"), (right, width + GAP, "good")):
        canvas[HEADER:, start : start + width] = picture[:-1]
        (wide, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 1, 2)
        place = (start + max(0, (width - wide) // 2), 44)
        cv2.putText(canvas, title, place, cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2, cv2.LINE_AA)
    return canvas


def gallery(some: Sequence[Scored], layout: Layout, with_scores: bool = False) -> np.ndarray:
    """Draw the grid of pictures from files, squashed to squares as the net sees them."""
    pictures = [image.square(image.read(each.path)) for each in some]
    return grid(pictures, layout.columns, layout.cell, [each.score or 0.0 for each in some] if with_scores else ())


def pictures_of(folder: Path, keys: list[str]) -> list[np.ndarray]:
    """Read the pictures of a database's records with these keys, in the order of `keys`; SelfieError if one is gone."""
    wanted = set(keys)
    with Database(folder) as records:
        pictures = {key: datum.decode(value)[0] for key, value in records.items() if key in wanted}
    if missing := wanted - pictures.keys():
        raise SelfieError(
            f"{folder} has no record {min(missing)}: it was rebuilt since it was scored, run 'make eval' again"
        )
    return [pictures[key] for key in keys]


# --- the post's figures, of a run ------------------------------------------------------------------------------------

Tiles = list[dict]  # what is drawn, in order: key or path, and score or label


def scored_grid(
    run: Run,
    kind: str,
    layout: Layout,
    split: str = "test",
    *,
    with_scores: bool = False,
    ids: set[str] | None = None,
    top: int = 2000,
) -> tuple[np.ndarray, Tiles]:
    """Draw scored selfies of a split; kind: continuum, best, worst, or males (those of `ids` among the `top` best).

    Returns the picture and its tiles, each with key and score.
    """
    ordered = scored(run, split)
    if kind == "males":
        chosen = picked(ordered.head(top), ids or set(), layout)
    else:
        chosen = {"continuum": spread, "best": best, "worst": worst}[kind](ordered, layout)
    if chosen.is_empty():  # of the best none scores one half: then all are as small as the worst
        layout = replace(layout, cell=WORST_CELL)
        chosen = best(ordered, layout)
    picture = draw(run.database(split), chosen, layout, with_scores)
    return picture, chosen.select("key", "score").to_dicts()


def examples_grid(run: Run, layout: Layout, seed: int) -> tuple[np.ndarray, Tiles]:
    """Draw bad and good training selfies of a run side by side; returns the picture and its tiles (key, label)."""
    folder = run.database("train")
    bad, good = examples(folder, layout, seed)
    tiles = [{"key": key, "label": label} for label, keys in enumerate((bad, good)) for key in keys]
    return side_by_side(folder, bad, good, layout), tiles


def files_grid(
    run: Run, names: Sequence[str], layout: Layout, with_scores: bool = False, gpu: int | None = None
) -> tuple[np.ndarray, Tiles]:
    """Score and draw files and folders of pictures, best first; returns the picture and its tiles (path, score)."""
    chosen = celebrities(run, names, gpu)[: layout.count]
    return gallery(chosen, layout, with_scores), [{"path": each.path, "score": each.score} for each in chosen]
