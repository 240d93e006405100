"""Prepare a training: check what Caffe would not, then make the run folder.

What is checked beforehand: databases, weights that belong to the net, the solver's fields, room on the GPUs. The run
folder gets run.json first, then the exact prototxts, written by the generator, and the solver.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from selfie.common import locks, paths, times
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.lmdb_reader import Database
from selfie.net import (
    architectures,
    caffe_net,
    device,
    generate,
    memory,
    pycaffe,
    solver,
    variants,
    vgg16_forms,
    weights,
)
from selfie.net.prototxt import dump
from selfie.net.pycaffe import Message
from selfie.net.variants import Variant
from selfie.runs import heads, means, run_folder
from selfie.runs.run_folder import Content, Run

TRAINING_SPLITS = ("train", "val")  # the databases that a training reads
SCORING = ("deploy", "deploy_conv")  # the nets that score
TWO_HISTORIES = ("AdaDelta", "Adam")  # solvers that keep two numbers per weight; the others keep one

MOST_ITERATIONS = (1 << 31) - 1
MOST_NUMBERS = (1 << 31) - 1  # that Caffe keeps in a blob

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A training to start.

    variant      the net, and how it is fed
    lmdb         the folder of the databases train and val
    run          the run folder to make
    pretrained   caffemodel to start from; None: random weights
    solver       solver file instead of the variant's
    gpu          one number or several ("0,1"); None: the CPU
    seed         random_seed of the solver; None: the solver's own
    epochs       length in epochs: sets max_iter
    batch        pictures per iteration on each GPU, instead of the variant's
    replace      remove an older run of that name
    settings     solver fields to override
    readings     folder of what a frozen net makes of the selfies, for runs to share; None: in the run folder
    command      the command line, for run.json
    """

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
    readings: Path | None = None
    command: list[str] = field(default_factory=lambda: sys.argv)


def pictures_per_iteration(batch: int, gpu: str | None) -> int:
    """Count the pictures per iteration over all GPUs: each reads a batch of its own (iter_size multiplies it)."""
    return batch * (1 if gpu is None else len(device.ids(gpu)))


def starting_weights(variant: Variant, given: str | None) -> Path | None:
    """Return the caffemodel to start from: `given`, None for 'none' (random weights), else the variant's.

    `given` is a path, or the name of pretrained weights where there is no such file.

    SelfieError if the file, or the demo's pretraining, is missing.
    """
    if given == "none" or not (given or variant.weights):
        return None
    if given in weights.PRODUCTS and not Path(given).exists():
        return weights.caffemodel(given)
    if given:
        vgg16_forms.refuse(model := paths.existing(given, "caffemodel"))
        return model
    if variant.weights == "demo":  # made on the spot, by `make demo`, not downloaded
        if not (paths.RUNS / "demo_pretrain").exists():
            raise SelfieError(
                "the demo net's pretraining, runs/demo_pretrain, is missing: run 'make demo' once, or "
                "train from random weights with --weights none"
            )
        return run_folder.load(paths.RUNS / "demo_pretrain").caffemodel
    return weights.caffemodel(variant.weights)


@dataclass(frozen=True)
class Plan:
    """A training that can begin. texts: the prototxts of its folder by name; info: its run.json."""

    job: Job
    texts: dict[str, str]
    info: dict

    def make(self) -> Run:
        """Make the run folder, in place of an older one; whoever calls holds its lock.

        run.json comes first and says that the run is being prepared: killed at any moment, the folder stays of use.
        """
        folder = self.job.run
        _check_folder(self.job)  # it was free a moment ago
        run = Run(folder, self.info).save(state=run_folder.PREPARING)
        paths.empty(folder, keep=("run.json", locks.LOCK))
        (folder / "snapshots").mkdir()
        for name, text in self.texts.items():
            with paths.atomic_write(folder / f"{name}.prototxt") as file:
                file.write(text)
        return run.save(state="started")


def prepare(job: Job) -> Run:
    """Check everything, then make the run folder, in place of an older one.

    SelfieError, before anything is written, if a check fails.
    """
    with locked(plan(job)) as (run, _):
        return run


@contextmanager
def locked(plan: Plan) -> Iterator[tuple[Run, int]]:
    """Lock the run folder and make it; yields the run and the lock's descriptor."""
    with locks.folder(plan.job.run) as lock:
        yield plan.make(), lock


