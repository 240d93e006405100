"""Scores for files that a user names. Reading and forward passes overlap; what cannot be read is reported.

One thread per core reads pictures ahead; they go through one net in batches. Decoding and Caffe's forward pass release
the GIL, so all of it runs at the same time in one process.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Union

import numpy as np
from tqdm import tqdm

from selfie.common import parallel, places, stats
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.common.work import Row, Work, Workers
from selfie.data import image
from selfie.data import listing as listings
from selfie.data.image import IMAGE_SIZE
from selfie.net.caffe_net import ScoringNet
from selfie.runs import evaluate, heads, net_work, run_folder
from selfie.runs.run_folder import Run

COLUMNS = {"score": float, "low": float, "high": float, "error": str}  # of a cluster's work

log = logging.getLogger(__name__)


@dataclass
class Scored:
    """One picture with its score, or with the reason why it has none.

    score        probability of *good* in [0, 1]
    percentile   percent of the run's validation selfies that it beats, in [0, 100]
    low, high    a 95 % interval of the score, where the run's net is an ensemble of heads (runs.heads); else None
    """

    path: str
    score: float | None = None
    percentile: float | None = None
    error: str | None = None
    low: float | None = None
    high: float | None = None

    def fields(self) -> dict[str, Any]:
        """Return what there is to say of it, for JSON; `low` and `high` only where there is an interval."""
        return {name: value for name, value in asdict(self).items() if name not in ("low", "high") or value is not None}


Entry = Union[str, Scored]  # a file's name, or the Scored of one already known to be unreadable
Picture = Union[np.ndarray, Scored]


def expand(names: Iterable[str], listing: Iterable[str] = ()) -> list[Entry]:
    """List files as they are, folders as the pictures below them, sorted; a folder without any becomes a Scored.

    The name '-' stands for the names in `listing`. What a folder holds beside pictures is counted and logged; a folder
    in it that cannot be opened is a Scored, too. SelfieError if nothing is left to read.
    """
    expanded: list[Entry] = []
    for name in _with_listing(names, listing):
        if _is_folder(name):
            expanded += _below(name)
        else:
            expanded.append(name)
    if not expanded:
        raise SelfieError("no pictures were named: the list on standard input is empty")
    return expanded


def _with_listing(names: Iterable[str], listing: Iterable[str]) -> Iterator[str]:
    """Put the names of `listing` in the place of '-'."""
    for name in names:
        yield from listing if name == "-" else [name]


def _is_folder(name: str) -> bool:
    return "\0" not in name and Path(name).is_dir()


def _below(folder: str) -> list[Entry]:
    """List the pictures in a folder and below; what cannot be read is a Scored, what is not looked at is logged."""
    found = listings.below(folder)
    entries: list[Entry] = [str(Path(folder, name)) for name in found.pictures]
    entries += [Scored(str(Path(folder, name)), error="this folder cannot be opened") for name in found.unreadable]
    left_out = found.left_out()
    if not entries:
        return [Scored(folder, error="no image file in it or below" + f" ({left_out})" * bool(left_out))]
    if left_out:
        log.info("%s: %s", shown(folder), left_out)
    return entries


def score(
    run: Run,
    names: list[Entry],
    gpu: int | None = None,
    batch: int = evaluate.BATCH,
    jobs: int | None = None,
    workers: Workers | None = None,
) -> Iterator[Scored]:
    """Score pictures in the order of `names`; entries that are Scored already (errors) stay as they are.

    `jobs` (default: one per core) pictures are read at a time, ahead of the net, which on the CPU uses all cores.
    With `workers` they do it, with the same scores.
    SelfieError at once, before the first is asked for, if the run cannot score.
    """
    check_preprocessing(run)
    net = run.net(gpu)
    reference = evaluate.validation_scores(run, gpu)["score"].to_numpy()
    if workers is not None:
        return _by_workers(workers, _work(run, net, names, batch), names, reference)
    return _score(net, reference, names, batch, jobs, heads.intervals(run))


def check_preprocessing(run: Run) -> None:
    """Warn if the run was trained by a version whose preprocessing was another one."""
    trained_with = run.info["lmdb"]["train"]["inputs"].get("preprocessing", 1)
    if difference := image.PREPROCESSINGS.get(trained_with):
        log.warning(
            "%s was trained by an older version: %s. Such pictures score differently now", run.folder, difference
        )


def _score(
    net: ScoringNet,
    reference: np.ndarray,
    names: list[Entry],
    batch: int,
    jobs: int | None,
    intervals: heads.Intervals | None,
) -> Iterator[Scored]:
    """Score in batches; percentiles refer to the `reference` scores."""
    with (
        tqdm(total=len(names), unit="selfie", disable=True if len(names) < 2 * batch else None) as bar,
        closing(read_ahead(names, batch, jobs, net.preprocessing.size)) as pictures,
    ):
        for group in parallel.batches(pictures, batch):
            yield from score_batch(net, group, reference, intervals)
            bar.update(len(group))


def score_batch(
    net: ScoringNet, group: list[tuple[str, Picture]], reference: np.ndarray, intervals: heads.Intervals | None = None
) -> list[Scored]:
    """Score the readable pictures of a batch, given as (name, picture); a Scored stays as it is.

    Percentiles refer to the `reference` scores, those of the run's validation selfies; `intervals`: of an ensemble's.
    """
    readable = [picture for _, picture in group if isinstance(picture, np.ndarray)]
    scores, bounds = np.empty(0, np.float32), [(None, None)] * len(readable)
    if readable and intervals is not None:
        scores, members = net.scores_and_members(np.stack(readable))
        bounds = list(zip(*(end.tolist() for end in intervals(members))))
    elif readable:
        scores = net.scores(np.stack(readable))
    values = iter(zip(scores.tolist(), stats.percentiles(scores, reference).tolist(), bounds))

    def scored(name: str) -> Scored:
        score, percentile, (low, high) = next(values)
        return Scored(name, score, percentile, None, low, high)

    return [picture if isinstance(picture, Scored) else scored(name) for name, picture in group]


# --- workers of a cluster --------------------------------------------------------------------------------------------


def _work(run: Run, net: ScoringNet, names: list[Entry], batch: int) -> Work:
    """Describe the work of scoring files: a row is a score, or the reason why there is none."""
    parameters = net_work.parameters(run, net.gpu, batch)
    probe = places.seen(name for name in names if isinstance(name, str))
    return Work("scores", rows_of, parameters, COLUMNS, "error", batch, net_work.memory_of(net, batch), probe)


def rows_of(parameters: dict, files: list[str | None]) -> Iterator[Row]:
    """In a worker: the COLUMNS of each file; None stands for one that is known to be unreadable."""
    net, intervals = net_work.net_of(parameters), heads.intervals(run_folder.load(parameters["run"]))
    entries = [Scored("", error="") if file is None else file for file in files]
    with closing(read_ahead(entries, parameters["batch"], size=net.preprocessing.size)) as pictures:
        for group in parallel.batches(pictures, parameters["batch"]):
            scored = score_batch(net, group, np.zeros(1), intervals)
            yield from ((one.score, one.low, one.high, one.error) for one in scored)


def _by_workers(workers: Workers, work: Work, names: list[Entry], reference: np.ndarray) -> Iterator[Scored]:
    """Score on a cluster; percentiles refer to the `reference` scores."""
    files = [places.absolute(name) if isinstance(name, str) else None for name in names]
    for group in parallel.batches(zip(names, workers(work, files)), 1024):
        scores = np.array([row[0] for _, row in group if row[0] is not None], np.float32)
        values = iter(zip(scores.tolist(), stats.percentiles(scores, reference).tolist()))
        for name, (score, low, high, error) in group:
            if isinstance(name, Scored):
                yield name
            else:
                yield Scored(name, error=error) if score is None else Scored(name, *next(values), None, low, high)


# --- pictures --------------------------------------------------------------------------------------------------------


def read_ahead(
    names: list[Entry], batch: int, jobs: int | None = None, size: int = IMAGE_SIZE
) -> Generator[tuple[str, Picture], None, None]:
    """Read pictures with `jobs` threads (default: one per core), two batches ahead of the net.

    Yields (name, size x size x 3 uint8 BGR), or (name, a Scored that says why there is no picture), in order.
    """
    return parallel.threads(partial(_read, size=size), names, jobs, 2 * max(batch, jobs or parallel.cores()))


def _read(name: Entry, size: int) -> tuple[str, Picture]:
    if isinstance(name, Scored):
        return name.path, name
    try:
        return name, image.decode_square(image.load(name), size)
    except SelfieError as error:
        return name, Scored(name, error=str(error))
