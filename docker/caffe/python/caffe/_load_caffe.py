"""Loads _caffe, whose libraries take a while, whatever signals come.

A handler that raises, as Python's own does for Ctrl-C, would raise inside the
making of _caffe's types, which has no way out but a crash. So signals are noted
until it is there, and come then.
"""

import signal
import threading


def _load():
    from . import _caffe  # noqa: F401


def _load_undisturbed():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    noted = []
    try:
        for number in handlers:
            signal.signal(number, lambda received, _: noted.append(received))
        _load()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in noted:
            signal.raise_signal(number)


# Python's handlers run in its main thread alone.
if threading.current_thread() is threading.main_thread():
    _load_undisturbed()
else:
    _load()
