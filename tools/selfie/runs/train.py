"""Run `caffe train` in a run folder: start, resume, finish."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from selfie.common import locks, paths, times
from selfie.common.errors import SelfieError
from selfie.common.worker import OUT_OF_MEMORY
from selfie.data.lmdb_reader import Database
from selfie.net import device, memory, pycaffe, solver
from selfie.net.pycaffe import Message
from selfie.runs import caffe_log, evaluate, heads, prepare, run_folder
from selfie.runs.prepare import TRAINING_SPLITS, Job, check_gpus, need_of, pictures_per_iteration
from selfie.runs.run_folder import Run
from selfie.runs.snapshots import newest_intact, snapshots

log = logging.getLogger(__name__)


def train(job: Job) -> Run:
    """Train to the end, or until a signal: then Caffe snapshots, and SelfieError says how to resume.

    SelfieError before anything is written if Caffe, a database or the weights cannot be used, or while another process
    trains in the folder.
    """
    with prepare.locked(prepare.plan(job)) as (run, lock):
        return _begin(run, lock)


def _begin(run: Run, lock: int) -> Run:
    """Train from the beginning; heads on a frozen net first get what they learn from, which is kept."""
    if run.variant.readout:
        heads.prepare(run)
    return _run_caffe(run, 0, None, lock)


def resume(folder: Path, variant: str | None = None, gpu: str | None = None) -> Run:
    """Go on from the newest intact snapshot of a run, with the options and databases that it was started with.

    variant   the variant that the caller expects; SelfieError if the run has another
    gpu       None: on the device it was started on; "cpu", or GPUs as in Job: there, from now on
    """
    run = run_folder.load(folder)
    if variant not in (None, run.info["variant"]):
        raise SelfieError(f"{folder} is a run of {run.info['variant']}, not of {variant}")
    if run.finished:
        log.info("%s is finished already", folder)
        return run
    with locks.folder(run.folder) as lock:
        return _resume(run_folder.load(folder), gpu, lock)


def _resume(run: Run, gpu: str | None, lock: int) -> Run:
    """Go on with a run whose lock is held."""
    if run.info["state"] == run_folder.PREPARING:
        raise SelfieError(f"{run.folder} was stopped before its training began: start it again, without --resume")
    if run.info["state"] == "trained":
        return _finish(run)
    _check_databases(run)
    if gpu is None:
        gpus = run.info["gpu"]
    else:
        gpus = None if gpu == "cpu" else gpu
    batch = run.batch
    check_gpus(gpus, replace(run.variant, batch=batch), _settings(run))
    if run.variant.readout:  # the readings are what takes long, and they go on; heads are trained in one go
        paths.empty(run.folder / "snapshots")
        return _begin(run.save(gpu=gpus), lock)
    iteration, state = newest_intact(run)
    before, after = (pictures_per_iteration(batch, where) for where in (run.info["gpu"], gpus))
    if before != after:
        log.warning(
            "from iteration %d on each iteration reads %d selfies, not %d as before: each GPU reads a batch of %d",
            *(iteration, after, before, batch),
        )
    return _run_caffe(run.save(gpu=gpus), iteration, state, lock)


def _check_databases(run: Run) -> None:
    """Raise SelfieError if the databases are not, record for record, those that the run was started with."""
    for split in TRAINING_SPLITS:
        with Database(run.database(split)) as records:
            if records.meta["content"] != run.info["lmdb"][split]["content"]:
                raise SelfieError(
                    f"{records.path} is another database than {run.folder} was started with: start it again with "
                    f"--replace"
                )


def _run_caffe(run: Run, iteration: int, state: Path | None, lock: int) -> Run:
    """Run `caffe train` from `iteration` on, then score the validation selfies."""
    max_iter = run.info["max_iter"]
    follower = caffe_log.LogFollower(run.folder, iteration, max_iter)
    try:
        stopped = follower.run(_command(run, state), resumed=state is not None, lock=lock)
    except SelfieError as error:
        if run.info["gpu"] is None or not OUT_OF_MEMORY.search(str(error)):
            raise
        raise SelfieError(_out_of_memory(run)) from error
    states = snapshots(run.folder)
    if not states and stopped:
        raise SelfieError("stopped before the first iteration: start it again with --replace")
    if not states:
        raise SelfieError(f"caffe train left no snapshot in {run.folder}/snapshots: start it again with --replace")
    reached, newest = states[0]
    if stopped or reached < max_iter:
        raise SelfieError(f"stopped after a snapshot at iteration {reached} of {max_iter}: go on with --resume")
    caffemodel = newest.with_suffix(".caffemodel")
    if run.variant.readout:
        run = heads.finish(run, caffemodel)
        caffemodel = run.folder / heads.TRAINED
    weights = {"caffemodel": str(caffemodel.relative_to(run.folder)), "caffemodel_sha256": paths.sha256(caffemodel)}
    return _finish(run.save(state="trained", ended=times.now(), iterations=reached, **weights))


def _finish(run: Run) -> Run:
    """Score the validation selfies of a trained run, which percentiles refer to, and mark it finished."""
    if run.variant.deploy:
        evaluate.validation_scores(run, device.first(run.info["gpu"]))
    return run.save(state="finished")


def _out_of_memory(run: Run) -> str:
    """Say in one line why Caffe gave up a training for lack of memory."""
    numbers = device.ids(run.info["gpu"])
    need, batch = need_of(run.variant, _settings(run)), run.batch
    least = min(map(device.look, numbers), key=lambda gpu: gpu.free)
    return (
        f"GPU {' or '.join(map(str, numbers))} ran out of memory: training {run.variant.name} "
        f"{memory.sentence(need, batch, least)}: start again with --batch (whole log: "
        f"{run.folder / 'log.txt'})"
    )


def selfies_per_step(run: Run) -> int:
    """Count the selfies behind one update of the weights: batches of all GPUs, iter_size of them."""
    return pictures_per_iteration(run.batch, run.info["gpu"]) * _settings(run).iter_size


def _settings(run: Run) -> Message:
    """Read the run's solver."""
    return solver.read(run.folder / "solver.prototxt")


def _command(run: Run, state: Path | None) -> list[str]:
    """Return the command line of `caffe train`; its paths are relative to the project's root where they are inside."""
    command = [str(pycaffe.binary()), "train", "-solver", paths.shown(run.folder / "solver.prototxt")]
    if state is not None:
        command += ["-snapshot", paths.shown(state)]
    elif run.variant.readout:
        command += ["-weights", paths.shown(run.folder / heads.START)]
    elif run.info["weights"]:
        command += ["-weights", run.info["weights"]["path"]]
    if run.info["gpu"] is not None:
        command += ["-gpu", run.info["gpu"]]
    return command
