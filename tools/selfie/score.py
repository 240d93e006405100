"""Scores for files that a user names: read ahead in threads, forward in batches, report what cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from selfie import evaluate, image, manifest, net, runs
from selfie.errors import SelfieError
from selfie.variants import Variant


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


def score(run: runs.Run, names: list[str | Scored], gpu: int | None = None,
          batch: int = evaluate.BATCH) -> Iterator[Scored]:
    """A Scored for each of `names`, in their order; what is a Scored already, an error, is passed on.

    SelfieError at once, before the first is asked for, if the run cannot score.
    """
    caffe_net = run.net(gpu)
    reference = evaluate.validation_scores(run, gpu)["score"].to_numpy()
    return _score(caffe_net, run.variant, reference, names, batch)


def _score(caffe_net, variant: Variant, reference: np.ndarray, names: list[str | Scored],
           batch: int) -> Iterator[Scored]:
    with tqdm(total=len(names), unit="selfie", disable=True if len(names) < 2 * batch else None) as bar:
        for group in evaluate.batches(read_ahead(names, batch), batch):
            readable = [picture for _, picture in group if isinstance(picture, np.ndarray)]
            scores = net.scores(caffe_net, np.stack(readable), variant) if readable else np.empty(0)
            told = iter(zip(scores, evaluate.percentiles(scores, reference)))
            for name, picture in group:
                if isinstance(picture, np.ndarray):
                    value, percentile = next(told)
                    yield Scored(name, float(value), float(percentile))
                else:
                    yield picture
            bar.update(len(group))


def read_ahead(names: list[str | Scored], batch: int) -> Iterator[tuple[str, np.ndarray | Scored]]:
    """(name, 256 x 256 x 3 picture, or a Scored that says why there is none), two batches ahead of the net."""
    with ThreadPoolExecutor(2) as pool:
        pending: deque = deque()
        for name in names:
            pending.append((name, pool.submit(_read, name)))
            if len(pending) > 2 * batch:
                name, future = pending.popleft()
                yield name, future.result()
        for name, future in pending:
            yield name, future.result()


def _read(name: str | Scored) -> np.ndarray | Scored:
    if isinstance(name, Scored):
        return name
    try:
        return image.square(image.read(name))
    except SelfieError as error:
        return Scored(name, error=str(error))
