"""The first import of every command: until `cli.run` listens, Ctrl-C ends it as it ends any program, without a word.

Python's own handler raises KeyboardInterrupt wherever it is, amid an import too, and the user sees a traceback. What
imports a command for its own ends, a worker process or a test, has loaded more than Python does by itself, and its
signals are its own business.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself imports much before it is there
import sys

if "threading" not in sys.modules and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
