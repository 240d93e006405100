"""Run `caffe train` in a run folder: prepare it, follow the log, stop and resume.

Caffe does the training; this module only checks what Caffe would not (databases, weights that belong to the net),
writes down what was done, and turns the log into progress, metrics.csv and curves.png.
"""

from __future__ import annotations

import ctypes
import datetime
import logging
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from selfie import database, evaluate, net, nets, paths, prototxt, runs, solver, variants
from selfie.errors import SelfieError

log = logging.getLogger(__name__)

CURVES_EVERY = 20  # seconds between two drawings of curves.png


@dataclass
class Job:
    """What to train. `settings` overrides solver fields; `epochs` sets max_iter in passes over the training split;
    `replace` removes an older run of that name."""

    variant: variants.Variant
    lmdb: Path
    run: Path
    pretrained: Path | None = None
    solver: Path | None = None
    gpu: str | None = None
    seed: int | None = None
    epochs: float | None = None
    replace: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: sys.argv)


def train(job: Job, resume: bool = False) -> runs.Run:
    """Train to the end, or until a signal: then Caffe snapshots and SelfieError tells how to go on.

    SelfieError before anything is written if Caffe, a database or the weights are not as they must be.
    """
    net.binary()
    if job.gpu is not None:
        net.check_gpu_build()
    if resume:
        run = runs.load(job.run)
        if run.finished:
            log.info("%s is finished already", job.run)
            return run
        state = newest_intact_snapshot(run)
    else:
        run, state = prepare(job), None
    follow = Follower(run.folder, start=state[0] if state else 0)
    follow.run(_command(run, state[1] if state else None), resumed=resume)
    return finish(run, job.gpu)


def prepare(job: Job) -> runs.Run:
    """Check everything, then make the run folder: the exact prototxts and solver, and run.json."""
    exists = (job.run / "run.json").exists()
    if exists and not job.replace:
        raise SelfieError(f"{job.run} exists: --resume it, --replace it, or give another --run")
    sizes = {split: _database_size(job.lmdb / split, job.variant.classes) for split in ("train", "val")}
    layers = learned_layers(job.variant)
    if job.pretrained is not None:
        net.check_weights(layers, job.pretrained, fresh=(job.variant.head,))
    parameters = sum(math.prod(shape) for shapes in layers.values() for shape in shapes)
    log.info("%s: %s parameters, %d selfies to train on, %d to validate", job.variant.name, f"{parameters:,}",
             sizes["train"], sizes["val"])
    text = _solver_text(job, sizes)
    if exists:
        shutil.rmtree(job.run)
    (job.run / "snapshots").mkdir(parents=True, exist_ok=True)
    _write(job.run / "train_val.prototxt", _train_val_text(job))
    _write(job.run / "solver.prototxt", text)
    if job.variant.deploy:
        shutil.copyfile(paths.PROTOTXT / job.variant.deploy / "deploy.prototxt", job.run / "deploy.prototxt")
    info = {
        "variant": job.variant.name, "state": "started", "started": _now(), "command": job.command,
        "seed": solver.parse(text).random_seed, "max_iter": solver.parse(text).max_iter, "gpu": job.gpu,
        "parameters": parameters,
        "lmdb": {"path": shown(job.lmdb.resolve()),
                 **{split: paths.read_json(job.lmdb / split / "meta.json") for split in sizes}},
        "weights": None if job.pretrained is None else {
            "path": shown(job.pretrained.resolve()), "sha256": paths.sha256(job.pretrained)},
        "versions": versions()}
    return runs.Run(job.run, info).save()