def plan(job: Job) -> Plan:
    """Check everything; SelfieError if a check fails. Nothing is written."""
    pycaffe.binary()
    for option, path in (("--run", job.run), ("--lmdb", job.lmdb)):
        if not _is_text(str(path.absolute())):
            raise SelfieError(f"{option} {path!a} is not UTF-8 text, as names in prototxts must be: give another")
    _check_folder(job)
    locks.check_free(job.run)
    sizes = {split: _database_size(job.lmdb / split, job.variant.classes) for split in TRAINING_SPLITS}
    job = _for_database(job)
    if job.variant.readout:
        job = _for_heads(job, sizes)
    layers = caffe_net.learned_layers(job.variant)
    if job.pretrained is not None:
        caffe_net.check_weights(layers, job.pretrained, fresh=job.variant.fresh)
        means.check(job.variant, job.pretrained)
    source = job.run / "heads" if job.variant.readout else job.lmdb
    read = heads.rows(job.variant, sizes) if job.variant.readout else sizes
    texts = {**net_texts(job.variant, paths.shown(source)), "solver": _solver_text(job, read)}
    settings = solver.parse(texts["solver"])
    check_gpus(job.gpu, job.variant, settings)
    info = _info(job, settings, layers)
    learning = f"{info['parameters']:,} parameters, {sizes['train']} selfies to train on, {sizes['val']} to validate"
    if job.variant.readout:
        count, width = layers["members"][0]
        learning = f"{count} heads on {width:,} features of a frozen net, {sum(sizes.values())} selfies to train on"
    log.info("%s: %s; OpenBLAS kernel %s", job.variant.name, learning, info["versions"]["blas_kernel"])
    info["nets"] = {
        f"{kind}.prototxt": hashlib.sha256(texts[kind].encode()).hexdigest() for kind in SCORING if kind in texts
    }
    return Plan(job, texts, info)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def net_texts(variant: Variant, lmdb: str) -> dict[str, str]:
    """Generate the prototxts of a run: train_val, which reads `lmdb`, and those that score.

    SelfieError if the checked-in train_val.prototxt was changed by hand: such a change would not reach the run.
    """
    checked_in = paths.PROTOTXT / variant.name / "train_val.prototxt"
    listed_variant = variants.get(variant.name)
    if checked_in.exists() and checked_in.read_text() != generate.text(listed_variant, "train_val"):
        raise SelfieError(
            f"{paths.shown(checked_in)} is not what the generator makes of tools/selfie/net/architectures.py: change "
            f"that, then run 'make prototxt'"
        )
    train_val = architectures.build(variant, "train_val", lmdb)
    texts = {"train_val": dump(train_val, generate.comment(variant, "train_val"))}
    if variant.deploy:
        scoring = variant if variant.readout else variants.get(variant.deploy)
        texts |= {kind: generate.text(scoring, kind) for kind in SCORING}
    return texts


def check_gpus(gpu: str | None, variant: Variant, settings: Message) -> None:
    """Raise SelfieError unless each GPU of "0,1" can be used and has room for the training; None, the CPU, can."""
    if gpu is not None:
        answers, need = device.check(gpu), need_of(variant, settings)
        for number, answer in answers.items():
            memory.check(need, variant.batch, number, answer, f"training {variant.name}")


def need_of(variant: Variant, settings: Message) -> memory.Need:
    """Estimate the memory of a training on one GPU, with its solver's settings."""
    return memory.training(caffe_net.untrained(variant), variant.test_batch, 2 if settings.type in TWO_HISTORIES else 1)


def _check_folder(job: Job) -> None:
    """Raise SelfieError if the folder is no run folder, is an earlier run to be kept, or holds the weights."""
    if not job.run.exists():
        return
    content = run_folder.content(job.run)
    if content is Content.FOREIGN:
        raise SelfieError(f"{job.run} exists and is not a run folder: give another --run")
    if content is Content.RUN and not job.replace:
        locks.check_free(job.run)
        raise SelfieError(f"{job.run} exists: go on with --resume, start over with --replace, or give another --run")
    if content is Content.REMAINS and not job.replace:
        raise SelfieError(f"{job.run} is what is left of a run: start over with --replace, or give another --run")
    if job.pretrained is not None and paths.resolved(job.pretrained).is_relative_to(paths.resolved(job.run)):
        raise SelfieError(f"{job.run} holds the weights to start from: give another --run")


def _for_database(job: Job) -> Job:
    """Return the job with its variant adapted: the batch asked for, and the size and detail of its database's pictures.

    SelfieError if either does not fit.
    """
    if job.batch is not None and job.batch < 1:
        raise SelfieError(f"--batch {job.batch}: it must be at least 1")
    most = MOST_NUMBERS // (3 * job.variant.crop**2)
    if (job.batch or 0) > most:
        raise SelfieError(f"--batch {job.batch}: Caffe keeps at most {most:,} pictures of {job.variant.crop} pixels")
    with Database(job.lmdb / "train") as records:
        inputs = records.meta["inputs"]
    size, detail = inputs.get("size", image.IMAGE_SIZE), inputs.get("detail", 0)
    if size < job.variant.crop:
        raise SelfieError(f"{job.lmdb} holds pictures of {size} pixels, the net's input has {job.variant.crop}")
    preprocessing = replace(job.variant.preprocessing, size=size, detail=detail)
    return replace(job, variant=replace(job.variant, batch=job.batch or job.variant.batch, preprocessing=preprocessing))


