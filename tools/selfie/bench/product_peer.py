"""Work that takes all packages of the project, in a process of its own (`python -m selfie.bench.product_peer`).

So those of the GPU benchmark that take fewer run where some are missing.
"""

from __future__ import annotations

from pathlib import Path

from selfie.bench.workload import make_run, photograph
from selfie.common.worker import serve
from selfie.experiments import crop_space
from selfie.experiments.crops import Searcher


def run(folder: str, variant: str) -> dict:
    """Make a finished run with random weights, once; answers with its folder."""
    return {"folder": str(make_run(Path(folder), variant).folder)}


def crop(folder: str, variant: str, gpu: int | None) -> dict:
    """Search the best crop of a photograph densely; answers with its score, and the seconds of a second search."""
    made = make_run(Path(folder), variant)
    photo = photograph("astronaut.png")
    space = crop_space.space(photo, made.preprocessing.crop)
    searcher = Searcher(made, gpu)
    searcher.search(photo, space)  # algorithms are chosen, memory is there
    result = searcher.search(photo, space)
    return {"seconds": result.seconds, "score": float(result.best[0][1])}


if __name__ == "__main__":
    serve({"run": run, "crop": crop})
