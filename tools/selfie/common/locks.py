"""Locks on what is written: one process at a time works in a folder or on a file, and others are told which one does.

The kernel keeps the lock and frees it when its holder ends, however that happens; the lock file says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfie.common import times
from selfie.common.errors import SelfieError

LOCK = ".lock"  # in a locked folder
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems without locks answer

log = logging.getLogger(__name__)


@contextmanager
def folder(path: Path, patience: float = 0) -> Iterator[int]:
    """Lock a folder, made if need be, against other processes. Yields the lock's descriptor.

    A process that inherits the descriptor keeps the lock until it ends, too. SelfieError while another process holds
    the lock, for more than `patience` seconds, or where the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SelfieError(f"{path} cannot be made: a file is in its place") from error
    with _held(path / LOCK, path, patience) as handle:
        yield handle


@contextmanager
def file(path: Path) -> Iterator[int]:
    """Like `folder`, for one file: the lock is .<name>.lock beside it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SelfieError(f"cannot write {path}: {path.parent} is not a folder") from error
    with _held(path.with_name(f".{path.name}{LOCK}"), path) as handle:
        yield handle


def check_free(path: Path) -> None:
    """Raise SelfieError while another process holds the lock of the folder `path`; nothing is made."""
    if (path / LOCK).exists():
        with folder(path):
            pass


@contextmanager
def _held(lock: Path, thing: Path, patience: float = 0) -> Iterator[int]:
    """Hold the lock file `lock` for `thing`; it is gone afterwards."""
    deadline = time.monotonic() + patience
    told = False
    while (handle := _acquire(lock, thing, waits=time.monotonic() < deadline)) is None:
        if not told:
            log.info("another process is at work in %s: waiting up to %d seconds for it", thing, patience)
            told = True
        time.sleep(0.1)
    try:
        with suppress(OSError):  # the disk is full: the lock holds without a name, too
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(_holder()).encode(), 0)
        yield handle
    finally:
        lock.unlink(missing_ok=True)  # before it is free: whoever gets it later looks whether it is still there
        os.close(handle)


def _acquire(lock: Path, thing: Path, waits: bool) -> int | None:
    """Open and lock the file `lock`; return its descriptor.

    While another process holds it: None for a caller that waits, else SelfieError.
    """
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = os.pread(handle, 1 << 16, 0)
            os.close(handle)
            if waits:
                return None
            raise SelfieError(f"another process is at work in {thing}: {_who(text)}") from error
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(handle)
                raise
            log.warning("%s: this file system has no locks (%s); start nothing else there meanwhile", thing, error)
            return handle
        if _is_at(lock, handle):
            return handle
        os.close(handle)  # its last holder had just removed it


def _is_at(lock: Path, handle: int) -> bool:
    """Tell whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder() -> dict:
    """Describe this process, for those who find it at work."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": times.now(), "command": shlex.join(sys.argv)}


def _who(text: bytes) -> str:
    """Say who holds a lock, by the text of its file."""
    try:
        holder = json.loads(text)
        pid, host = int(holder["pid"]), str(holder["host"])
        about = f"{holder['command']}, since {times.date(holder['since'])}"
    except (ValueError, KeyError, TypeError):  # it is just being written
        return "wait for it to end"
    if host != socket.gethostname():
        return f"process {pid} on {host} ({about}); wait for it to end"
    if not Path("/proc", str(pid)).exists() and Path("/proc/self").exists():
        return f"process {pid} ({about}) was killed, but what it had started is still ending; wait a little"
    return f"process {pid} ({about}); wait for it to end"
