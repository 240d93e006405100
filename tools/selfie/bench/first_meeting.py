"""Groups `first`, `crops`, `memory` and `errors` of the GPU benchmark: what a first meeting with a GPU has to answer.

On the CPU (setting.gpu None) the same code runs with a small net; there the second answers are the CPU's again.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

import numpy as np

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.bench.workload import make_run, photograph
from selfie.common import paths
from selfie.common.worker import OutOfMemory, Worker
from selfie.experiments import crop_space
from selfie.experiments.crops import Searcher

log = logging.getLogger(__name__)

ANSWERS = {"fp32": 1e-4, "TF32": 2e-2}  # how far the GPU's answers may be from the CPU's, of the largest value


def first(setting: Setting) -> Iterable[Row]:
    """Import Caffe, compute one batch, and compare it with the CPU's: what all else rests on."""
    name = setting.variant.name
    expected, _ = answers(setting, None, "fp32")
    for precision in setting.precisions:
        actual, seconds = answers(setting, setting.gpu, precision)
        yield Row("first", f"import and first forward pass, {name}, {precision}", "s", seconds)
        title = f"answers of {name}, {precision}, against the CPU: largest difference"
        difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
        yield Row("first", title, "relative", difference, wanted=ANSWERS[precision])


def answers(setting: Setting, gpu: int | None, precision: str) -> tuple[np.ndarray, float]:
    """Return the last blob of a batch of two, from the same weights and pictures each time, and the seconds it took."""
    begin = time.perf_counter()
    with Worker(sys.executable, "bench.caffe_peer", CAFFE_TF32=PRECISIONS[precision]) as caffe:
        caffe.ask("hello", gpu=gpu)
        caffe.ask("prepare", variant=setting.variant.name, batch=2, training=False)
        caffe.ask("forward", count=1)
        seconds = time.perf_counter() - begin
        return np.array(caffe.ask("answers")["values"]), seconds


def crops(setting: Setting) -> Iterable[Row]:
    """Search the best crop densely, beside the CPU."""
    run = make_run(setting.folder, "demo" if setting.quick else "squeezenet")
    photo = photograph("astronaut.png")
    space = crop_space.space(photo, run.preprocessing.crop)
    seconds, best = {}, {}
    for name, gpu in (("CPU", None), ("GPU", setting.gpu)):
        searcher = Searcher(run, gpu)
        searcher.search(photo, space)  # algorithms are chosen, memory is there
        result = searcher.search(photo, space)
        seconds[name], best[name] = result.seconds, result.best[0][1]
    title = f"best crop, dense search, {run.info['variant']}"
    detail = {"seconds": seconds, "best scores": best}
    yield Row(
        "crops", title, "s", seconds["GPU"], seconds["CPU"], "CPU", seconds["CPU"] / seconds["GPU"], detail=detail
    )


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
    """Ask for GPUs that cannot be used: each has to end in one line."""
    run = make_run(setting.folder, "demo")
    wrong = [
        ["tools/score.py", "--run", run.folder, "--gpu", 99, paths.PROTOTXT],
        ["tools/train.py", "--variant", "demo", "--gpu", "99,100", "--run", setting.folder / "runs" / "nowhere"],
        ["tools/train.py", "--variant", "demo", "--gpu", "0,0", "--run", setting.folder / "runs" / "nowhere"],
    ]
    said = {" ".join(map(str, words)): _one_line(words) for words in wrong}
    good = sum(bool(line) for line in said.values())
    yield Row("errors", "mistakes that end in one line", "mistakes", good, wanted=len(said), detail=said)


def _one_line(words: Sequence[object]) -> str:
    """Return the one line on stderr with which a command fails; "" if it does not fail, or in another way."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=paths.ROOT, capture_output=True, text=True, errors="replace"
    )
    return done.stderr.strip() if done.returncode in (1, 2) and done.stderr.count("\n") == 1 else ""
