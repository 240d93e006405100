"""Scores for files that a user names. Reading and forward passes overlap; what cannot be read is reported.

Pictures are read by one thread per core and go through the net in batches; on the CPU in as many copies of the net,
with one set of weights, as there are cores. Caffe's passes and OpenCV's decoder let go of Python's lock (patch 0040),
so all of it runs at the same time in one process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from selfie.common import parallel, stats
from selfie.common.errors import SelfieError
from selfie.data import image, manifest
from selfie.net import caffe_net
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

log = logging.getLogger(__name__)


@dataclass
class Scored:
    """One picture: score = probability of *good* in [0, 1], percentile among the run's validation selfies in
    [0, 100]; or an error that says why it has none."""

    path: str
    score: float | None = None
    percentile: float | None = None
    error: str | None = None


def expand(names: Iterable[str], listing: Iterable[str] = ()) -> list[str | Scored]:
    """Files as they are, folders as the pictures below them, sorted; a folder without any is a Scored with an error.

    The name '-' stands for the names in `listing`, one on a line. SelfieError if nothing is left to read.
    """
    found: list[str | Scored] = []
    for name in _with_listing(names, listing):
        if Path(name).is_dir():
            try:
                found += [str(Path(name, relative)) for relative in manifest.from_folder(name)["path"]]
            except SelfieError as error:
                found.append(Scored(name, error=str(error)))
        else:
            found.append(name)
    if not found:
        raise SelfieError("no pictures were named: the list on standard input is empty")
    return found


def _with_listing(names: Iterable[str], listing: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (line.rstrip("\n") for line in listing if line.strip()) if name == "-" else [name]


def score(
    run: Run, names: list[str | Scored], gpu: int | None = None, batch: int = evaluate.BATCH, jobs: int | None = None
) -> Iterator[Scored]:
    """A Scored for each of `names`, in their order; what is a Scored already, an error, is passed on.

    `jobs` (default: one per core) pictures are read at a time, ahead of the net, which on the CPU uses all cores.
    (Copies of the net with a core each were faster before oneDNN, and are slower since: VGG16 by a sixth.)
    SelfieError at once, before the first is asked for, if the run cannot score.
    """
    if run.info["lmdb"]["train"]["inputs"].get("preprocessing", 1) != image.PREPROCESSING:
        log.warning(
            "%s was trained by an older version that squashed large pictures otherwise: they score a little "
            "differently now",
            run.folder,
        )
    scorer = run.net(gpu)
    reference = evaluate.validation_scores(run, gpu)["score"].to_numpy()
    return _score(run, scorer, reference, names, batch, jobs)


def _score(
    run: Run, scorer, reference: np.ndarray, names: list[str | Scored], batch: int, jobs: int | None
) -> Iterator[Scored]:
    with (
        tqdm(total=len(names), unit="selfie", disable=True if len(names) < 2 * batch else None) as bar,
        closing(read_ahead(names, batch, jobs)) as read,
    ):
        for group in parallel.batches(read, batch):
            yield from _score_batch(scorer, group, run, reference)
            bar.update(len(group))


def _score_batch(scorer, group: list[tuple[str, np.ndarray | Scored]], run: Run, reference: np.ndarray) -> list[Scored]:
    readable = [picture for _, picture in group if isinstance(picture, np.ndarray)]
    scores = caffe_net.scores(scorer, np.stack(readable), run.variant) if readable else np.empty(0)
    told = iter(zip(scores, stats.percentiles(scores, reference)))
    return [
        Scored(name, *map(float, next(told))) if isinstance(picture, np.ndarray) else picture for name, picture in group
    ]


def read_ahead(
    names: list[str | Scored], batch: int, jobs: int | None = None
) -> Iterator[tuple[str, np.ndarray | Scored]]:
    """(name, 256 x 256 x 3 picture, or a Scored that says why there is none), read by `jobs` threads (default: one per
    core), two batches ahead of the net."""
    return parallel.threads(_read, names, jobs, 2 * max(batch, jobs or parallel.cores()))


def _read(name: str | Scored) -> tuple[str, np.ndarray | Scored]:
    if isinstance(name, Scored):
        return name.path, name
    try:
        return name, image.decode_square(image.load(name))
    except SelfieError as error:
        return name, Scored(name, error=str(error))
