"""Mutants of the files that are read: each is used or refused in one line, in bounded time and memory.

A process of its own reads them one after the other and says what came of each; if it ends or hangs, its parent knows at
which mutant, and goes on with the next.
"""

from __future__ import annotations

import json
import os
import queue
import random
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from faults.changes import restore
from faults.jobs import Setting
from faults.outcome import HANG, ONE_LINE, TRACEBACK, UNNAMED, USED, Outcome
from faults.targets import TARGETS
from selfie.common import paths
from selfie.common.errors import SelfieError

SECONDS, GIGABYTES = 20, 3  # that one mutant may take; seconds of the processor, or of doing nothing
START = 20  # seconds more until the first one is read


def mutants(setting: Setting, seed: int, numbers: range) -> Iterator[Outcome]:
    """Read mutants of each kind; `numbers` of them each."""
    for target in TARGETS:
        start = numbers.start
        while start < numbers.stop:
            for number, verdict, details in _read_from(setting, target, seed, start, numbers.stop):
                start = number + 1
                yield Outcome("mutant", target, number, verdict, details)


def _read_from(setting: Setting, target: str, seed: int, start: int, stop: int) -> Iterator[tuple[int, str, str]]:
    """Let a process read mutants from number `start` on: (number, verdict, details) of each until it ends."""
    arguments = [sys.executable, "-m", "faults.mutants", setting.folder, target, seed, start, stop]
    places = os.pathsep.join([str(paths.ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places, "GLOG_minloglevel": "2"}
    with subprocess.Popen(
        list(map(str, arguments)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines: queue.Queue[str] = queue.Queue()
        told: list[str] = []
        readers = [
            threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put("")]),
            threading.Thread(target=lambda: told.extend(process.stderr)),
        ]
        for reader in readers:
            reader.start()
        number, end = start, None
        try:
            while number < stop and end is None:
                line = _next(lines, process.pid, SECONDS + START * (number == start))
                if line is None:
                    end = number, HANG, f"more than {SECONDS} s"
                elif line:
                    yield tuple(json.loads(line))
                    number += 1
                else:
                    end = number, UNNAMED, f"exit code {process.wait()}"
        finally:
            process.kill()
            for reader in readers:
                reader.join()
        if end:
            yield *end[:2], f"{end[2]}: {''.join(told)[-300:]}"


def _next(lines: queue.Queue[str], pid: int, seconds: float) -> str | None:
    """The process's next line; None where it does nothing, or works, for longer than it may."""
    began = used = _processor(pid)
    while used - began < seconds:
        try:
            return lines.get(timeout=seconds)
        except queue.Empty:
            before, used = used, _processor(pid)
            if used == before:
                return None
    return None


def _processor(pid: int) -> float:
    """The seconds of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- in the process --------------------------------------------------------------------------------------------------


def read(setting: Setting, target: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str]]:
    """In the process: read mutants of a target."""
    with tempfile.TemporaryDirectory() as scratch:
        for number in numbers:
            try:
                TARGETS[target](setting, Path(scratch), random.Random(f"{seed}/{target}/{number}"))
                yield number, USED, ""
            except SelfieError as error:
                yield number, ONE_LINE, str(error)[:200]
            except OSError as error:  # which a command tells in one line, if it is about a file
                yield number, ONE_LINE if error.filename else TRACEBACK, repr(error)
            except BaseException as error:  # polars panics in exceptions that are no Exception
                yield number, TRACEBACK, repr(error)[:500]
            restore()


def main() -> None:
    """Read the mutants that the arguments name; one line of JSON about each."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30,) * 2)
    folder, target, seed, start, stop = sys.argv[1:]
    for line in read(Setting(Path(folder)), target, int(seed), range(int(start), int(stop))):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
