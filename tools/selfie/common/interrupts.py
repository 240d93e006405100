"""Signals that processes must not get while they start: Ctrl-C is for the command, which ends its processes itself.

A terminal sends SIGINT to all processes of a command, those too that have not come to ignore it yet.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Hold Ctrl-C, and signals of further numbers, back inside the block; processes that start there never get them.

    Which signals are blocked is inherited, but holds for one thread: another one, of OpenBLAS say, takes the signal,
    and Python would raise KeyboardInterrupt here all the same. So they are noted instead, and come after the block.
    """
    held = {signal.SIGINT, *numbers}
    noted: set[int] = set()
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: handler for number in held if callable(handler := signal.getsignal(number))}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    for number in handlers:
        signal.signal(number, lambda received, _: noted.add(received))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for received in noted:
            signal.raise_signal(received)
