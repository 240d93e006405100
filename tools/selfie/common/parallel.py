"""Ordered, bounded maps: over processes for work in Python, over threads for work that lets go of Python's lock."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Callable, TypeVar

from selfie.common.errors import SelfieError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def imap(function: Callable[[T], R], items: Iterable[T], jobs: int | None = None) -> Iterator[R]:
    """Yield function(item) in the order of `items`, computed by `jobs` processes (default: all cores).

    At most 4 x jobs items are under way, so memory stays flat however long `items` is; give items that are worth a
    message each (batches, not single pixels). Processes are spawned, not forked: neither LMDB nor Caffe nor OpenCV's
    threads survive a fork. `function` must be importable. An error in a worker is raised here.
    """
    jobs = jobs or cores()
    if jobs == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_worker)
    try:
        yield from _ordered(pool, function, items, 4 * jobs)
    except BrokenProcessPool as error:
        raise SelfieError("a worker process was killed, most likely for memory: try fewer --jobs") from error


def threads(
    function: Callable[[T], R], items: Iterable[T], jobs: int | None = None, ahead: int | None = None
) -> Iterator[R]:
    """Like `imap` in `jobs` threads of this process: nothing is started anew and nothing copied, but only what lets go
    of Python's lock runs at the same time. Decoding, resizing, hashing and Caffe's passes do.

    `ahead` items (default 4 x jobs) are under way, or done and not asked for yet. `items` is read by the caller's
    thread. An error in a thread is raised here, when its turn has come.
    """
    jobs = jobs or cores()
    yield from _ordered(ThreadPoolExecutor(jobs), function, items, ahead or 4 * jobs)


def _ordered(pool: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    pending: deque[Future] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _worker() -> None:
    """In a new worker: leave Ctrl-C to the parent, and end when the parent was killed, as nobody else ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def batches(items, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
