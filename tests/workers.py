"""Tests in several worker processes (pytest-xdist, as `make test` runs them): who compares times runs alone.

Part of the rules of rules.py. Without -n there is one process, and nothing here does anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = "selfie_shared"  # of a worker's input: the folder that all workers of a session share
DOOR, ROOM = "door", "room"  # files in it, that are locked
LOG = ".begun"  # and the ending of each worker's log in it: a line for each module, the time and its name

_folder = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """In the process that starts the workers: give each the folder that they share."""
    config = node.config
    if _folder not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="selfie-tests-")
        config.add_cleanup(folder.cleanup)
        config.stash[_folder] = folder.name
    node.workerinput[SHARED] = config.stash[_folder]


def _shared(config: pytest.Config) -> Path | None:
    """Return the folder that the workers share; None where there are none."""
    given = getattr(config, "workerinput", {}).get(SHARED)
    return Path(given) if given else None


@contextlib.contextmanager
def turn(folder: Path, alone: bool) -> Iterator[None]:
    """Hold the machine together with other tests, or alone.

    Whoever waits to be alone stands in the door, so that no other test goes in before. Locks end with their process.
    """
    with open(folder / DOOR, "w") as door, open(folder / ROOM, "w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # closing is not enough: a process that was forked meanwhile has it, too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Let no other test run beside one that is marked timing."""
    folder = _shared(item.config)
    with turn(folder, item.get_closest_marker("timing") is not None) if folder else contextlib.nullcontext():
        return (yield)


# --- who ran when ----------------------------------------------------------------------------------------------------


def note(config: pytest.Config, module: str) -> None:
    """Note that this worker begins a module of tests."""
    if folder := _shared(config):
        with open(folder / f"{config.workerinput['workerid']}{LOG}", "a") as log:
            log.write(f"{time.monotonic_ns()} {module}\n")


def beside(config: pytest.Config, since: int) -> list[str]:
    """Return the modules whose tests other workers have run since then (time.monotonic_ns)."""
    names: set[str] = set()
    for log in _shared(config).glob(f"*{LOG}") if _shared(config) else ():
        if log.stem != config.workerinput["workerid"]:
            begun = [line.split(" ", 1) for line in log.read_text().splitlines()]
            first = max((number for number, (at, _) in enumerate(begun) if int(at) <= since), default=0)
            names |= {module for _, module in begun[first:]}
    return sorted(names)
