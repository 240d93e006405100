"""Signals that processes must not get while they start: Ctrl-C is for the command, which ends its processes itself.

A terminal sends SIGINT to all processes of a command, those too that have not come to ignore it yet.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Hold Ctrl-C, and signals of further numbers, back inside the block; processes that start there never get them.

    (Which signals are blocked is inherited.)
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *numbers})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
