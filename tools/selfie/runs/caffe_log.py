"""Follow `caffe train` while it runs: its log as progress, metrics.csv and curves.png; signals handed on to it."""

from __future__ import annotations

import ctypes
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tqdm import tqdm

from selfie.common import paths, plots
from selfie.common.errors import SelfieError

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
CURVES_EVERY = 20  # seconds between two drawings of curves.png


class LogFollower:
    """Follow Caffe's log while it runs: a progress bar, log.txt, metrics.csv and curves.png."""

    ITERATION = re.compile(r"Iteration (\d+)(?: \(.*?\))?, loss = (\S+)")
    RATE = re.compile(r"Iteration (\d+), lr = (\S+)")
    TESTING = re.compile(r"Iteration (\d+), Testing net")
    TESTED = re.compile(r"Test net output #\d+: (accuracy|loss) = (\S+)")
    FATAL = re.compile(r"^[EF]\d{4,8} [\d:.]+ +\d+ (\S+)\] (.*)")  # the last one before it ended is why

    def __init__(self, folder: Path, start: int, max_iter: int) -> None:
        """Begin at iteration `start`, from which training goes on; later rows of an earlier try are dropped."""
        self.folder = folder
        self.start, self.max_iter = start, max_iter
        self.metrics = Metrics(folder / "metrics.csv", start)
        self.test_iteration = start
        self.fatal = ""
        self.diverged = False
        self.curves_drawn_at = time.monotonic()

    def run(self, command: list[str], resumed: bool, lock: int) -> bool:
        """Run `command` to its end; returns whether a signal stopped it. SelfieError if it failed or diverged.

        The process inherits the descriptor `lock`, so it keeps the run folder's lock should we be killed.
        """
        if resumed:
            self.recover()
        with (
            tqdm(total=self.max_iter, initial=self.start, unit="it", desc=self.folder.name, disable=None) as bar,
            _signals_noted() as signals,
        ):
            process, written = self._start(command, resumed, lock)
            for line in _follow(self.folder / "log.txt", written, process, signals):
                self.read(line, bar)
                if self.diverged:
                    process.kill()  # a snapshot of nan is worth nothing
            code = process.wait()
            if not (code or signals or self.diverged):
                bar.update(self.max_iter - bar.n)  # Caffe logs every `display` iterations, so rarely the last one
        self.metrics.save()
        draw_curves(self.metrics.rows, self.folder / "curves.png")
        if code or self.diverged:
            raise SelfieError(f"caffe train failed: {self.fatal or _end(code)} (whole log: {self.folder / 'log.txt'})")
        return bool(signals)

    def _start(self, command: list[str], resumed: bool, lock: int) -> tuple[subprocess.Popen, int]:
        """Start `command`, which writes log.txt; returns it, and the byte of the log where it begins."""
        with open(self.folder / "log.txt", "a" if resumed else "w") as file:
            # Caffe writes the file itself: a pipe would break, and stop it without a snapshot, if we were killed.
            written = file.tell()
            process = subprocess.Popen(
                command,
                cwd=paths.ROOT,
                stderr=file,
                start_new_session=True,
                env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
                preexec_fn=partial(_become_caffe, os.getpid()),
                pass_fds=[lock],
            )
        return process, written

    def recover(self) -> None:
        """Take from the log what a killed process had not written into metrics.csv, up to the start."""
        file = self.folder / "log.txt"
        if not file.exists():
            return
        with open(paths.regular(file), "r+", errors="replace", newline="\n") as log_file:
            line = "\n"
            for line in log_file:
                self.note(line)
            if not line.endswith("\n"):
                log_file.write("\n")  # a line that a kill cut off ends here
        self.metrics.cut(self.start)
        self.test_iteration, self.fatal = self.start, ""

    def read(self, line: str, bar: tqdm) -> None:
        """Note what one line of the log says, and show it."""
        values = self.note(line)
        if "train_loss" in values:
            iteration = int(values["iteration"])
            bar.update(iteration - bar.n)
            if math.isnan(values["train_loss"]):
                self.diverged = True
                self.fatal = f"training diverged at iteration {iteration} (loss is nan), lower base_lr"
        if values.keys() - {"iteration", "lr"}:
            bar.set_postfix(self.metrics.latest())
        if values.keys() & {"val_loss", "val_accuracy"}:
            self.metrics.save()
        if time.monotonic() - self.curves_drawn_at > CURVES_EVERY:
            draw_curves(self.metrics.rows, self.folder / "curves.png")
            self.curves_drawn_at = time.monotonic()

    def note(self, line: str) -> dict[str, float]:
        """Note what one line of the log says; return its values with their iteration, {} for other lines."""
        values: dict[str, float] = {}
        with suppress(ValueError):  # of a line that a kill cut off, a number is no number
            if match := self.ITERATION.search(line):
                values = {"iteration": int(match[1]), "train_loss": float(match[2])}
            elif match := self.RATE.search(line):
                values = {"iteration": int(match[1]), "lr": float(match[2])}
            elif match := self.TESTING.search(line):
                self.test_iteration = int(match[1])
            elif match := self.TESTED.search(line):
                values = {"iteration": self.test_iteration, f"val_{match[1]}": float(match[2])}
            elif (match := self.FATAL.search(line)) and not self.diverged:
                hint = ": give a smaller --batch" if "exceeds INT_MAX" in line else ""
                self.fatal = f"{match[2]} ({match[1]}){hint}"
        if values:
            self.metrics.set(**values)
        return values


