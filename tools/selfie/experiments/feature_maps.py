"""Feature maps: what each filter of a net answers to one selfie, place by place, blob by blob."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from selfie.data import image
from selfie.experiments import filters, grids
from selfie.net import pycaffe
from selfie.runs.run_folder import Run

MAP_CELL = 80  # pixels of a map in the pictures


def compute(run: Run, picture: np.ndarray, gpu: int | None = None) -> dict[str, np.ndarray]:
    """Compute all maps of one size x size x 3 picture: blob -> filters x H x W, from the input to the last with places.

    Blobs that are a part of another one (concatenated) are left out.
    """
    message, net = pycaffe.read_net(run.deploy), run.net(gpu)
    parts = {bottom for layer in message.layer if layer.type == "Concat" for bottom in layer.bottom}
    sizes = filters.blob_sizes(net.net)
    names = dict.fromkeys(
        top for layer in message.layer for top in layer.top if top not in parts and sizes[top] > (1, 1)
    )
    return {name: maps[0] for name, maps in zip(names, net.forward(picture[None], tuple(names)))}


def draw(maps: dict[str, np.ndarray], folder: Path, shown: int = 12) -> list[Path]:
    """Write overview.png, the `shown` strongest maps of each blob, and all maps of each in a file of its own.

    maps: blob -> filters x H x W, as of `compute`. Returns the files.
    """
    rows = []
    files = [folder / "overview.png"]
    for number, (name, values) in enumerate(maps.items()):
        order = np.argsort(-values.max(axis=(1, 2)), kind="stable")[:shown]
        cells = [as_picture(each) for each in values]
        rows.append(
            grids.grid(
                [cells[index] for index in order] + [np.full_like(cells[0], 255)] * (shown - len(order)),
                shown,
                MAP_CELL,
            )
        )
        files.append(folder / f"{number:02d}_{name.replace('/', '_')}.png")
        image.write(files[-1], grids.grid(cells, int(np.ceil(len(cells) ** 0.5)), MAP_CELL))
    labels = [f"{name}: {len(values)} maps of {values.shape[1]} x {values.shape[2]}" for name, values in maps.items()]
    image.write(files[0], filters.sheet(rows, labels, columns=1, gap=6))
    return files


def as_picture(values: np.ndarray) -> np.ndarray:
    """Show an H x W map as a grey H x W x 3 uint8 picture: its least number black, its greatest white."""
    low, high = values.min(), values.max()
    gray = ((values - low) * (255 / (high - low or 1))).astype(np.uint8)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
