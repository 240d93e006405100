"""The long commands, on small real data: how each is started, how it goes on, and which of its files are its result."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import testlib
from faults import hosts
from faults.outcome import of_stderr
from faults.processes import started
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.runs import evaluate, train

PATIENCE = 600  # seconds that a command may take here, also on a machine that is busy with other things
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}  # options of a process that is not root's
HEADER = ("id", "path", "user", "followers", "likes", "tags", "posted_at")


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
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"

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
        testlib.databases(folder, {"train": 96, "val": 27, "test": 60})
        with open(setting.manifest, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            for number, picture in enumerate(sorted(setting.images.iterdir())):
                posted = f"2015-{1 + number % 9:02}-{1 + number % 28:02}"
                row = (picture.stem, picture.name, f"u{number % 31}", 100 + number, number * 7 % 50, "a b", posted)
                rows.writerow(row)
        run = train.train(testlib.job(setting.lmdb, setting.run, max_iter=24))
        evaluate.evaluate(run)
    return setting


Result = dict[str, bytes]


@dataclass(frozen=True)
class Job:
    """A command that takes a while.

    start    its command line, given the setting and a folder that it may write into
    result   names below the folder, patterns of glob, whose bytes are the result; or what makes it of the folder
    on       the command lines to try one after the other until one works, when it was disturbed
    lay      puts into the folder what the command expects there
    prints   its standard output belongs to the result, as "printed"
    reads    it reads files of the setting while it works
    """

    name: str
    start: Callable[[Setting, Path], list]
    result: tuple[str, ...] | Callable[[Path], Result]
    on: Callable[[Setting, Path], list[list]] | None = None
    lay: Callable[[Setting, Path], object] | None = None
    prints: bool = False
    reads: bool = True

    def goes_on(self, setting: Setting, out: Path) -> list[list]:
        """The command lines that bring a disturbed job to its end."""
        return self.on(setting, out) if self.on else [self.start(setting, out)]

    def laid(self, setting: Setting, out: Path) -> Path:
        """Make `out` an empty folder but for what the command expects there."""
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        if self.lay:
            self.lay(setting, out)
        return out

    @contextmanager
    def output(self, out: Path) -> Iterator[int]:
        """Where its standard output goes."""
        name = out / "printed" if self.prints else Path(os.devnull)
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            yield handle
        finally:
            os.close(handle)


def contents(job: Job, out: Path) -> Result:
    """The bytes of a job's result by name; of a database those of its records, however its pages lie.

    The folder's own name in them stands for all such.
    """
    if callable(job.result):
        return job.result(out)
    return {
        str(path.relative_to(out)): _records(path) if path.name == "data.mdb" else _read(path, out)
        for name in (*job.result, *(["printed"] if job.prints else []))
        for path in sorted(out.glob(name))
        if path.is_file()
    }


def _read(path: Path, out: Path) -> bytes:
    return path.read_bytes().replace(b"<wbr>", b"").replace(str(out).encode(), b"OUT")


def _records(file: Path) -> bytes:
    """The records of a finished database; b"" where it is none."""
    try:
        with Database(file.parent) as records:
            return b"".join(key.encode() + value for key, value in records.items())
    except SelfieError:
        return b""


def run(
    arguments: list, patience: float = PATIENCE, output: int = subprocess.DEVNULL, **more: object
) -> tuple[int, str]:
    """Run a command to its end: exit code and stderr. subprocess.TimeoutExpired if it takes too long.

    output: a descriptor for its standard output; `more`: options of its process.
    """
    with started(arguments, output, **more) as process:
        text = process.communicate(timeout=patience)[1]
    return process.returncode, text.decode(errors="replace")


def finish(job: Job, setting: Setting, out: Path) -> tuple[str, str] | None:
    """Bring a disturbed job to its end; (verdict, details) if that cannot be done."""
    failure = None
    for arguments in job.goes_on(setting, out):
        with job.output(out) as output:
            code, text = run(arguments, output=output)
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


def _calibration_on(setting: Setting, out: Path) -> list[list]:
    """Again; or, as it then says, to the end; or it is at its end, and only scores."""
    run = ("--run", out / "run")
    return [["tools/calibrate.py", *run], ["tools/train.py", *run, "--resume"], ["tools/evaluate.py", *run]]


def _copy_run(setting: Setting, out: Path) -> None:
    """A run folder of the job's own."""
    shutil.copytree(setting.run, out / "run", ignore=shutil.ignore_patterns("*.solverstate", "test_*"))


def _copy_evaluated(setting: Setting, out: Path) -> None:
    shutil.copytree(setting.run, out / "run", ignore=shutil.ignore_patterns("*.solverstate"))


