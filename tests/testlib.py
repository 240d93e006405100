"""Small real things for tests to work on: pictures that are easy to tell apart, their databases, a trained demo run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import polars as pl
import pytest

import rules
from selfie.common import paths
from selfie.data import lmdb_writer
from selfie.net import variants
from selfie.net.variants import Readout
from selfie.runs.prepare import Job
from selfie.runs.run_folder import Run

READOUT = Readout(("pool2", "pool3"), folds=3, seeds=2)  # of `heads_job`
SPLITS = {"train": 64, "val": 24, "test": 24}


def skip(kind: str, reason: str, whole_module: bool = False) -> NoReturn:
    """Skip the test for want of a kind of thing, one of rules.KINDS. With that kind in SELFIE_REQUIRE it fails.

    whole_module: called while a module of tests is imported, skip all of them.
    """
    assert kind in rules.KINDS, kind
    pytest.skip(f"{kind}: {reason}", allow_module_level=whole_module)


def need_build() -> None:
    """Skip the test unless Caffe was built here: a wheel has neither its other programs nor its source."""
    if not (paths.BUILD / "caffe").exists():
        skip("built-here", "Caffe came as a wheel")


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run `python <arguments>` from the project's root as a user would; text output is captured."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=paths.ROOT, capture_output=True, text=True, timeout=300, **options
    )


@contextmanager
def started(
    *arguments: object, program: Path | str = sys.executable, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """`with started("tools/train.py", ...) as process:` runs a command beside the test, and kills it in the end.

    Ctrl-C reaches it: a shell starts what it runs in the background with SIGINT ignored, and children inherit that.
    """
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    process = subprocess.Popen([str(program), *map(str, arguments)], cwd=paths.ROOT, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def in_terminal(*arguments: object, **options: object) -> tuple[int, list[str]]:
    """Run `python <arguments>` with a terminal as stderr: exit code, and the lines that it shows one after the other.

    A line that is drawn over, as a progress bar is, counts again each time.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        started(*arguments, stdout=subprocess.DEVNULL, stderr=its, **options) as process,
    ):
        os.close(its)
        text = b""
        with contextlib.suppress(OSError):  # EIO: its end is closed
            while block := terminal.read(1 << 16):
                text += block
        return process.wait(), _shown(text.decode())


def _shown(text: str) -> list[str]:
    """Return what stands in a line of a terminal each time that the cursor leaves it or goes back to its beginning."""
    shown, line = [], ""
    for part in re.split(r"([\r\n])", text.replace("\r\n", "\n")):
        if part not in ("\r", "\n"):
            line = part + line[len(part) :] if part else line
            continue
        if line.strip():
            shown.append(line.rstrip())
        line = "" if part == "\n" else line
    return [*shown, line.rstrip()] if line.strip() else shown


def wait_until(happened: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `happened()` is true; the test fails if that takes too long."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def assert_one_line_error(result: subprocess.CompletedProcess, *words: str) -> None:
    """The command failed as a user's mistake should: exit code 1, one line on stderr with all `words`."""
    assert result.returncode == 1, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


def pictures(folder: Path, splits: dict[str, int] | None = None, seed: int = 0) -> Path:
    """Write noisy pictures, label 1 bright and label 0 dark, below folder/images; returns folder/labels.csv."""
    generator = np.random.default_rng(seed)
    rows = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in (splits or SPLITS).items():
        for number in range(count):
            label, name = number % 2, f"{split}{number:04d}.png"
            noise = generator.normal(160 if label else 90, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / name), cv2.resize(noise, (300, 260)))
            rows.append({"id": name[:-4], "path": name, "label": label, "split": split})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    return folder / "labels.csv"


def databases(folder: Path, splits: dict[str, int] | None = None) -> Path:
    """Databases of `pictures`, raw, so that scores from file and database can be equal; returns folder/lmdb."""
    labels = pictures(folder, splits)
    lmdb_writer.build(labels, folder / "images", folder / "lmdb", raw=True, jobs=1)
    return folder / "lmdb"


def job(lmdb: Path, run: Path, **settings: object) -> Job:
    """A short training of the demo net from scratch."""
    fields = {"max_iter": 12, "test_interval": 6, "display": 2, "snapshot": 6, "average_loss": 1, **settings}
    return Job(variants.get("demo"), lmdb, run, settings={name: str(value) for name, value in fields.items()})


def heads_job(run: Run, lmdb: Path, folder: Path, readout: Readout = READOUT, **more: object) -> Job:
    """A short training of heads on the net of a run of the demo net, which stays as it is."""
    variant = replace(variants.get("demo"), readout=readout, features="standardised", batch=1024, test_batch=1024)
    settings = {"weight_decay": "0.1", "max_iter": "200"}
    solver = paths.SOLVER / "squeezenet_frozen.prototxt"
    return Job(variant, lmdb, folder, run.caffemodel, solver, settings=settings, **more)


def children(pid: int) -> list[int]:
    """The child processes of a process; not those that Python 3.14's multiprocessing keeps for itself."""
    found = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return [int(child) for child in found if b"multiprocessing" not in Path(f"/proc/{child}/cmdline").read_bytes()]
