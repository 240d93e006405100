"""Figures for the tests of the original: synthetic ones of the published geometry, and the published ones."""

from __future__ import annotations

from typing import Callable

import cv2
import numpy as np
import pytest

from selfie.common import paths
from selfie.net import weights
from selfie.original import figures

LIGHTS = {  # mean brightness of the tile in a row: bright is good
    "best": lambda row: 170,
    "worst": lambda row: 80,
    "continuum": lambda row: 180 - 5 * row,
    "celebs": lambda row: 180 - 6 * row,
    "posneg_good": lambda row: 150,
    "posneg_bad": lambda row: 100,
}


def sheet(name: str) -> np.ndarray:
    """Draw a figure of the published geometry, every tile another, each as bright as LIGHTS says."""
    figure = figures.FIGURES[name]
    generator = np.random.default_rng(len(name))
    picture = np.zeros((*figure.shape, 3), np.uint8)
    side = figure.pitch - 1
    for row, column in np.ndindex(figure.rows, figure.columns):
        y, x = figure.origin[0] + row * figure.pitch, figure.origin[1] + column * figure.pitch
        noise = generator.normal(LIGHTS[name](row), 45, (6, 6, 3)).clip(0, 255).astype(np.uint8)
        picture[y : y + side, x : x + side] = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture


@pytest.fixture
def drawn(monkeypatch, tmp_path) -> Callable[..., None]:
    """add(names): put synthetic figures into the mirror, with their own checksums; no other figure is here."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("SELFIE_MIRROR", str(mirror))
    monkeypatch.setattr(paths, "DATA", tmp_path / "nothing")

    def add(*names: str) -> None:
        for name in names:
            if name == "posneg":
                picture, keys = np.maximum(sheet("posneg_good"), sheet("posneg_bad")), ["posneg_good", "posneg_bad"]
            else:
                picture, keys = sheet(name), [name]
            file = mirror / figures.FIGURES[keys[0]].file
            cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
            for key in keys:
                fields = {**figures.FIGURES[key].__dict__, "sha256": paths.sha256(file)}
                monkeypatch.setitem(figures.FIGURES, key, figures.Figure(**fields))

    return add


@pytest.fixture
def published(mirror) -> None:
    """Skips unless the published grids, the crops and the probe's weights are here."""
    for name in ("best", "worst", "continuum", "crops1", "crop2"):
        mirror(figures.FIGURES[name].file)
    mirror("compressed_SqueezeNet.net")
    weights.obtain("squeezenet")