def _gathered(out: Path) -> Result:
    """What a gathering led to, but for the times and the hashes of authors, whose key is drawn."""
    folder = out / "gathered"
    if not (folder / "manifest.csv").exists():
        return {}
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        counts = database.execute("SELECT * FROM counts ORDER BY stage, reason").fetchall()
        posts = database.execute("SELECT uri, state, reason, path, sha256, likes FROM posts ORDER BY uri").fetchall()
    with open(folder / "manifest.csv", newline="") as file:
        rows = [
            {name: row[name] for name in ("id", "path", "followers", "likes", "tags")} for row in csv.DictReader(file)
        ]
    files = {str(path.relative_to(out)): path.read_bytes() for path in (folder / "images").rglob("*") if path.is_file()}
    return {**files, "ledger": json.dumps([counts, posts]).encode(), "manifest.csv": json.dumps(rows).encode()}


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
    Job(
        "label",
        lambda s, out: [
            *("tools/label.py", "--manifest", s.manifest, "--images", s.images, "--out", out / "labels.csv"),
            *("--group-size", "10", "--as-of", "2016-01-01"),
        ],
        ("labels.csv", "labels.report.json"),
    ),
    Job("train", _training, ("run/metrics.csv", "run/val_scores.csv", "run/snapshots/*_60.caffemodel"), _training_on),
    Job(
        "evaluate",
        lambda s, out: ["tools/evaluate.py", "--run", out / "run"],
        ("run/test_*",),
        lay=_copy_run,
    ),
    Job(
        "score",
        lambda s, out: ["tools/score.py", "--run", s.run, "--csv", s.images],
        (),
        prints=True,
    ),
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
            *("tools/tsne_map.py", "--run", out / "run", "--perplexity", "5", "--cells", "5", "--out", out / "map"),
        ],
        ("map/map.csv", "map/viewer/data.js", "map/*.jpg"),
        lay=_copy_run,
    ),
    Job(
        "report",
        lambda s, out: ["tools/report.py", "--run", out / "run"],
        ("run/report/**/*",),
        lay=_copy_evaluated,
        reads=False,
    ),
    Job(
        "findings",
        lambda s, out: [
            *("tools/findings.py", "--run", out / "run", "--manifest", s.manifest, "--detector", "lbp"),
            *("--resamples", "100"),
        ],
        ("run/findings.*", "run/test_properties.csv"),
        lay=_copy_evaluated,
    ),
    Job(
        "grids",
        lambda s, out: [
            *(
                "tools/grids.py",
                "continuum",
                "--run",
                s.run,
                "--rows",
                "5",
                "--columns",
                "8",
                "--out",
                out / "grid.png",
            ),
        ],
        ("grid.png",),
    ),
    Job(
        "calibrate",
        lambda s, out: ["tools/calibrate.py", "--run", out / "run"],
        ("run/weights.caffemodel", "run/val_scores.csv"),
        _calibration_on,
        lay=_copy_run,
    ),
    Job(
        "crops",
        lambda s, out: [
            *("pycaffe_scripts/crops.py", "--run", s.run, "--method", "random", "--count", "300"),
            *("--out", out / "crops", *sorted(s.images.iterdir())[:3]),
        ],
        ("crops/*",),
    ),
    Job(
        "filters",
        lambda s, out: ["pycaffe_scripts/filters.py", "--run", s.run, "--count", "4", "--out", out / "filters"],
        ("filters/*",),
    ),
    Job(
        "spatial_transformer",
        lambda s, out: [
            *("pycaffe_scripts/spatial_transformer.py", "--run", s.run, "--starts", "3", "--steps", "20"),
            *("--count", "100", "--grid", "3", "--out", out / "paths", min(s.images.iterdir())),
        ],
        ("paths/*.png",),  # the JSON has the seconds that it took
    ),
    Job(
        "demo_corpus",
        lambda s, out: ["tools/demo_corpus.py", "--out", out / "corpus", "--users", "25"],
        ("corpus/**/*",),
        reads=False,
    ),
    Job(
        "gather",
        lambda s, out: [
            *("tools/gather.py", "--server", hosts.posts(), "--tag", "selfie", "--terms-read", "127.0.0.1"),
            *("--contact", "me@example.org", "--rate", "0", "--allow-network", "127.0.0.1/32", "--jobs", "2"),
            *("--out", out / "gathered"),
        ],
        _gathered,
        reads=False,
    ),
    Job(
        "fetch_weights",
        lambda s, out: [
            *("-m", "faults.fetch", hosts.weights(), out / "weights", "vgg_face"),
            *("--checksum", "sha256:" + hashlib.sha256(hosts.archive()).hexdigest()),
        ],
        ("weights/vgg_face/*.caffemodel", "weights/vgg_face/checked.json"),
        reads=False,
    ),
)
