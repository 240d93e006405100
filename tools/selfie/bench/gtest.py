"""Group `gtest` of the GPU benchmark: upstream's own tests, on a GPU those of the GPU, too."""

from __future__ import annotations

import logging
import os
import re
import subprocess
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
    result = run_gtest(binary, folder, chosen, shards, setting.folder / "gtest", setting.gpu)
    for name in result["failed"]:
        log.warning("failed: %s", name)
    yield Row("gtest", "upstream's tests that pass", "tests", result["passed"], wanted=result["all"], detail=result)


def upstream_tests() -> tuple[Path, Path]:
    """Return (the test program of the Caffe in use, the folder from which it finds its data)."""
    inside = pycaffe.in_wheel("caffe/tests/test.testbin")
    if inside:
        return inside, inside.parent
    installed = pycaffe.CAFFE.resolve().parents[1]
    return installed.parent / "test" / "test.testbin", pycaffe.source(installed)


def run_gtest(binary: Path, folder: Path, chosen: str, shards: int, logs: Path, gpu: int | None = None) -> dict:
    """Run the `chosen` tests in `shards` processes: {"all": how many, "passed": how many, "failed": names}.

    What they print goes to the folder `logs` as it comes, so that it is there when they are cut off.

    In full precision: the numeric gradients of the tests, differences of 1 %, are lost in TF32's rounding. SelfieError
    where one of the processes ends before it says what it will run.
    """
    command = [str(binary), f"--gtest_filter={chosen}", *([] if gpu is None else [str(gpu)])]

    logs.mkdir(parents=True, exist_ok=True)

    def run(shard: int) -> int:
        variables = {"CAFFE_TF32": "0", "GTEST_TOTAL_SHARDS": str(shards), "GTEST_SHARD_INDEX": str(shard)}
        with (logs / f"{shard}.txt").open("w") as said, (logs / f"{shard}.stderr.txt").open("w") as errors:
            environment = {**os.environ, **variables}
            return subprocess.run(command, cwd=folder, env=environment, stdout=said, stderr=errors).returncode

    codes = list(parallel.threads(run, range(shards), shards))
    outputs = [(logs / f"{shard}.txt").read_text(errors="replace") for shard in range(shards)]
    for shard, (code, output) in enumerate(zip(codes, outputs)):
        if not re.search(PLANNED, output, re.MULTILINE):
            words = (logs / f"{shard}.stderr.txt").read_text(errors="replace")
            raise failure("upstream's tests failed", last_words(words, code))
    text = "\n".join(outputs)
    planned, begun, passed = (re.findall(pattern, text, re.MULTILINE) for pattern in (PLANNED, BEGUN, PASSED))
    return {
        "all": sum(map(int, planned)),
        "passed": len(passed),
        "failed": sorted(set(begun) - set(passed)),
        "exit codes": codes,
    }
