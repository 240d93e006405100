"""The processes of a command: how it is started, and which others are below it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfie.common import paths


@contextmanager
def started(
    arguments: list, output: int = subprocess.DEVNULL, errors: int = subprocess.PIPE, **more: object
) -> Iterator[subprocess.Popen]:
    """Start a command in a session of its own; what is left of it at the end of the block is killed.

    output, errors: descriptors for its standard output and stderr; `more`: options of its process. Ctrl-C reaches it,
    also where we were started in the background.
    """
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
        **more,
    )
    try:
        yield process
    finally:
        send([process.pid, *descendants(process.pid)], signal.SIGKILL)
        process.communicate()


def descendants(pid: int) -> list[int]:
    """List the processes below a process."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def lives(pid: int) -> bool:
    """Tell whether there is such a process, and more of it than its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def send(pids: list[int], number: int) -> None:
    """Send a signal to those processes that there still are."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