def _for_heads(job: Job, sizes: dict[str, int]) -> Job:
    """Return the job with batches that hold all selfies, where they are few: then nothing depends on their order.

    SelfieError without pretrained weights: random features say nothing.
    """
    if job.pretrained is None:
        raise SelfieError(f"{job.variant.name} learns on a frozen net, which needs weights: leave --weights none out")
    records = heads.rows(job.variant, sizes)
    batch, test_batch = (min(job.variant.batch, records[split]) for split in TRAINING_SPLITS)
    variant = replace(job.variant, batch=batch, test_batch=test_batch)
    return replace(job, variant=variant, readings=job.readings or job.run / "readings")


def _info(job: Job, settings: Message, layers: caffe_net.Shapes) -> dict:
    """Return what run.json says at the start."""
    pretrained = job.pretrained and {
        "path": paths.shown(paths.resolved(job.pretrained)),
        "sha256": paths.sha256(job.pretrained),
        "verified_by": weights.verified_by(job.pretrained),
        **({"made_from": origin} if (origin := weights.made_from(job.pretrained)) else {}),
    }
    return {
        "variant": job.variant.name,
        "state": "started",
        "started": times.now(),
        "command": job.command,
        "seed": settings.random_seed,
        "max_iter": settings.max_iter,
        "gpu": job.gpu,
        "batch": job.variant.batch,
        "parameters": sum(math.prod(shape) for shapes in layers.values() for shape in shapes),
        "preprocessing": {
            "version": image.PREPROCESSING,
            **asdict(job.variant.preprocessing),
            "mean": list(job.variant.mean),
        },
        "lmdb": {
            "path": paths.shown(paths.resolved(job.lmdb)),
            **{split: paths.read_json(job.lmdb / split / "meta.json") for split in TRAINING_SPLITS},
        },
        "weights": pretrained,
        **({"frozen": _frozen(job)} if job.variant.readout else {}),
        "versions": run_folder.versions(),
    }


def _frozen(job: Job) -> dict:
    """Describe the frozen net and what heads read of it, for run.json."""
    assert job.variant.readout is not None and job.readings is not None
    return {
        "shrink": job.variant.shrink,
        "smooth": job.variant.smooth,
        "readings": paths.shown(job.readings),
        "readout": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(job.variant.readout).items()
        },
    }


def _database_size(path: Path, classes: int) -> int:
    """Count a finished database's records; SelfieError if a label is not the net's: Caffe would read out of bounds."""
    with Database(path) as records:
        highest = max(int(label) for label in records.meta["labels"])
        if highest >= classes:
            raise SelfieError(f"{path} has selfies with label {highest}, but the net has {classes} classes (from 0)")
        return len(records)


def _solver_text(job: Job, sizes: dict[str, int]) -> str:
    """Return the solver file with this run's paths, seed, length and --set values."""
    file = job.solver or paths.SOLVER / f"{job.variant.name}.prototxt"
    given = paths.read_text(file, "solver")
    solver.parse(given, str(file))  # so that an error names this file
    fixed: dict[str, object] = {
        "net": paths.shown(job.run / "train_val.prototxt"),
        "snapshot_prefix": paths.shown(job.run / "snapshots" / job.run.name),
        # Rounded up, so that every validation selfie is seen; Caffe's reader wraps around, so a few are seen twice.
        "test_iter": -(-sizes["val"] // job.variant.test_batch),
    }
    # --gpu chooses the mode; resuming and finishing rest on snapshots in Caffe's own format, the last one included.
    reserved = {"solver_mode", "snapshot_after_train", "snapshot_format", *fixed}
    if asked := sorted(reserved & set(job.settings)):
        raise SelfieError(f"--set {asked[0]}: tools/train.py sets this field itself")
    for name, value in job.settings.items():  # one by one, so that an error has the user's words
        solver.check(name, value)
    if job.epochs is not None:
        if not 0 < job.epochs < math.inf:
            raise SelfieError(f"--epochs {job.epochs}: it must be a number above 0")
        pictures = pictures_per_iteration(job.batch or job.variant.batch, job.gpu)
        iter_size = max(1, solver.parse(solver.change(given, job.settings), "--set").iter_size)
        fixed["max_iter"] = _iterations(job.epochs, sizes["train"] / (pictures * iter_size))
    if job.seed is not None:
        fixed["random_seed"] = job.seed
    text = solver.change(given, {**fixed, **job.settings})
    if solver.parse(text, "--set").max_iter < 1:
        raise SelfieError("max_iter must be at least 1")
    return text


def _iterations(epochs: float, of_an_epoch: float) -> int:
    """Return the iterations of so many epochs; SelfieError for more than Caffe counts."""
    iterations = epochs * of_an_epoch
    if iterations >= MOST_ITERATIONS:
        raise SelfieError(
            f"--epochs {epochs:g}: that is {iterations:.3g} iterations, and Caffe counts up to {MOST_ITERATIONS:,}: "
            f"give {int(MOST_ITERATIONS / of_an_epoch):,} or fewer"
        )
    return max(1, round(iterations))
