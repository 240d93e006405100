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
from contextlib import contextmanager
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

    def run(self, command: list[str], resumed: bool) -> bool:
        """Run `command` to its end; returns whether a signal stopped it. SelfieError if it failed or diverged."""
        with open(self.folder / "log.txt", "a" if resumed else "w") as file:
            # Caffe writes the file itself: a pipe would break, and stop it without a snapshot, if we were killed.
            written = file.tell()
            process = subprocess.Popen(
                command,
                cwd=paths.ROOT,
                stderr=file,
                start_new_session=True,
                env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
                preexec_fn=_stop_when_orphaned,
            )
        with (
            tqdm(total=self.max_iter, initial=self.start, unit="it", desc=self.folder.name, disable=None) as bar,
            _signals_passed_to(process) as signals,
        ):
            for line in _follow(self.folder / "log.txt", written, process):
                self.read(line, bar)
                if self.diverged:
                    process.kill()  # a snapshot of nan is worth nothing
            code = process.wait()
            if not (code or signals or self.diverged):
                bar.update(self.max_iter - bar.n)  # Caffe logs every `display` iterations, so rarely the last one
        self.metrics.save()
        draw_curves(self.metrics.rows, self.folder / "curves.png")
        if code or self.diverged:
            raise SelfieError(
                f"caffe train failed: {self.fatal or f'exit code {code}'} (whole log: {self.folder / 'log.txt'})"
            )
        return bool(signals)

    def read(self, line: str, bar: tqdm) -> None:
        """Note what one line of the log says."""
        if match := self.ITERATION.search(line):
            iteration, loss = int(match[1]), float(match[2])
            self.metrics.set(iteration, train_loss=loss)
            bar.update(iteration - bar.n)
            bar.set_postfix(self.metrics.latest())
            if math.isnan(loss):
                self.diverged = True
                self.fatal = f"training diverged at iteration {iteration} (loss is nan), lower base_lr"
        elif match := self.RATE.search(line):
            self.metrics.set(int(match[1]), lr=float(match[2]))
        elif match := self.TESTING.search(line):
            self.test_iteration = int(match[1])
        elif match := self.TESTED.search(line):
            self.metrics.set(self.test_iteration, **{f"val_{match[1]}": float(match[2])})
            bar.set_postfix(self.metrics.latest())
            self.metrics.save()
        elif (match := self.FATAL.search(line)) and not self.diverged:
            self.fatal = f"{match[2]} ({match[1]})"
        if time.monotonic() - self.curves_drawn_at > CURVES_EVERY:
            draw_curves(self.metrics.rows, self.folder / "curves.png")
            self.curves_drawn_at = time.monotonic()


class Metrics:
    """The rows of metrics.csv: one per logged iteration, columns empty where nothing was measured."""

    COLUMNS = ("iteration", "lr", "train_loss", "val_loss", "val_accuracy")

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}
        if start and path.exists():
            for line in path.read_text().splitlines()[1:]:
                values = dict(zip(self.COLUMNS, line.split(",")))
                if int(values["iteration"]) <= start:
                    self.set(
                        int(values.pop("iteration")), **{name: float(value) for name, value in values.items() if value}
                    )

    def set(self, iteration: int, **values: float) -> None:
        """Note values of one iteration."""
        self.rows.setdefault(iteration, {}).update(values)

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


def draw_curves(rows: dict[int, dict[str, float]], path: Path) -> None:
    """Draw the losses (above) and the validation accuracy (below) over iterations."""

    def series(name: str) -> tuple[list[int], list[float]]:
        points = [(iteration, row[name]) for iteration, row in sorted(rows.items()) if name in row]
        return [x for x, _ in points], [y for _, y in points]

    with plots.figure(path, 2, height=6) as (above, below):
        above.plot(*series("train_loss"), color=plots.GOOD, label="training")
        above.plot(*series("val_loss"), color=plots.BAD, marker="o", markersize=3, label="validation")
        above.set_ylabel("loss")
        above.legend()
        below.plot(*series("val_accuracy"), color=plots.BAD, marker="o", markersize=3)
        below.set_ylabel("validation accuracy")
        below.set_xlabel("iteration")


def _follow(file: Path, start: int, process: subprocess.Popen) -> Iterator[str]:
    """Yield the lines that `process` appends to `file` from byte `start` on, as they come, until it ends."""
    with open(file, errors="replace") as log_file:
        log_file.seek(start)
        unfinished = ""
        while True:
            ended = process.poll() is not None  # asked before reading, so that the last lines are read
            for line in log_file:
                unfinished += line
                if line.endswith("\n"):
                    yield unfinished
                    unfinished = ""
            if ended:
                return
            time.sleep(0.1)


def _stop_when_orphaned() -> None:
    """Ask Linux to send this process, which becomes Caffe, SIGTERM when its parent dies: it snapshots, then stops."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _signals_passed_to(process: subprocess.Popen) -> Iterator[list[int]]:
    """Pass Ctrl-C and SIGTERM on to Caffe, which snapshots and stops; yields the list of signals received."""
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
