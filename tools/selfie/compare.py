"""A run held against the published figures: the only data of the original that exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from selfie import evaluate, grids, image, paths, runs, score
from selfie.errors import SelfieError


def continuum(run: runs.Run, figures: Path, gpu: int | None = None) -> tuple[pl.DataFrame, dict]:
    """Score the published continuum's tiles and correlate with their published row.

    figures: what tools/cut_figures.py wrote. Tiles that the run may have been trained on (near-duplicates of labelled
    tiles) are left out. Returns columns id, path, row, score and brightness (mean gray value in [0, 1]) of the tiles
    used; and the result: Spearman's correlation of our score, and of mere brightness, with the published order, best
    first, each with a 95 % bootstrap interval (2000 resamples, seed 2015).
    """
    tiles = pl.read_csv(paths.existing(figures / "continuum.csv", "cut figures (run 'make figures-run')"))
    fresh = tiles.filter(pl.col("duplicate_of").fill_null("") == "")
    names = [str(figures / "tiles" / path) for path in fresh["path"]]
    scored = list(score.score(run, names, gpu))
    if broken := [one for one in scored if one.error]:
        raise SelfieError(f"{broken[0].path}: {broken[0].error}: cut the figures anew")
    fresh = fresh.select("id", "path", "row").with_columns(
        score=pl.Series([one.score for one in scored], dtype=pl.Float64),
        brightness=pl.Series([image.read(name).mean() / 255 for name in names], dtype=pl.Float64))
    published = -fresh["row"].to_numpy()
    return fresh, {"tiles": len(fresh), "left_out": len(tiles) - len(fresh),
                   **{f"spearman_{name}": _correlation(fresh[name].to_numpy(), published)
                      for name in ("score", "brightness")}}


def _correlation(values: np.ndarray, published: np.ndarray) -> dict:
    low, high = evaluate.spearman_interval(values, published)
    return {"value": evaluate.spearman(values, published), "low": low, "high": high}


def picture(scored: pl.DataFrame, figures: Path, columns: int = 12) -> np.ndarray:
    """The tiles in the published order on the left, in our net's order on the right, best on top."""
    def drawn(order: pl.DataFrame) -> np.ndarray:
        return grids.grid([image.read(figures / "tiles" / path) for path in order["path"]], columns, cell=48)
    left = drawn(scored.sort("row", "id"))
    right = drawn(scored.sort("score", descending=True))
    return np.concatenate([left, np.full((len(left), 24, 3), 255, np.uint8), right], 1)
