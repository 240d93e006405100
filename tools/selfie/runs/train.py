"""Run `caffe train` in a run folder: prepare it, start, resume, finish.

Caffe does the training; this module only checks what Caffe would not (databases, weights that belong to the net) and
writes down what was done.
"""

from __future__ import annotations

import datetime
import logging
import math
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.worker import OUT_OF_MEMORY
from selfie.data.lmdb_reader import Database
from selfie.net import architectures, caffe_net, device, memory, pycaffe, solver, weights
from selfie.net.prototxt import dump
from selfie.net.variants import Variant
from selfie.runs import caffe_log, evaluate, run_folder
from selfie.runs.run_folder import Run

TWO_HISTORIES = ("AdaDelta", "Adam")  # solvers that keep two numbers per weight; the others keep one

log = logging.getLogger(__name__)


@dataclass
class Job:
    """What to train. `settings` overrides solver fields; `epochs` sets max_iter in passes over the training split;
    `gpu` is one number or several ("0,1"); `batch` pictures are in a pass on each, instead of the variant's; `replace`
    removes an older run of that name."""

    variant: Variant
    lmdb: Path
    run: Path
    pretrained: Path | None = None
    solver: Path | None = None
    gpu: str | None = None
    seed: int | None = None
    epochs: float | None = None
    batch: int | None = None
    replace: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: sys.argv)

    @property
    def pictures(self) -> int:
        """Training pictures per pass, of all GPUs together."""
        return _pictures(self.batch or self.variant.batch, self.gpu)


def _pictures(batch: int, gpu: str | None) -> int:
    """Per pass of all GPUs: each takes a batch of its own."""
    return batch * (1 if gpu is None else len(device.ids(gpu)))


def train(job: Job) -> Run:
    """Train to the end, or until a signal: then Caffe snapshots and SelfieError tells how to go on.

    SelfieError before anything is written if Caffe, a database or the weights are not as they must be.
    """
    return _run_caffe(prepare(job), 0, None)


def resume(folder: Path, variant: Variant, gpu: str | None = None) -> Run:
    """Go on from the newest intact snapshot of a run, with the options and databases that it was started with.

    gpu   None: on the device it was started on; "cpu", or GPUs as in Job: there, from now on
    """
    run = run_folder.load(folder)
    if run.variant != variant:
        raise SelfieError(f"{folder} is a run of {run.variant.name}, not of {variant.name}")
    if run.finished:
        log.info("%s is finished already", folder)
        return run
    for split in ("train", "val"):
        with Database(run.database(split)) as records:
            if records.meta["content"] != run.info["lmdb"][split]["content"]:
                raise SelfieError(
                    f"{records.path} is another database than {folder} was started with: start it again with --replace"
                )
    device, batch = {None: run.info["gpu"], "cpu": None}.get(gpu, gpu), run.info.get("batch", variant.batch)
    _check_gpus(device, run.variant, batch, _settings(run))
    iteration, state = newest_intact_snapshot(run)
    before, now = _pictures(batch, run.info["gpu"]), _pictures(batch, device)
    if before != now:
        log.warning(
            "from iteration %d on a pass reads %d selfies, not %d as before: each GPU takes a batch of %d",
            iteration,
            now,
            before,
            batch,
        )
    return _run_caffe(run.save(gpu=device), iteration, state)


def prepare(job: Job) -> Run:
    """Check everything, then make the run folder: the exact prototxts and solver, and run.json."""
    pycaffe.binary()
    _check_folder(job)
    sizes = {split: _database_size(job.lmdb / split, job.variant.classes) for split in ("train", "val")}
    layers = learned_layers(job.variant)
    if job.pretrained is not None:
        caffe_net.check_weights(layers, job.pretrained, fresh=(job.variant.head,))
    texts = {"train_val": _train_val_text(job), "solver": _solver_text(job, sizes)}
    if job.variant.deploy:
        texts["deploy"] = paths.existing(paths.PROTOTXT / job.variant.deploy / "deploy.prototxt").read_text()
    settings = solver.parse(texts["solver"])
    _check_gpus(job.gpu, job.variant, job.batch or job.variant.batch, settings)
    info = _info(job, settings, layers)
    log.info(
        "%s: %s parameters, %d selfies to train on, %d to validate; OpenBLAS kernel %s",
        job.variant.name,
        f"{info['parameters']:,}",
        sizes["train"],
        sizes["val"],
        info["versions"]["blas_kernel"],
    )
    if job.run.exists():
        shutil.rmtree(job.run)
    (job.run / "snapshots").mkdir(parents=True)
    for name, text in texts.items():
        with paths.atomic_write(job.run / f"{name}.prototxt") as file:
            file.write(text)
    return Run(job.run, info).save()


