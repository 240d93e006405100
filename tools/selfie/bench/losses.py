"""Group `training` of the GPU benchmark: SqueezeNet on the published tiles has the same losses as on the CPU."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.bench.workload import command
from selfie.common.errors import SelfieError
from selfie.data import tables

# How far the losses of a training on the GPU may be from those on the CPU. Another OpenBLAS kernel on a CPU, which only
# rounds otherwise, changes the first two losses (before and after one update) by 1e-5, but the change grows step by
# step, to 1.2e-2 of the mean loss in 20 iterations. TF32 rounds to 11 bits, fp32 to 24: only its first losses compare.
FIRST_LOSSES = {"fp32": 1e-4, "TF32": 2e-2}
ALL_LOSSES = {"fp32": 5e-2, "TF32": None}
OTHER_KERNEL = "Sandybridge"  # of OpenBLAS, that any CPU with AVX can run

log = logging.getLogger(__name__)


def training(setting: Setting) -> Iterable[Row]:
    """Train as `make figures-run` does, on the CPU and on the GPU in all precisions, and compare the losses.

    Where the GPU is the CPU, the second training takes another of OpenBLAS's kernels.
    """
    try:
        lmdb = figures(setting.folder)
    except SelfieError as error:
        log.warning("no measurement of training: %s", error)
        return
    count = 3 if setting.quick else 20
    on_cpu = losses(setting, lmdb, count, "cpu")
    for precision in setting.precisions:
        name = "another CPU kernel" if setting.gpu is None else f"GPU {precision}"
        variable = ("OPENBLAS_CORETYPE", OTHER_KERNEL) if setting.gpu is None else ("CAFFE_TF32", PRECISIONS[precision])
        other = losses(setting, lmdb, count, name, setting.gpu, **dict([variable]))
        first = max(difference([ours], [theirs]) for ours, theirs in zip(on_cpu[:2], other[:2]))
        title = f"squeezenet, {name} against CPU: first two losses, difference"
        yield Row("training", title, "relative", first, wanted=FIRST_LOSSES[precision])
        title = f"squeezenet, {name} against CPU: largest difference of {len(on_cpu)} losses over their mean"
        detail = {"cpu": on_cpu, name: other}
        whole = difference(on_cpu, other)
        yield Row("training", title, "relative", whole, wanted=ALL_LOSSES[precision], detail=detail)


def figures(folder: Path) -> Path:
    """Build the raw database of the published tiles, and fetch SqueezeNet's weights; the database's folder.

    SelfieError if figures or weights cannot be had.
    """
    out = folder / "figures"
    command("tools/fetch_weights.py", "squeezenet")
    command("tools/cut_figures.py", "--out", out)
    inputs = ("--labels", out / "labels.csv", "--images", out / "tiles")
    command("tools/make_lmdb.py", *inputs, "--out", out / "lmdb", "--raw", "--force")
    return out / "lmdb"


def losses(
    setting: Setting, lmdb: Path, count: int, name: str, gpu: int | None = None, **environment: str
) -> list[float]:
    """Train with one seed; the training loss of each of the first `count` iterations.

    On the CPU by Caffe's own convolutions, since oneDNN's Winograd rounds more.
    """
    run = setting.folder / "runs" / name.replace(" ", "_")
    changes = {"max_iter": count, "display": 1, "average_loss": 1, "snapshot": count, "test_initialization": "false"}
    command(
        "tools/train.py",
        *("--variant", "squeezenet", "--lmdb", lmdb),
        *("--run", run, "--replace"),
        *([] if gpu is None else ["--gpu", gpu]),
        *(["--batch", 8] if setting.quick else []),
        *(word for field, value in changes.items() for word in ("--set", f"{field}={value}")),
        **{"CAFFE_ONEDNN": "0", **environment},
    )
    return tables.inferred(run / "metrics.csv")["train_loss"].drop_nulls().to_list()


def difference(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the largest |actual - expected| over the mean of `expected`; RuntimeError if the lengths differ."""
    if len(expected) != len(actual) or not expected:
        raise RuntimeError(f"{len(expected)} losses on one side, {len(actual)} on the other")
    return max(abs(b - a) for a, b in zip(expected, actual)) / statistics.mean(expected)
