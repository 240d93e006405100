"""Ordered, bounded maps: over processes for work in Python, over threads for work that releases the GIL.

They share the cores among pictures, so OpenCV shall not split one picture over several threads meanwhile. Its number of
threads is a setting of the whole process: a worker process sets it for good, the caller's process for the time of the
work only (`opencv_threads`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Callable, TypeVar

from selfie.common import interrupts
from selfie.common.errors import SelfieError
from selfie.common.late import cv2

CORES = "SELFIE_CORES"  # set in processes that share a machine

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Number of processors that this process may use, or that the environment variable CORES leaves to it."""
    if given := os.environ.get(CORES):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Let OpenCV use `count` threads inside the block; afterwards the number is what it was before.

    The number holds for the whole process, so two threads must not use this at the same time.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def imap(function: Callable[[T], R], items: Iterable[T], jobs: int | None = None) -> Iterator[R]:
    """Yield function(item) in the order of `items`, computed by `jobs` worker processes (default: one per core).

    At most 4 x jobs items are under way, so memory does not grow with the number of items; an item should be worth a
    message between processes (a batch of pictures). Workers are spawned, not forked: neither LMDB nor Caffe nor
    OpenCV's threads survive a fork. `function` must be importable. With one job it is called in this process instead.
    OpenCV has one thread in each worker, and here during each call. An exception in a worker is raised here;
    SelfieError if a worker was killed.
    """
    jobs = jobs or cores()
    if jobs == 1:
        for item in items:
            with opencv_threads(1):
                result = function(item)
            yield result
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_worker)
    try:
        yield from _ordered(pool, function, items, 4 * jobs, processes_start)
    except BrokenProcessPool as error:
        raise SelfieError("a worker process was killed, most likely for memory: try fewer --jobs") from error


def threads(
    function: Callable[[T], R], items: Iterable[T], jobs: int | None = None, ahead: int | None = None
) -> Generator[R, None, None]:
    """Like `imap`, in `jobs` threads of this process: no start-up and no copies, but only what releases the GIL runs in
    parallel. Decoding, resizing, hashing and Caffe's forward and backward passes release it.

    At most `ahead` items (default: 4 x jobs) are under way or done and not yet taken. `items` is consumed in the
    caller's thread. An exception in a thread is raised here, in the turn of its item.
    """
    jobs = jobs or cores()
    yield from _ordered(ThreadPoolExecutor(jobs), function, items, ahead or 4 * jobs)


def _ordered(
    pool: Executor,
    function: Callable[[T], R],
    items: Iterable[T],
    ahead: int,
    start: Callable[[], AbstractContextManager] = nullcontext,
) -> Iterator[R]:
    """Yield the results of a pool in order, with at most `ahead` items under way; shut it down in the end.

    start: a context in which the pool may start what works.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            with start():
                pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def alone(function: Callable[..., R], *arguments: object) -> R:
    """Return function(*arguments), called in a worker process of its own, because it may end that process.

    An exception of the function is raised here; BrokenProcessPool if the process ended. It ends with this call.
    """
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(its, function, arguments), daemon=True)
    with ours:
        with its, processes_start():
            process.start()
        try:
            result, error = ours.recv()
            process.join()  # its own end, in which it gives back what it has of the system
        except EOFError:
            raise BrokenProcessPool(f"{function.__name__} ended its process") from None
        finally:
            process.kill()
            process.join()
    if error is not None:
        raise error
    return result


def _alone(caller: Connection, function: Callable[..., R], arguments: tuple[object, ...]) -> None:
    from tqdm import tqdm

    _worker()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, told as leaked where a process is killed
    answer: tuple[Any, BaseException | None]
    try:
        answer = function(*arguments), None
    except Exception as error:
        answer = None, error
    caller.send(answer)


@contextmanager
def processes_start() -> Iterator[None]:
    """Inside the block multiprocessing may start processes: Ctrl-C is held back, and never reaches them."""
    resource_tracker.ensure_running()  # its own process: once it runs, no start of another lets Ctrl-C through
    with interrupts.held_back():
        yield


def _worker() -> None:
    """Initialise a worker process: one OpenCV thread; Ctrl-C is left to the parent; end when the parent was killed."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
