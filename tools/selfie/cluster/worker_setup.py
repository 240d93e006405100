"""What a worker of this machine does when it starts: leave Ctrl-C to the command, which ends it. Dask loads this."""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Ignore SIGINT: a terminal sends it to all processes of a command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
