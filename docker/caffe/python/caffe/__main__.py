"""Upstream's programs and scripts, in a process of Python.

    python -m caffe train -solver solver.prototxt      the program caffe: train, test, time, device_query
    python -m caffe convert_imageset ...               one of upstream's other programs
    python -m caffe draw_net net.prototxt net.png      one of its scripts

Layers written in Python find their Python there.
"""

import os
import runpy
import signal
import sys

from . import _caffe

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scripts")


def main():
    """Run what the first argument names, or else the program caffe, with the other arguments; its exit status."""
    name, *rest = sys.argv[1:] or [""]
    if name in _caffe._tool_names():
        return _run_program(name, rest)
    if name in script_names():
        return _run_script(name, rest)
    return _run_program("caffe", sys.argv[1:])


def named():
    """Run the program whose name this process has, as installed ones do; its exit status."""
    return _run_program(os.path.basename(sys.argv[0]), sys.argv[1:])


def script_names():
    """List the scripts that are installed, by name."""
    files = os.listdir(SCRIPTS) if os.path.isdir(SCRIPTS) else []
    return sorted(file[: -len(".py")] for file in files if file.endswith(".py"))


def _run_program(name, arguments):
    # Ctrl-C, unless it is ignored, and a pipe that nobody reads are not for Python to see, but for the program.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return _caffe._run_tool([os.fsencode(word) for word in (name, *arguments)])


def _run_script(name, arguments):
    sys.path.insert(0, SCRIPTS)  # where those that it imports are
    sys.argv = [os.path.join(SCRIPTS, f"{name}.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
