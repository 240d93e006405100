"""Temporary files beside what they will become, and the removal of those that killed processes left."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = ".tmp-"  # in the name, so that nobody else's file is taken for one of ours
OURS = re.compile(rf"\..*{re.escape(MARK)}[a-z0-9_]{{8}}(\.[^./]*)?", re.DOTALL)

_swept: set[str] = set()  # folders that this process has swept already


@contextmanager
def made(path: Path) -> Iterator[Path]:
    """Make an empty temporary file beside `path`, with its suffix; what is left of it in the end is removed.

    It is locked meanwhile: that tells it from one whose process was killed.
    """
    while True:
        stem = path.stem.encode(errors="surrogateescape")[:200].decode(errors="ignore")  # names have at most 255 bytes
        handle, name = tempfile.mkstemp(prefix=f".{stem}{MARK}", suffix=path.suffix, dir=path.parent)
        with suppress(OSError):  # without locks, nobody sweeps either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # not swept before it was locked
            break
        os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path, again: bool = False) -> None:
    """Remove the temporary files that killed processes left in a folder; each process looks once, unless `again`."""
    place = os.path.abspath(folder)
    if place in _swept and not again:
        return
    _swept.add(place)
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if OURS.fullmatch(entry.name)]
    for name in names:
        with suppress(OSError):  # another process's, or it is gone already
            _remove_unless_locked(os.path.join(folder, name))


def _remove_unless_locked(name: str) -> None:
    """Remove a temporary file; OSError while its process lives."""
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name)
    finally:
        os.close(handle)