def _check_folder(job: Job) -> None:
    """SelfieError if the run folder is somebody else's, an earlier run that is to stay, or holds the weights."""
    if not job.run.exists():
        return
    if not job.run.is_dir() or (any(job.run.iterdir()) and not (job.run / "run.json").exists()):
        raise SelfieError(f"{job.run} is there and not a run folder: give another --run")
    if (job.run / "run.json").exists() and not job.replace:
        raise SelfieError(f"{job.run} exists: --resume it, --replace it, or give another --run")
    if job.pretrained is not None and job.pretrained.resolve().is_relative_to(job.run.resolve()):
        raise SelfieError(f"{job.run} holds the weights to start from: give another --run")


def _info(job: Job, settings, layers: dict[str, list[tuple[int, ...]]]) -> dict:
    """What run.json says at the start."""
    return {
        "variant": job.variant.name,
        "state": "started",
        "started": _now(),
        "command": job.command,
        "seed": settings.random_seed,
        "max_iter": settings.max_iter,
        "gpu": job.gpu,
        "batch": job.batch or job.variant.batch,
        "parameters": sum(math.prod(shape) for shapes in layers.values() for shape in shapes),
        "lmdb": {
            "path": paths.shown(job.lmdb.resolve()),
            **{split: paths.read_json(job.lmdb / split / "meta.json") for split in ("train", "val")},
        },
        "weights": None
        if job.pretrained is None
        else {"path": paths.shown(job.pretrained.resolve()), "sha256": paths.sha256(job.pretrained)},
        "versions": run_folder.versions(),
    }


def _run_caffe(run: Run, iteration: int, state: Path | None) -> Run:
    """Run `caffe train` from `iteration` on; then mark the run as finished and score its validation selfies."""
    max_iter = run.info["max_iter"]
    follower = caffe_log.Follower(run.folder, iteration, max_iter)
    try:
        stopped = follower.run(_command(run, state), resumed=state is not None)
    except SelfieError as error:
        if run.info["gpu"] is None or not OUT_OF_MEMORY.search(str(error)):
            raise
        raise SelfieError(_out_of_memory(run)) from error
    found = run_folder.snapshots(run.folder)
    if not found:
        raise SelfieError(f"caffe train left no snapshot in {run.folder}/snapshots: start it again with --replace")
    reached, newest = found[0]
    if stopped or reached < max_iter:
        raise SelfieError(
            f"stopped after a snapshot at iteration {reached} of {max_iter}: go on with --resume (make: RESUME=1)"
        )
    caffemodel = newest.with_suffix(".caffemodel").relative_to(run.folder)
    run = run.save(state="finished", ended=_now(), iterations=reached, caffemodel=str(caffemodel))
    if run.variant.deploy:  # percentiles are told against these
        gpu = run.info["gpu"]
        evaluate.validation_scores(run, gpu=None if gpu is None else int(gpu.split(",")[0]))
    return run


def _check_gpus(text: str | None, variant: Variant, batch: int, settings) -> None:
    """SelfieError unless each GPU of "0,1" can be used and has room for the training; nothing to do without."""
    if text is not None:
        found, need = device.check(text), _need(variant, settings)
        for number, one in found.items():
            memory.check(need, batch, number, one, f"training {variant.name}")


def _need(variant: Variant, settings) -> memory.Need:
    """The memory of a training on one GPU, with its solver's settings."""
    return memory.training(_scoring_net(variant), variant.test_batch, 2 if settings.type in TWO_HISTORIES else 1)


def _out_of_memory(run: Run) -> str:
    """One line for a training that Caffe gave up."""
    numbers = device.ids(run.info["gpu"])
    need, batch = _need(run.variant, _settings(run)), run.info["batch"]
    least = min(map(device.look, numbers), key=lambda one: one.free)
    return (
        f"GPU {' or '.join(map(str, numbers))} ran out of memory: training {run.variant.name} "
        f"{memory.sentence(need, batch, least)}: start again with --batch (whole log: "
        f"{run.folder / 'log.txt'})"
    )


def _settings(run: Run):
    return solver.parse((run.folder / "solver.prototxt").read_text())


def learned_layers(variant: Variant) -> dict[str, list[tuple[int, ...]]]:
    """Layers with weights of a variant's net: name -> blob shapes, as Caffe itself makes them."""
    return caffe_net.parameter_shapes(_scoring_net(variant))


