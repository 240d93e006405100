"""The look of every plot, and the one way to make and save one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfie.common import paths

GOOD = "#2a7f9e"
BAD = "#c8553d"


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, width: float = 8, height: float = 4.5) -> Iterator[Any]:
    """Yield the axes of a new figure, one or an array of them, then save it atomically as `path`.

    width, height: of the whole figure, inches. matplotlib is imported here, as it is slow to load.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained")
    try:
        for axis in drawing.axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.3)
        yield axes
        with paths.atomic_path(path) as temporary:
            drawing.savefig(temporary, dpi=120)
    finally:
        pyplot.close(drawing)
