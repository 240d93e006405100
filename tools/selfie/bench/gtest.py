"""Group `gtest` of the GPU benchmark: upstream's own tests, on a GPU those of the GPU, too."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from selfie.bench.gpu_setting import Setting
from selfie.bench.record import Row
from selfie.common import parallel, paths
from selfie.common.worker import failure, last_words
from selfie.net import pycaffe

WITHOUT_GPU = paths.ROOT / "docker" / "gtest-without-gpu.txt"  # the filter for what runs anywhere
SHARDS = 16  # of upstream's tests at a time: most of them leave a GPU nearly idle
QUICK = "SoftmaxLayerTest*:SyncedMemoryTest*"
PLANNED, BEGUN, PASSED = r"^\[=+\] Running (\d+) tests?", r"^\[ RUN      \] (\S+)", r"^\[       OK \] (\S+)"

log = logging.getLogger(__name__)


def gtest(setting: Setting) -> Iterable[Row]:
    """Run upstream's tests; how many pass, and how many there are."""
    binary, folder = upstream_tests()
    if not binary.exists():
        log.warning("no upstream tests: %s is not here (`make caffe-test` builds it; docs/gpu.md: a wheel)", binary)
        return
    left_out = "" if setting.gpu is not None else WITHOUT_GPU.read_text().strip()
    chosen = (QUICK if setting.quick else "*") + left_out
    shards = 1 if setting.quick else min(SHARDS, parallel.cores())
    result = run_gtest(binary, folder, chosen, shards, setting.folder / "gtest", setting.gpu, setting.seconds)
    for name in result["failed"]:
        log.warning("failed: %s", name)
    if result["cut off"]:
        log.warning(
            "not done in %d s: %d tests", setting.seconds, result["all"] - result["passed"] - len(result["failed"])
        )
    yield Row("gtest", "upstream's tests that pass", "tests", result["passed"], wanted=result["all"], detail=result)


def upstream_tests() -> tuple[Path, Path]:
    """Return (the test program of the Caffe in use, the folder from which it finds its data)."""
    inside = pycaffe.in_wheel("caffe/tests/test.testbin")
    if inside:
        return inside, inside.parent
    installed = pycaffe.CAFFE.resolve().parents[1]
    return installed.parent / "test" / "test.testbin", pycaffe.source(installed)


def run_gtest(
    binary: Path,
    folder: Path,
    chosen: str,
    shards: int,
    logs: Path,
    gpu: int | None = None,
    seconds: float | None = None,
) -> dict:
    """Run the `chosen` tests in `shards` processes, and end those that are not done after `seconds`.

    Returns {"all": how many, "passed": how many, "failed": names, "cut off": names of those amid which it ended,
    "exit codes": of the processes, None for one that was ended}. What they print goes to the folder `logs` as it comes.

    In full precision: the numeric gradients of the tests, differences of 1 %, are lost in TF32's rounding. SelfieError
    where one of the processes ends before it says what it will run.
    """
    command = [str(binary), f"--gtest_filter={chosen}", *([] if gpu is None else [str(gpu)])]
    end = None if seconds is None else time.monotonic() + seconds
    shared = {**os.environ, "CAFFE_TF32": "0", "GTEST_TOTAL_SHARDS": str(shards), **_cuda_places()}
    if shards > 1:  # each has a core
        shared.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

    logs.mkdir(parents=True, exist_ok=True)

    def run(shard: int) -> int | None:
        with (logs / f"{shard}.txt").open("w") as said, (logs / f"{shard}.stderr.txt").open("w") as errors:
            environment = {**shared, "GTEST_SHARD_INDEX": str(shard)}
            left = None if end is None else max(0.1, end - time.monotonic())
            try:
                return subprocess.run(
                    command, cwd=folder, env=environment, stdout=said, stderr=errors, timeout=left
                ).returncode
            except subprocess.TimeoutExpired:
                return None

    codes = list(parallel.threads(run, range(shards), shards))
    outputs = [(logs / f"{shard}.txt").read_text(errors="replace") for shard in range(shards)]
    for shard, (code, output) in enumerate(zip(codes, outputs)):
        if code is not None and not re.search(PLANNED, output, re.MULTILINE):
            words = (logs / f"{shard}.stderr.txt").read_text(errors="replace")
            raise failure("upstream's tests failed", last_words(words, code))
    text = "\n".join(outputs)
    planned, begun, passed = (re.findall(pattern, text, re.MULTILINE) for pattern in (PLANNED, BEGUN, PASSED))
    last = [re.findall(BEGUN, output, re.MULTILINE)[-1:] for code, output in zip(codes, outputs) if code is None]
    cut_off = {name for names in last for name in names} - set(passed)
    return {
        "all": sum(map(int, planned)),
        "passed": len(passed),
        "failed": sorted(set(begun) - set(passed) - cut_off),
        "cut off": sorted(cut_off),
        "exit codes": codes,
    }


def _cuda_places() -> dict[str, str]:
    """Say where a wheel's test program finds those of CUDA's libraries that are not beside it, as LD_LIBRARY_PATH."""
    places = pycaffe.in_wheel("caffe/_cuda_libraries.py")
    if places is None:
        return {}
    found = subprocess.run([sys.executable, str(places)], capture_output=True, text=True).stdout.strip()
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), found]))}
