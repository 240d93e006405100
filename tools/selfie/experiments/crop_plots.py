"""Pictures of a search for crops: where good crops are, and each picture beside its best crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from selfie.common import plots
from selfie.data import image
from selfie.experiments.crops import Result


def heat(result: Result) -> np.ndarray:
    """Correlate, over the crops that were looked at, holding a pixel with the score: height x width in [-1, 1].

    NaN where all crops hold the pixel, or none does.
    """
    sums = np.zeros((2, result.space.height + 1, result.space.width + 1))
    apart = np.asarray(result.scores, np.float64)
    apart = apart - apart.mean()
    for window, value in zip(result.windows, apart):
        x1, y1, x2, y2 = window.corners
        for x, y, sign in ((x1, y1, 1), (x2, y1, -1), (x1, y2, -1), (x2, y2, 1)):
            sums[:, y, x] += sign * value, sign
    total, number = sums.cumsum(1).cumsum(2)[:, :-1, :-1] / len(apart)
    share = np.round(number * len(apart)) / len(apart)
    scale = np.sqrt(share * (1 - share)) * apart.std()
    return np.divide(total, scale, out=np.full_like(total, np.nan), where=scale > 0)


def draw_heat(path: Path, bgr: np.ndarray, result: Result) -> None:
    """Draw the picture in grey under its heat map, with the best crop outlined."""
    values, gray = heat(result), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    limit = np.abs(np.nan_to_num(values)).max() or 1
    x1, y1, x2, y2 = result.best[0][0].corners
    with plots.figure(path, width=6.4, height=5.2 * bgr.shape[0] / bgr.shape[1] + 0.4) as axis:
        axis.imshow(gray, cmap="gray", vmin=0, vmax=255)
        drawn = axis.imshow(values, cmap="RdYlBu_r", alpha=0.55, vmin=-limit, vmax=limit)
        axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="black", linewidth=1.5)
        axis.set_title("red: crops with this part score higher (correlation); outlined: the best crop", fontsize=9)
        axis.axis("off")
        axis.figure.colorbar(drawn, ax=axis, shrink=0.8).solids.set_alpha(1)


def draw_before_after(path: Path, pairs: list[tuple[np.ndarray, Result]]) -> None:
    """Draw each picture and its best crops side by side, scores above, one row per picture, as in the post."""
    columns = 1 + max(len(result.best) for _, result in pairs)
    with plots.figure(path, len(pairs), columns, width=2.6 * columns, height=2.9 * len(pairs)) as axes:
        for row, (bgr, result) in zip(np.reshape(axes, (len(pairs), columns)), pairs):
            shown = [(bgr, result.original), *((window.cut(bgr), score) for window, score in result.best)]
            for axis in row:
                axis.axis("off")
            for axis, (picture, score) in zip(row, shown):
                axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
                axis.set_title(f"score {100 * score:.1f}", fontsize=10)


def write(folder: Path, stem: str, bgr: np.ndarray, result: Result) -> list[Path]:
    """Write a picture's best crops, <stem>_crop1.png and so on, and <stem>_heat.png; returns the crops' files."""
    files = [folder / f"{stem}_crop{number}.png" for number in range(1, len(result.best) + 1)]
    for file, (window, _) in zip(files, result.best):
        image.write(file, window.cut(bgr))
    draw_heat(folder / f"{stem}_heat.png", bgr, result)
    return files