def learned_layers(variant: variants.Variant) -> dict[str, list[tuple[int, ...]]]:
    """Layers with weights of a variant's net: name -> blob shapes, as Caffe itself makes them."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(prototxt.dump(nets.build(variant, "deploy")))
        file.flush()
        return net.parameter_shapes(net.load(file.name))


def newest_intact_snapshot(run: runs.Run) -> tuple[int, Path]:
    """(iteration, solverstate) of the newest snapshot whose two files can be read whole."""
    for iteration, state in runs.snapshots(run.folder):
        try:
            message = net.caffe_pb2().SolverState()
            message.ParseFromString(state.read_bytes())
            net.check_weights(learned_layers(run.variant), state.with_suffix(".caffemodel"))
        except Exception as error:  # a damaged file of any kind: say so and try the one before
            log.warning("passing over %s: %s", state.name, error)
            continue
        if message.iter == iteration:
            return iteration, state
    raise SelfieError(f"{run.folder} has no intact snapshot to resume from: start it again without --resume")


def finish(run: runs.Run, gpu: str | None) -> runs.Run:
    """Mark the run as finished and score its validation selfies, against which percentiles are told."""
    iteration, state = runs.snapshots(run.folder)[0]
    caffemodel = state.with_suffix(".caffemodel").relative_to(run.folder)
    run = run.save(state="finished", ended=_now(), iterations=iteration, caffemodel=str(caffemodel))
    if run.variant.deploy:
        evaluate.validation_scores(run, gpu=None if gpu is None else int(gpu.split(",")[0]))
    return run


def versions() -> dict[str, str]:
    """What computed this: Caffe's build, Python and the packages that matter, and the project's commit."""
    import importlib.metadata
    caffe = net.caffe()
    found = {name: importlib.metadata.version(name) for name in ("numpy", "opencv-python", "lmdb", "protobuf")}
    return {"caffe": caffe.__version__, "blas_kernel": caffe.blas_kernel(), "python": platform.python_version(),
            **found, "project": _commit()}


def _commit() -> str:
    """The project's commit, where git can tell."""
    try:
        answer = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=paths.ROOT, capture_output=True,
                                text=True)
    except FileNotFoundError:
        return "unknown: git is not installed"
    return answer.stdout.strip() or "unknown: not a git checkout"


def shown(path: Path) -> str:
    """`path` relative to the project where it is inside: run folders then survive a move of the project."""
    path = path.absolute()
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)


def _database_size(path: Path, classes: int) -> int:
    """Records of a finished database; SelfieError if a label does not fit the net: Caffe would read beside its blob."""
    with database.Database(path) as records:
        highest = max(int(label) for label in records.meta["labels"])
        if highest >= classes:
            raise SelfieError(f"{path} has selfies with label {highest}, but the net has {classes} classes (from 0)")
        return len(records)


def _train_val_text(job: Job) -> str:
    source = f'source: "{job.variant.data}/'
    text = paths.existing(paths.PROTOTXT / job.variant.name / "train_val.prototxt").read_text()
    if text.count(source) != 2:
        raise SelfieError(f"prototxt/{job.variant.name}/train_val.prototxt does not read {job.variant.data}: run 'make "
                          f"prototxt'")
    return text.replace(source, f'source: "{shown(job.lmdb)}/')