def _scoring_net(variant: Variant):
    """A variant's own net for one picture, with random weights, on the CPU."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(dump(architectures.build(variant, "deploy")))
        file.flush()
        return caffe_net.load(file.name)


def newest_intact_snapshot(run: Run) -> tuple[int, Path]:
    """(iteration, solverstate) of the newest snapshot whose two files are whole and belong together."""
    layers = learned_layers(run.variant)
    for iteration, state in run_folder.snapshots(run.folder):
        try:
            _check_snapshot(state, iteration, layers)
            return iteration, state
        except (SelfieError, OSError) as error:
            log.warning("passing over %s: %s", state.name, error)
    raise SelfieError(f"{run.folder} has no intact snapshot to resume from: start it again with --replace")


def _check_snapshot(state: Path, iteration: int, layers: dict[str, list[tuple[int, ...]]]) -> None:
    """SelfieError unless Caffe will be able to restore a .solverstate and the .caffemodel beside it."""
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().SolverState(), state)
    blobs = sum(len(shapes) for shapes in layers.values())
    if message.iter != iteration or not message.HasField("current_step") or len(message.history) < blobs:
        raise SelfieError("it is cut short")
    caffemodel = state.with_suffix(".caffemodel")
    if (paths.ROOT / message.learned_net).resolve() != caffemodel.resolve():
        raise SelfieError(f"it belongs to {message.learned_net}: has the run folder been moved?")
    caffe_net.check_weights(layers, caffemodel)


def _database_size(path: Path, classes: int) -> int:
    """Records of a finished database; SelfieError if a label does not fit the net: Caffe would read beside its blob."""
    with Database(path) as records:
        highest = max(int(label) for label in records.meta["labels"])
        if highest >= classes:
            raise SelfieError(f"{path} has selfies with label {highest}, but the net has {classes} classes (from 0)")
        return len(records)


def _train_val_text(job: Job) -> str:
    source = f'source: "{job.variant.data}/'
    text = paths.existing(paths.PROTOTXT / job.variant.name / "train_val.prototxt").read_text()
    if text.count(source) != 2:
        raise SelfieError(
            f"prototxt/{job.variant.name}/train_val.prototxt does not read {job.variant.data}: run 'make prototxt'"
        )
    text = text.replace(source, f'source: "{paths.shown(job.lmdb)}/')
    if job.batch is None:
        return text
    if job.batch < 1:
        raise SelfieError(f"--batch {job.batch}: it must be at least 1")
    # The training phase is the first.
    return text.replace(f"batch_size: {job.variant.batch}", f"batch_size: {job.batch}", 1)


def _solver_text(job: Job, sizes: dict[str, int]) -> str:
    """The solver file with this run's paths, seed, length and --set values."""
    file = paths.existing(job.solver or paths.SOLVER / f"{job.variant.name}.prototxt", "solver")
    solver.parse(file.read_text(), str(file))  # so that a mistake in it is told under its name
    # Rounded up, so that every validation selfie is seen; Caffe reads on in circles, so a few are seen twice.
    ours: dict[str, object] = {
        "net": paths.shown(job.run / "train_val.prototxt"),
        "snapshot_prefix": paths.shown(job.run / "snapshots" / job.run.name),
        "test_iter": -(-sizes["val"] // job.variant.test_batch),
    }
    if fixed := sorted({"solver_mode", "snapshot_after_train", "snapshot_format", *ours} & set(job.settings)):
        raise SelfieError(f"--set {fixed[0]}: tools/train.py needs to choose that itself")
    if job.epochs is not None:
        if not 0 < job.epochs < math.inf:
            raise SelfieError(f"--epochs {job.epochs}: it must be a number above 0")
        iter_size = solver.parse(solver.change(file.read_text(), job.settings), "--set").iter_size
        ours["max_iter"] = max(1, round(job.epochs * sizes["train"] / (job.pictures * iter_size)))
    if job.seed is not None:
        ours["random_seed"] = job.seed
    text = solver.change(file.read_text(), {**ours, **job.settings})
    if solver.parse(text, "--set").max_iter < 1:
        raise SelfieError("max_iter must be at least 1")
    return text


def _command(run: Run, state: Path | None) -> list[str]:
    command = [str(pycaffe.binary()), "train", "-solver", paths.shown(run.folder / "solver.prototxt")]
    if state is not None:
        command += ["-snapshot", paths.shown(state)]
    elif run.info["weights"]:
        command += ["-weights", run.info["weights"]["path"]]
    if run.info["gpu"] is not None:
        command += ["-gpu", run.info["gpu"]]
    return command


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def starting_weights(variant: Variant, given: str | None) -> Path | None:
    """The caffemodel to start from: `given` as a path, 'none' for training from scratch, else the variant's own."""
    if given == "none" or not (given or variant.weights):
        return None
    if given:
        return paths.existing(given, "caffemodel")
    if variant.weights == "demo":  # made on the spot, by `make demo`, not downloaded
        if not (paths.RUNS / "demo_pretrain").exists():
            raise SelfieError(
                "the demo net's pretraining, runs/demo_pretrain, is missing: run 'make demo' once, or "
                "train from scratch with --weights none (make: WEIGHTS=none)"
            )
        return run_folder.load(paths.RUNS / "demo_pretrain").caffemodel
    return weights.caffemodel(variant.weights)
