"""Group `training` of the GPU benchmark: SqueezeNet on the published tiles has the same losses as on the CPU.

And what is resumed after it was killed ends as what was not.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.worker import Worker, failure, last_words
from selfie.net import caffe_net, weights

# How far the losses of a training on the GPU may be from those on the CPU. Another OpenBLAS kernel on a CPU, which only
# rounds otherwise, changes the first two losses (before and after one update) by 1e-5 (of four pictures: 6e-5), but the
# change grows step by step, to 1.2e-2 of the mean loss in 20 iterations; and cuDNN's Winograd rounds more. TF32 rounds
# to 11 bits, fp32 to 24: only its first losses compare.
FIRST_LOSSES = {"fp32": 5e-4, "TF32": 2e-2}
ALL_LOSSES = {"fp32": 5e-2, "TF32": None}
OTHER_KERNEL = "Sandybridge"  # of OpenBLAS, that any CPU with AVX can run

log = logging.getLogger(__name__)


def training(setting: Setting) -> Iterable[Row]:
    """Train SqueezeNet on the CPU and on the GPU in all precisions, and compare the losses; kill and resume one.

    Where the GPU is the CPU, the second training takes another of OpenBLAS's kernels.
    """
    try:
        labels = figures(setting.folder)
        weights.obtain("squeezenet")
    except SelfieError as error:
        log.warning("no measurement of training: %s", error)
        return
    count = 2 if setting.quick else 10
    on_cpu = losses(setting, labels, count, None)
    for precision in setting.precisions:
        name = "another CPU kernel" if setting.gpu is None else f"GPU {precision}"
        variable = ("OPENBLAS_CORETYPE", OTHER_KERNEL) if setting.gpu is None else ("CAFFE_TF32", PRECISIONS[precision])
        other = losses(setting, labels, count, setting.gpu, **dict([variable]))
        first = max(difference([ours], [theirs]) for ours, theirs in zip(on_cpu[:2], other[:2]))
        title = f"squeezenet, {name} against CPU: first two losses, difference"
        yield Row("training", title, "relative", first, wanted=FIRST_LOSSES[precision])
        title = f"squeezenet, {name} against CPU: largest difference of {len(on_cpu)} losses over their mean"
        detail = {"cpu": on_cpu, name: other}
        whole = difference(on_cpu, other)
        yield Row("training", title, "relative", whole, wanted=ALL_LOSSES[precision], detail=detail)
    difference_of_resumed = resumed(setting, labels, count)
    title = "squeezenet, killed and resumed against uninterrupted: largest difference of a weight"
    yield Row("training", title, "relative", difference_of_resumed, wanted=0)


def figures(folder: Path) -> Path:
    """Cut the published tiles, once; the path of their labels.csv. SelfieError if the figures cannot be had."""
    labels = folder / "figures" / "labels.csv"
    if not labels.exists():
        cut = [sys.executable, "tools/cut_figures.py", "--out", str(labels.parent)]
        done = subprocess.run(cut, cwd=paths.ROOT, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise failure("the published figures were not cut", last_words(done.stderr, done.returncode))
    return labels


def begun(process: Worker, setting: Setting, labels: Path, gpu: int | None, prefix: Path) -> Worker:
    """Let a process begin the training of SqueezeNet from its published weights."""
    start = weights.caffemodel("squeezenet")
    told = {"gpu": gpu, "variant": "squeezenet", "batch": 4 if setting.quick else 32, "labels": str(labels)}
    process.ask("begin", **told, caffemodel=str(start), prefix=str(prefix))
    return process


def losses(setting: Setting, labels: Path, count: int, gpu: int | None, **environment: str) -> list[float]:
    """Train with one seed; the training loss of each of the first `count` iterations.

    On the CPU by Caffe's own convolutions, since oneDNN's Winograd rounds more.
    """
    with Worker(sys.executable, "bench.training_peer", **{"CAFFE_ONEDNN": "0", **environment}) as process:
        begun(process, setting, labels, gpu, setting.folder / "losses")
        return process.ask("train", count=count)["losses"]


def resumed(setting: Setting, labels: Path, count: int) -> float:
    """Kill a training behind its snapshot, and resume it: the largest difference of a weight, over the largest weight.

    Against a training to the same iteration in one go, on the setting's device, with CAFFE_DETERMINISTIC=1.
    """
    whole, parts, prefix = (setting.folder / name for name in ("whole.caffemodel", "parts.caffemodel", "killed"))

    def process() -> Worker:
        return Worker(sys.executable, "bench.training_peer", CAFFE_DETERMINISTIC="1")

    with process() as uninterrupted:
        begun(uninterrupted, setting, labels, setting.gpu, prefix).ask("train", count=2 * count)
        uninterrupted.ask("save", caffemodel=str(whole))
    with process() as killed:
        begun(killed, setting, labels, setting.gpu, prefix).ask("train", count=count)
        iteration = killed.ask("snapshot")["iteration"]
        killed.process.kill()
    with process() as second:
        begun(second, setting, labels, setting.gpu, prefix)
        second.ask("restore", solverstate=f"{prefix}_iter_{iteration}.solverstate")
        second.ask("train", count=count)
        second.ask("save", caffemodel=str(parts))
    ones, others = caffe_net.caffemodel_blobs(whole), caffe_net.caffemodel_blobs(parts)
    pairs = [(a, b) for name, blobs in ones.items() for a, b in zip(blobs, others[name])]
    return max(float(np.abs(a - b).max()) for a, b in pairs) / max(float(np.abs(a).max()) for a, _ in pairs)


def difference(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the largest |actual - expected| over the mean of `expected`; RuntimeError if the lengths differ."""
    if len(expected) != len(actual) or not expected:
        raise RuntimeError(f"{len(expected)} losses on one side, {len(actual)} on the other")
    return max(abs(b - a) for a, b in zip(expected, actual)) / statistics.mean(expected)
