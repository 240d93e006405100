"""Groups `first`, `crops`, `memory` and `errors` of the GPU benchmark: what a first meeting with a GPU has to answer.

On the CPU (setting.gpu None) the same code runs with a small net; there the second answers are the CPU's again.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.common.worker import OutOfMemory, Worker

log = logging.getLogger(__name__)

# How far a blob's values on the GPU may be from those on the CPU, over the largest of them.
ANSWERS = {"fp32": 1e-4, "TF32": 2e-2}
# Modules that a machine with PyTorch may lack; polars and OpenCV are too large to carry along.
PRODUCTS = ("lmdb", "polars", "cv2", "PIL", "tqdm")
SPARE = 2 << 30  # bytes that are left of a GPU's memory for a training that takes more


def first(setting: Setting) -> Iterable[Row]:
    """Import Caffe, compute one batch of two nets, and compare all blobs with the CPU's: what all else rests on.

    The CPU computes by Caffe's own convolutions there, since Winograd's round more.
    """
    for name in ("squeezenet", setting.variant.name):
        expected, _ = answers(name, None, "fp32", CAFFE_ONEDNN="0")
        for precision in setting.precisions:
            actual, seconds = answers(name, setting.gpu, precision)
            yield Row("first", f"import and first forward pass, {name}, {precision}", "s", seconds)
            title = f"answers of {name}, {precision}, against the CPU: largest difference of a blob"
            found = differences(expected, actual)
            yield Row("first", title, "relative", max(found.values()), wanted=ANSWERS[precision], detail=found)


def answers(variant: str, gpu: int | None, precision: str, **environment: str) -> tuple[dict[str, np.ndarray], float]:
    """Return all blobs of a batch of two, from the same weights and pictures each time, and the seconds it took."""
    begin = time.perf_counter()
    environment["CAFFE_TF32"] = PRECISIONS[precision]
    with Worker(sys.executable, "bench.caffe_peer", **environment) as caffe, tempfile.TemporaryDirectory() as folder:
        caffe.ask("hello", gpu=gpu)
        caffe.ask("prepare", variant=variant, batch=2, training=False)
        caffe.ask("forward", count=1)
        seconds = time.perf_counter() - begin
        file = Path(folder, "blobs.npz")
        names = caffe.ask("answers", file=str(file))["blobs"]
        with np.load(file) as values:
            return {name: values[name] for name in names}, seconds


def differences(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return for each blob the largest |actual - expected| over the largest |expected|; infinite where one is NaN.

    RuntimeError unless both have the same blobs.
    """
    if list(expected) != list(actual):
        raise RuntimeError(f"blobs {', '.join(expected)} on one side, {', '.join(actual)} on the other")
    found = {
        name: float(np.abs(actual[name] - values).max() / np.abs(values).max()) for name, values in expected.items()
    }
    return {name: value if np.isfinite(value) else np.inf for name, value in found.items()}


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
        said["vgg16, training, 2 GiB of memory"] = _without_memory(setting.gpu)
    good = sum(bool(line) for line in said.values())
    yield Row("errors", "mistakes that end in one line", "mistakes", good, wanted=len(said), detail=said)


def missing_packages() -> list[str]:
    """List those of PRODUCTS that this Python has not."""
    return [name for name in PRODUCTS if importlib.util.find_spec(name) is None]


def _without_memory(gpu: int) -> str:
    """Return the line with which a training ends that the GPU has no room for any more; "" if it ends otherwise.

    A batch that no GPU has room for would not do: an int counts the numbers of a blob, up to 668 pictures of VGG16.
    """
    try:
        with Worker(sys.executable, "bench.caffe_peer") as caffe:
            caffe.ask("hello", gpu=gpu)
            caffe.ask("take", spare=SPARE)
            caffe.ask("prepare", variant="vgg16", batch=32, training=True)
            caffe.ask("training", count=1)
    except OutOfMemory as error:
        return str(error) if "\n" not in str(error) else ""
    except SelfieError as error:
        log.warning("a training without memory ended otherwise: %s", error)
    return ""


def _one_line(words: Sequence[object]) -> str:
    """Return the one line on stderr with which a command fails; "" if it does not fail, or in another way."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=paths.ROOT, capture_output=True, text=True, errors="replace"
    )
    return done.stderr.strip() if done.returncode in (1, 2) and done.stderr.count("\n") == 1 else ""
