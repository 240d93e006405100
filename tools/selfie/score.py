"""Scores for files that a user names: read ahead in threads, forward in batches, report what cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from selfie import evaluate, image, manifest, net, paths, runs
from selfie.errors import SelfieError


@dataclass
class Scored:
    """One picture: score = probability of *good* in [0, 1], percentile among the run's validation selfies in
    [0, 100]; or an error that says why it has none."""

    path: str
    score: float | None = None
    percentile: float | None = None
    error: str | None = None


def expand(names: Iterable[str]) -> list[str]:
    """Files as they are, folders as the pictures below them, sorted. SelfieError if a name does not exist."""
    found: list[str] = []
    for name in names:
        path = paths.existing(name, "file or folder")
        if path.is_dir():
            inside = manifest.from_folder(path)["path"].to_list()
            if not inside:
                raise SelfieError(f"{path} holds no pictures")
            found += [str(path / relative) for relative in inside]
        else:
            found.append(name)
    return found


def score(run: runs.Run, names: list[str], gpu: int | None = None, batch: int = evaluate.BATCH) -> Iterator[Scored]:
    """Yield a Scored for each file in `names`, in their order."""
    caffe_net = run.net(gpu)
    reference = evaluate.validation_scores(run, gpu)["score"].to_numpy()
    with tqdm(total=len(names), unit="selfie", disable=len(names) < 2 * batch) as bar:
        for group in evaluate.batches(_read_ahead(names, batch), batch):
            readable = [picture for _, picture in group if isinstance(picture, np.ndarray)]
            scores = net.scores(caffe_net, np.stack(readable), run.variant) if readable else np.empty(0)
            told = iter(zip(scores, evaluate.percentiles(scores, reference)))
            for name, picture in group:
                if isinstance(picture, np.ndarray):
                    value, percentile = next(told)
                    yield Scored(name, float(value), float(percentile))
                else:
                    yield Scored(name, error=picture)
            bar.update(len(group))


def _read_ahead(names: list[str], batch: int) -> Iterator[tuple[str, np.ndarray | str]]:
    """(name, 256 x 256 x 3 picture or the reason why there is none), two batches ahead of the net."""
    with ThreadPoolExecutor(2) as pool:
        pending: deque = deque()
        for name in names:
            pending.append((name, pool.submit(_read, name)))
            if len(pending) > 2 * batch:
                name, future = pending.popleft()
                yield name, future.result()
        for name, future in pending:
            yield name, future.result()


def _read(name: str) -> np.ndarray | str:
    try:
        return image.square(image.read(Path(name)))
    except SelfieError as error:
        return str(error)
