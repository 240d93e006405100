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
from selfie.data.image import Preprocessing
from selfie.net.caffe_net import ScoringNet
from selfie.runs import evaluate, net_work, run_folder, trust
from selfie.runs.run_folder import Run
from selfie.runs.trust import Trust

JUDGED = ("low", "high", "unlike")  # fields of a Scored that only runs with heads have
COLUMNS = {"score": float, "low": float, "high": float, "unlike": float, "error": str}  # of a cluster's work

log = logging.getLogger(__name__)


@dataclass
class Scored:
    """One picture with its score, or with the reason why it has none.

    score        probability of *good* in [0, 1]
    percentile   percent of the run's validation selfies that it beats, in [0, 100]
    low, high    a 95 % interval of the score, where the run's net is an ensemble of heads (runs.trust); else None
    unlike       how unlike the selfies that it learned from the picture is, percent of them, in [0, 100]; likewise
    """

    path: str
    score: float | None = None
    percentile: float | None = None
    error: str | None = None
    low: float | None = None
    high: float | None = None
    unlike: float | None = None

    @property
    def unknown(self) -> bool:
        """Tell whether the picture is one that the net does not know, see runs.trust."""
        return self.unlike is not None and self.unlike >= trust.UNKNOWN

    def fields(self) -> dict[str, Any]:
        """Return what there is to say of it, for JSON; `low`, `high` and `unlike` only where they are known."""
        return {name: value for name, value in asdict(self).items() if name not in JUDGED or value is not None}


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
    return _score(net, reference, names, batch, jobs, trust.of(run))


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
    judge: Trust | None,
) -> Iterator[Scored]:
    """Score in batches; percentiles refer to the `reference` scores."""
    with (
        tqdm(total=len(names), unit="selfie", disable=True if len(names) < 2 * batch else None) as bar,
        closing(read_ahead(names, batch, net.preprocessing, jobs)) as pictures,
    ):
        for group in parallel.batches(pictures, batch):
            yield from score_batch(net, group, reference, judge)
            bar.update(len(group))


def score_batch(
    net: ScoringNet, group: list[tuple[str, Picture]], reference: np.ndarray, judge: Trust | None = None
) -> list[Scored]:
    """Score the readable pictures of a batch, given as (name, picture); a Scored stays as it is.

    Percentiles refer to the `reference` scores, those of the run's validation selfies; `judge`: of a run with heads.
    """
    readable = [picture for _, picture in group if isinstance(picture, np.ndarray)]
    scores, columns = np.empty(0, np.float32), {}
    if readable and judge is not None:
        judged = judge.judge(net, np.stack(readable))
        scores, columns = judged.scores, {"low": judged.low, "high": judged.high, "unlike": judged.unlike}
    elif readable:
        scores = net.scores(np.stack(readable))
    columns = {"score": scores, "percentile": stats.percentiles(scores, reference), **columns}
    known = {name: values.tolist() for name, values in columns.items() if values is not None}
    rows = (dict(zip(known, row)) for row in zip(*known.values()))
    return [picture if isinstance(picture, Scored) else Scored(name, **next(rows)) for name, picture in group]


# --- workers of a cluster --------------------------------------------------------------------------------------------


def _work(run: Run, net: ScoringNet, names: list[Entry], batch: int) -> Work:
    """Describe the work of scoring files: a row is a score, or the reason why there is none."""
    parameters = net_work.parameters(run, net.gpu, batch)
    probe = places.seen(name for name in names if isinstance(name, str))
    return Work("scores", rows_of, parameters, COLUMNS, "error", batch, net_work.memory_of(net, batch), probe)


def rows_of(parameters: dict, files: list[str | None]) -> Iterator[Row]:
    """In a worker: the COLUMNS of each file; None stands for one that is known to be unreadable."""
    net, judge = net_work.net_of(parameters), trust.of(run_folder.load(parameters["run"]))
    entries = [Scored("", error="") if file is None else file for file in files]
    with closing(read_ahead(entries, parameters["batch"], net.preprocessing)) as pictures:
        for group in parallel.batches(pictures, parameters["batch"]):
            scored = score_batch(net, group, np.zeros(1), judge)
            yield from (tuple(getattr(one, name) for name in COLUMNS) for one in scored)


def _by_workers(workers: Workers, work: Work, names: list[Entry], reference: np.ndarray) -> Iterator[Scored]:
    """Score on a cluster; percentiles refer to the `reference` scores."""
    files = [places.absolute(name) if isinstance(name, str) else None for name in names]
    for group in parallel.batches(zip(names, workers(work, files)), 1024):
        scores = np.array([row[0] for _, row in group if row[0] is not None], np.float32)
        values = iter(zip(scores.tolist(), stats.percentiles(scores, reference).tolist()))
        for name, row in group:
            found = dict(zip(COLUMNS, row))
            if isinstance(name, Scored):
                yield name
            elif found["score"] is None:
                yield Scored(name, error=found["error"])
            else:
                found["score"], percentile = next(values)
                yield Scored(name, percentile=percentile, **found)


# --- pictures --------------------------------------------------------------------------------------------------------


def read_ahead(
    names: list[Entry], batch: int, preprocessing: Preprocessing, jobs: int | None = None
) -> Generator[tuple[str, Picture], None, None]:
    """Read pictures with `jobs` threads (default: one per core), two batches ahead of the net.

    Yields (name, size x size x 3 uint8 BGR), or (name, a Scored that says why there is no picture), in order.
    """
    read = partial(_read, preprocessing=preprocessing)
    return parallel.threads(read, names, jobs, 2 * max(batch, jobs or parallel.cores()))


def _read(name: Entry, preprocessing: Preprocessing) -> tuple[str, Picture]:
    if isinstance(name, Scored):
        return name.path, name
    try:
        return name, preprocessing.decode(image.load(name))
    except SelfieError as error:
        return name, Scored(name, error=str(error))