class Metrics:
    """The rows of metrics.csv: one per logged iteration, columns empty where nothing was measured."""

    COLUMNS = ("iteration", "lr", "train_loss", "val_loss", "val_accuracy")

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}
        if start and path.exists():
            for line in paths.regular(path).read_text(errors="replace").splitlines()[1:]:
                with suppress(ValueError):  # somebody edited it; the log has it, too
                    self.set(**{name: float(value) for name, value in zip(self.COLUMNS, line.split(",")) if value})
            self.cut(start)

    def set(self, iteration: float, **values: float) -> None:
        """Note values of one iteration."""
        self.rows.setdefault(int(iteration), {}).update(values)

    def cut(self, last: int) -> None:
        """Forget what comes after iteration `last`."""
        self.rows = {iteration: row for iteration, row in self.rows.items() if iteration <= last}

    def latest(self) -> dict[str, float]:
        """Return the newest value of each column that a progress bar shows."""
        shown: dict[str, float] = {}
        for row in self.rows.values():
            shown.update({name: value for name, value in row.items() if name != "lr"})
        return shown

    def save(self) -> None:
        """Write metrics.csv, atomically."""
        with paths.atomic_write(self.path) as file:
            file.write(",".join(self.COLUMNS) + "\n")
            for iteration, row in sorted(self.rows.items()):
                file.write(",".join([str(iteration), *(str(row.get(name, "")) for name in self.COLUMNS[1:])]) + "\n")


def _end(code: int) -> str:
    """Say how a process ended that left no word, by its exit code."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    advice = {
        "SIGBUS": ": is a database damaged? tools/make_lmdb.py --verify tells",
        "SIGSEGV": ": is a database damaged? tools/make_lmdb.py --verify tells",
        "SIGABRT": ": is a database damaged? tools/make_lmdb.py --verify tells",
        "SIGKILL": ", most likely for memory: try a smaller --batch",
    }
    return f"it was ended by {name}{advice.get(name, '')}"


def draw_curves(rows: dict[int, dict[str, float]], path: Path) -> None:
    """Draw the losses (above) and the validation accuracy (below; heads on a frozen net have none) over iterations."""

    def series(name: str) -> tuple[list[int], list[float]]:
        points = [(iteration, row[name]) for iteration, row in sorted(rows.items()) if name in row]
        return [x for x, _ in points], [y for _, y in points]

    heads = series("val_loss")[0] and not series("val_accuracy")[0]
    with plots.figure(path, 1 if heads else 2, height=6) as axes:
        above, *below = [axes] if heads else axes
        above.plot(*series("train_loss"), color=plots.GOOD, label="training")
        above.plot(*series("val_loss"), color=plots.BAD, marker="o", markersize=3, label="validation")
        above.set_ylabel("loss")
        above.legend()
        for axis in below:
            axis.plot(*series("val_accuracy"), color=plots.BAD, marker="o", markersize=3)
            axis.set_ylabel("validation accuracy")
        (below or [above])[-1].set_xlabel("iteration")


def _follow(file: Path, start: int, process: subprocess.Popen, signals: list[int]) -> Iterator[str]:
    """Yield the lines that `process` appends to `file` from byte `start` on, as they come, until it ends.

    Each signal that comes into the list `signals` meanwhile stops it: it is passed on when the process is ready for it.
    """
    passed = 0
    with open(file, errors="replace") as log_file:
        log_file.seek(start)
        unfinished = ""
        while True:
            ended = process.poll() is not None  # asked before reading, so that the last lines are read
            if passed < len(signals) and not ended and _catches(process.pid, signal.SIGINT):
                process.send_signal(signal.SIGINT)
                passed += 1
            for line in log_file:
                unfinished += line
                if line.endswith("\n"):
                    yield unfinished
                    unfinished = ""
            if ended:
                return
            time.sleep(0.1)


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal. Caffe has none while it starts: it would end without a snapshot."""
    try:
        handled = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return True
    return handled is None or bool(int(handled[1], 16) >> (number - 1) & 1)


def _become_caffe(parent: int) -> None:
    """In the process that becomes Caffe: catch nothing, and get SIGTERM when the parent dies: Caffe snapshots then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # our own handler would look like Caffe's
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died already
        os._exit(1)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM instead of ending; yields the list of those received."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
