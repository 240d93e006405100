"""The program caffe as `python -m caffe train -solver ...`: layers written in Python find their Python there."""

import os
import signal
import sys

from . import _caffe


def main():
    """Run the tool with this process's arguments, and return its exit status."""
    # Ctrl-C, unless it is ignored, and a pipe that nobody reads are not for Python to see, but for the tool.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return _caffe._run_tool([b"caffe", *map(os.fsencode, sys.argv[1:])])


if __name__ == "__main__":
    sys.exit(main())
