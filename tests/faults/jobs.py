"""The long commands, on small real data: how each is started, how it goes on, and which of its files are its result."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import testlib
from faults.outcome import of_stderr
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.runs import evaluate, train

PATIENCE = 240  # seconds that an undisturbed command may take here


@dataclass(frozen=True)
class Setting:
    """What all jobs work on: labelled pictures, their databases, and a run that was trained on them."""

    folder: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.csv"

    @property
    def lmdb(self) -> Path:
        return self.folder / "lmdb"

    @property
    def run(self) -> Path:
        return self.folder / "run"


def prepare(folder: Path) -> Setting:
    """Make the setting, or take the one that is there."""
    setting = Setting(folder)
    if not (setting.run / "test_scores.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        testlib.databases(folder, {"train": 96, "val": 27, "test": 40})
        run = train.train(testlib.job(setting.lmdb, setting.run, max_iter=24))
        evaluate.evaluate(run)
    return setting


@dataclass(frozen=True)
class Job:
    """A command that takes a while.

    start    its command line, given the setting and a folder that it may write into
    on       the command lines to try one after the other until one works, when it was disturbed
    result   names below the folder, patterns of glob, whose bytes are the result
    """

    name: str
    start: Callable[[Setting, Path], list]
    result: tuple[str, ...]
    on: Callable[[Setting, Path], list[list]] | None = None

    def goes_on(self, setting: Setting, out: Path) -> list[list]:
        """The command lines that bring a disturbed job to its end."""
        return self.on(setting, out) if self.on else [self.start(setting, out)]


def contents(out: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of a job's result by name; of a database those of its records, however its pages lie."""
    return {
        str(path.relative_to(out)): _records(path) if path.name == "data.mdb" else path.read_bytes()
        for name in names
        for path in sorted(out.glob(name))
        if path.is_file()
    }


def _records(file: Path) -> bytes:
    """The records of a finished database; b"" where it is none."""
    try:
        with Database(file.parent) as records:
            return b"".join(key.encode() + value for key, value in records.items())
    except SelfieError:
        return b""


def run(arguments: list, patience: float = PATIENCE) -> tuple[int, str]:
    """Run a command to its end: exit code and stderr. subprocess.TimeoutExpired if it takes too long."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=patience,
    )
    return done.returncode, done.stderr.decode(errors="replace")


def finish(job: Job, setting: Setting, out: Path) -> tuple[str, str] | None:
    """Bring a disturbed job to its end; (verdict, details) if that cannot be done."""
    failure = None
    for arguments in job.goes_on(setting, out):
        code, text = run(arguments)
        failure = of_stderr(text, code)
        if failure is None or failure[0] != "one line":
            return failure
    return failure


def _training(setting: Setting, out: Path) -> list:
    settings = ("max_iter=60", "snapshot=9", "test_interval=7", "display=1", "average_loss=5")
    more = [part for each in settings for part in ("--set", each)]
    return [
        *("tools/train.py", "--variant", "demo", "--weights", "none", "--lmdb", setting.lmdb, "--run", out / "run"),
        *more,
    ]


def _training_on(setting: Setting, out: Path) -> list[list]:
    start = _training(setting, out)
    return [["tools/train.py", "--run", out / "run", "--resume"], start, [*start, "--replace"]]


JOBS = (
    Job(
        "make_lmdb",
        lambda s, out: ["tools/make_lmdb.py", "--labels", s.labels, "--images", s.images, "--out", out / "lmdb"],
        ("lmdb/*/data.mdb", "lmdb/*/list.txt", "lmdb/*/rejects.csv", "lmdb/*/meta.json"),
    ),
    Job(
        "filter_faces",
        lambda s, out: [
            *("tools/filter_faces.py", "--manifest", s.labels, "--images", s.images, "--out", out / "faces.csv"),
            *("--detector", "lbp", "--keep-all"),
        ],
        ("faces.csv",),
    ),
    Job("train", _training, ("run/metrics.csv", "run/val_scores.csv", "run/snapshots/*_60.caffemodel"), _training_on),
    Job(
        "export_fc7",
        lambda s, out: [
            *("pycaffe_scripts/export_fc7.py", "--run", s.run, "--split", "train", "--out", out / "features"),
        ],
        ("features/features.npy", "features/features.csv", "features/rejects.csv"),
    ),
    Job(
        "tsne_map",
        lambda s, out: [
            *("tools/tsne_map.py", "--run", s.run, "--perplexity", "5", "--cells", "5", "--out", out / "map"),
        ],
        ("map/map.csv", "map/viewer/data.js", "map/*.jpg"),
    ),
    Job(
        "demo_corpus",
        lambda s, out: ["tools/demo_corpus.py", "--out", out / "corpus", "--users", "25"],
        ("corpus/**/*",),
    ),
)
