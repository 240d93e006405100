"""Work spread over processes or threads: in order, bounded, and an end for every mishap."""

from __future__ import annotations

import os
import signal
import threading
import time

import cv2
import pytest

from selfie.common import parallel
from selfie.common.errors import SelfieError

MAPS = pytest.mark.parametrize("imap", [parallel.imap, parallel.threads])


def work(number: int) -> int:
    """Later items end earlier."""
    time.sleep(0.02 if number % 4 == 0 else 0)
    if number == 13:
        raise ValueError("thirteen")
    return 10 * number


def die(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def opencv_threads(number: int) -> int:
    return cv2.getNumThreads()


@MAPS
def test_results_come_in_order(imap):
    """Whatever takes longest."""
    assert list(imap(work, range(12), 2)) == [10 * number for number in range(12)]


@MAPS
def test_an_error_comes_in_its_turn(imap):
    """What was before it is there; it ends the iteration."""
    results = imap(work, range(40), 2)
    assert [next(results) for _ in range(13)] == [10 * number for number in range(13)]
    with pytest.raises(ValueError, match="thirteen"):
        next(results)


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_items_are_taken_no_further_ahead_than_asked(ahead):
    """So memory does not grow with the number of items."""
    taken = []
    results = parallel.threads(work, (taken.append(number) or number for number in range(100, 200)), 2, ahead)
    for number in range(20):
        assert next(results) == 10 * (100 + number)
        assert len(taken) == number + ahead
    results.close()


def test_a_killed_process_is_one_line_and_no_hang():
    """The kernel's out-of-memory killer, for one."""
    with pytest.raises(SelfieError, match="worker process was killed"):
        list(parallel.imap(die, range(100), 2))


def test_threads_end_with_the_iteration():
    """None is left when the iterator is closed."""
    before = threading.active_count()
    results = parallel.threads(lambda number: number, range(1000), 3)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_opencv_has_one_thread_where_work_is_done_and_what_it_had_elsewhere(jobs):
    """In worker processes, and in this process during each call only: not between two results, not afterwards."""
    with parallel.opencv_threads(3):
        for threads in parallel.imap(opencv_threads, range(4), jobs):
            assert threads == 1 and cv2.getNumThreads() == 3
        assert cv2.getNumThreads() == 3


def test_opencv_gets_its_threads_back_after_an_error():
    """From the block, and from work that fails in this process."""
    with parallel.opencv_threads(3):
        with pytest.raises(ValueError), parallel.opencv_threads(1):
            raise ValueError
        with pytest.raises(ValueError, match="thirteen"):
            list(parallel.imap(work, range(20), 1))
        assert cv2.getNumThreads() == 3