def _solver_text(job: Job, sizes: dict[str, int]) -> str:
    """The solver file with this run's paths, seed, length and --set values."""
    file = paths.existing(job.solver or paths.SOLVER / f"{job.variant.name}.prototxt", "solver")
    text = file.read_text()
    given = solver.parse(text, str(file))
    settings: dict[str, object] = {
        "net": shown(job.run / "train_val.prototxt"),
        "snapshot_prefix": shown(job.run / "snapshots" / job.run.name),
        "test_iter": -(-sizes["val"] // job.variant.test_batch)}
    if job.epochs is not None:
        batch = job.variant.batch * given.iter_size
        settings["max_iter"] = max(1, round(job.epochs * sizes["train"] / batch))
    if job.seed is not None:
        settings["random_seed"] = job.seed
    text = solver.change(text, {**settings, **job.settings})
    solver.parse(text, "--set")
    return text


def _command(run: runs.Run, state: Path | None) -> list[str]:
    command = [str(net.binary()), "train", "-solver", shown(run.folder / "solver.prototxt")]
    if state is not None:
        command += ["-snapshot", shown(state)]
    elif run.info["weights"]:
        command += ["-weights", run.info["weights"]["path"]]
    if run.info["gpu"] is not None:
        command += ["-gpu", run.info["gpu"]]
    return command


def _write(path: Path, text: str) -> None:
    with paths.atomic_write(path) as file:
        file.write(text)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Follower:
    """Reads Caffe's log while it runs: a progress bar, log.txt, metrics.csv and curves.png."""

    ITERATION = re.compile(r"Iteration (\d+) \(.*?\), loss = (\S+)")
    RATE = re.compile(r"Iteration (\d+), lr = (\S+)")
    TESTING = re.compile(r"Iteration (\d+), Testing net")
    TESTED = re.compile(r"Test net output #\d+: (accuracy|loss) = (\S+)")
    FATAL = re.compile(r"^F\d{4,8} [\d:.]+ +\d+ (\S+)\] (.*)")

    def __init__(self, folder: Path, start: int) -> None:
        """`start`: the iteration that training goes on from; later rows of an earlier try are dropped."""
        self.folder = folder
        self.start = start
        self.metrics = Metrics(folder / "metrics.csv", start)
        self.testing = start
        self.fatal = ""
        self.diverged = False
        self.drawn = time.monotonic()

    def run(self, command: list[str], resumed: bool) -> None:
        """Run `command` to its end; SelfieError if it failed, diverged or was told to stop."""
        max_iter = solver.parse((self.folder / "solver.prototxt").read_text()).max_iter
        with open(self.folder / "log.txt", "a" if resumed else "w") as file:
            # Caffe writes the file itself: a pipe would break, and stop it without a snapshot, if we were killed.
            process = subprocess.Popen(command, cwd=paths.ROOT, stderr=file, start_new_session=True,
                                       env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
                                       preexec_fn=_stop_when_orphaned)
            written = file.tell()
        with tqdm(total=max_iter, initial=self.start, unit="it", desc=self.folder.name) as bar, \
                _passing_signals_to(process) as signals:
            for line in _follow(self.folder / "log.txt", written, process):
                self.read(line, bar)
                if self.diverged:
                    process.kill()  # a snapshot of nan is worth nothing
            code = process.wait()
        self.metrics.save()
        draw_curves(self.metrics.rows, self.folder / "curves.png")
        if code:
            raise SelfieError(f"caffe train failed: {self.fatal or f'exit code {code}'} (whole log: "
                              f"{self.folder / 'log.txt'})")
        reached = runs.snapshots(self.folder)[0][0]
        if signals or reached < max_iter:
            raise SelfieError(f"stopped after a snapshot at iteration {reached} of {max_iter}: go on with --resume")

    def read(self, line: str, bar: tqdm) -> None:
        """Take in one line of the log."""
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
            self.testing = int(match[1])
        elif match := self.TESTED.search(line):
            self.metrics.set(self.testing, **{f"val_{match[1]}": float(match[2])})
            bar.set_postfix(self.metrics.latest())
            self.metrics.save()
        elif match := self.FATAL.search(line):
            self.fatal = self.fatal or f"{match[2]} ({match[1]})"
        if time.monotonic() - self.drawn > CURVES_EVERY:
            draw_curves(self.metrics.rows, self.folder / "curves.png")
            self.drawn = time.monotonic()


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
                    self.set(int(values.pop("iteration")),
                             **{name: float(value) for name, value in values.items() if value})

    def set(self, iteration: int, **values: float) -> None:
        """Note values of one iteration."""
        self.rows.setdefault(iteration, {}).update(values)

    def latest(self) -> dict[str, float]:
        """The newest value of each column that a progress bar shows."""
        shown = {}
        for row in self.rows.values():
            shown.update({name: value for name, value in row.items() if name != "lr"})
        return shown

    def save(self) -> None:
        """Write metrics.csv, whole."""
        with paths.atomic_write(self.path) as file:
            file.write(",".join(self.COLUMNS) + "\n")
            for iteration, row in sorted(self.rows.items()):
                file.write(",".join([str(iteration), *(str(row.get(name, "")) for name in self.COLUMNS[1:])]) + "\n")


def draw_curves(rows: dict[int, dict[str, float]], path: Path) -> None:
    """curves.png: loss above, validation accuracy below, over iterations."""
    from selfie import plots

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
    """Lines that `process` appends to `file` from byte `start` on, as they come, until it ends."""
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
    """In the child: if tools/train.py is killed, Caffe gets SIGTERM, so it snapshots and stops as well (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def _passing_signals_to(process: subprocess.Popen) -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on to Caffe, which snapshots and stops; yields the signals that came."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
