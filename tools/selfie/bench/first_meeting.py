"""Groups `first`, `crops`, `memory` and `errors` of the GPU benchmark: what a first meeting with a GPU has to answer.

On the CPU (setting.gpu None) the same code runs with a small net; there the second answers are the CPU's again.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

import numpy as np

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.common import parallel, paths
from selfie.common.worker import OutOfMemory, Worker

log = logging.getLogger(__name__)

ANSWERS = {"fp32": 1e-4, "TF32": 2e-2}  # how far the GPU's answers may be from the CPU's, of the largest value
PRODUCTS = ("lmdb", "polars")  # packages that a machine with PyTorch may lack; polars is too large to carry along
TOO_LARGE = 2048  # pictures in a training batch of VGG16: some 250 GB


def first(setting: Setting) -> Iterable[Row]:
    """Import Caffe, compute one batch of two nets, and compare it with the CPU's: what all else rests on."""
    for name in ("squeezenet", setting.variant.name):
        expected, _ = answers(name, None, "fp32")
        for precision in setting.precisions:
            actual, seconds = answers(name, setting.gpu, precision)
            yield Row("first", f"import and first forward pass, {name}, {precision}", "s", seconds)
            title = f"answers of {name}, {precision}, against the CPU: largest difference"
            difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
            yield Row("first", title, "relative", difference, wanted=ANSWERS[precision])


def answers(variant: str, gpu: int | None, precision: str) -> tuple[np.ndarray, float]:
    """Return the last blob of a batch of two, from the same weights and pictures each time, and the seconds it took."""
    begin = time.perf_counter()
    with Worker(sys.executable, "bench.caffe_peer", CAFFE_TF32=PRECISIONS[precision]) as caffe:
        caffe.ask("hello", gpu=gpu)
        caffe.ask("prepare", variant=variant, batch=2, training=False)
        caffe.ask("forward", count=1)
        seconds = time.perf_counter() - begin
        return np.array(caffe.ask("answers")["values"]), seconds


def crops(setting: Setting) -> Iterable[Row]:
    """Search the best crop densely, beside the CPU."""
    if missing := missing_packages():
        log.warning("no measurement of crops: it needs %s, which this Python has not", " and ".join(missing))
        return
    variant, found = "demo" if setting.quick else "squeezenet", {}
    for name, gpu in (("CPU", None), ("GPU", setting.gpu)):
        with Worker(sys.executable, "bench.product_peer") as process:
            found[name] = process.ask("crop", folder=str(setting.folder), variant=variant, gpu=gpu)
    ours, peer = found["GPU"]["seconds"], found["CPU"]["seconds"]
    title = f"best crop, dense search, {variant}"
    yield Row("crops", title, "s", ours, peer, "CPU", peer / ours, detail=found)


def memory(setting: Setting) -> Iterable[Row]:
    """Take memory for scoring and for training, beside the estimate that refuses batches that cannot fit."""
    for training in (False, True):
        for batch in (2,) if setting.quick else (1, 32, 128):
            what = "training" if training else "scoring"
            try:
                taken, estimate = _memory(setting, batch, training)
            except OutOfMemory as error:
                log.warning("no measurement of %s, batch %d: %s", what, batch, error)
                continue
            title = f"memory of {setting.variant.name} {what}, batch {batch}"
            yield Row("memory", title, "MB", taken / 1e6, estimate / 1e6, "estimate", taken / estimate)


def _memory(setting: Setting, batch: int, training: bool) -> tuple[int, int]:
    """Return (bytes taken on the device, estimated)."""
    with Worker(sys.executable, "bench.caffe_peer") as caffe:
        caffe.ask("hello", gpu=setting.gpu)
        before = caffe.ask("memory")["taken"]
        caffe.ask("prepare", variant=setting.variant.name, batch=batch, training=training)
        caffe.ask("training" if training else "forward", count=1)
        asked = caffe.ask("memory")
        return asked["taken"] - before, asked["estimate"]


def errors(setting: Setting) -> Iterable[Row]:
    """Ask for GPUs that cannot be used, and for more memory than there is: each has to end in one line."""
    wrong: list[list[object]] = [
        ["tools/bench_gpu.py", "--device", number, "--only", "first"] for number in (99, "9" * 30)
    ]
    if missing := missing_packages():
        log.warning("score.py and train.py are not asked: they need %s", " and ".join(missing))
    else:
        with Worker(sys.executable, "bench.product_peer") as process:
            run = process.ask("run", folder=str(setting.folder), variant="demo")["folder"]
        nowhere = setting.folder / "runs" / "nowhere"
        wrong += [
            ["tools/score.py", "--run", run, "--gpu", 99, paths.PROTOTXT],
            ["tools/train.py", "--variant", "demo", "--gpu", "99,100", "--run", nowhere],
            ["tools/train.py", "--variant", "demo", "--gpu", "0,0", "--run", nowhere],
        ]
    said = {" ".join(map(str, words)): line for words, line in zip(wrong, parallel.threads(_one_line, wrong))}
    if setting.gpu is not None:
        said[f"vgg16, training, batch {TOO_LARGE}"] = _without_memory(setting.gpu)
    good = sum(bool(line) for line in said.values())
    yield Row("errors", "mistakes that end in one line", "mistakes", good, wanted=len(said), detail=said)


def missing_packages() -> list[str]:
    """List those of PRODUCTS that this Python has not."""
    return [name for name in PRODUCTS if importlib.util.find_spec(name) is None]


def _without_memory(gpu: int) -> str:
    """Return the line with which a training ends whose batch fits no GPU; "" if it ends otherwise."""
    try:
        with Worker(sys.executable, "bench.caffe_peer") as caffe:
            caffe.ask("hello", gpu=gpu)
            caffe.ask("prepare", variant="vgg16", batch=TOO_LARGE, training=True)
            caffe.ask("training", count=1)
    except OutOfMemory as error:
        return str(error)
    return ""


def _one_line(words: Sequence[object]) -> str:
    """Return the one line on stderr with which a command fails; "" if it does not fail, or in another way."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=paths.ROOT, capture_output=True, text=True, errors="replace"
    )
    return done.stderr.strip() if done.returncode in (1, 2) and done.stderr.count("\n") == 1 else ""
