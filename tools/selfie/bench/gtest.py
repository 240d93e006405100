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
BEGUN, PASSED = r"^\[ RUN      \] (\S+)", r"^\[       OK \] (\S+)"

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
    """Run the `chosen` tests in `shards` processes at a time, and end those that are not done after `seconds`.

    Where a test takes its process down, as a fault of the GPU does, another goes on behind it. Returns {"all": how
    many, "passed": how many, "failed": names, "cut off": amid which it was ended, "ends": how often a process died}.
    What they print goes to the folder `logs` as it comes.

    In full precision: the numeric gradients of the tests, differences of 1 %, are lost in TF32's rounding. SelfieError
    where the program does not tell its tests.
    """
    environment = {**os.environ, "CAFFE_TF32": "0", **_cuda_places()}
    if shards > 1:  # each has a core
        environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    end = None if seconds is None else time.monotonic() + seconds
    names = _listed(binary, folder, chosen, environment)
    logs.mkdir(parents=True, exist_ok=True)

    def run(shard: int) -> Shard:
        done = Shard(names[shard::shards], logs / f"{shard}.txt")
        done.run([str(binary), *([] if gpu is None else [str(gpu)])], folder, environment, end)
        return done

    done = list(parallel.threads(run, range(shards), shards))
    return {
        "all": len(names),
        "passed": sum(len(shard.passed) for shard in done),
        "failed": sorted(name for shard in done for name in shard.begun if name not in {*shard.passed, shard.cut_off}),
        "cut off": [shard.cut_off for shard in done if shard.cut_off],
        "ends": sum(shard.ends for shard in done),
    }


def _listed(binary: Path, folder: Path, chosen: str, environment: dict[str, str]) -> list[str]:
    """List the names of the `chosen` tests; SelfieError with the program's last words if it tells none."""
    command = [str(binary), f"--gtest_filter={chosen}", "--gtest_list_tests"]
    told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
    names, suite = [], ""
    for line in told.stdout.splitlines():
        word, *_ = line.split() or [""]
        if line.startswith("  ") and suite:
            names.append(suite + word)
        else:
            suite = word if word.endswith(".") else ""
    if told.returncode or not names:
        raise failure("upstream's tests failed", last_words(told.stderr, told.returncode))
    return names


class Shard:
    """Tests that run one after the other: `begun` and `passed` are names, `cut_off` is one or ""."""

    def __init__(self, names: list[str], log: Path) -> None:
        self.names, self.log = names, log
        self.begun: list[str] = []
        self.passed: list[str] = []
        self.cut_off, self.ends = "", 0

    def run(self, command: list[str], folder: Path, environment: dict[str, str], end: float | None) -> None:
        """Run them until all have begun, or until the clock says `end`."""
        self.log.write_text("")
        while left := self.names[len(self.begun) :]:
            with self.log.open("a") as said, self.log.with_suffix(".stderr.txt").open("a") as errors:
                tests = f"--gtest_filter={':'.join(left)}"
                seconds = None if end is None else max(0.1, end - time.monotonic())
                try:
                    subprocess.run(
                        [*command, tests], cwd=folder, env=environment, stdout=said, stderr=errors, timeout=seconds
                    )
                except subprocess.TimeoutExpired:
                    self._read()
                    self.cut_off = "".join(self.begun[-1:]) if self.begun[-1:] != self.passed[-1:] else ""
                    return
            before = len(self.begun)
            self._read()
            if len(self.begun) == before:  # it does not even begin
                return
            self.ends += len(self.begun) < len(self.names)

    def _read(self) -> None:
        text = self.log.read_text(errors="replace")
        self.begun, self.passed = (re.findall(pattern, text, re.MULTILINE) for pattern in (BEGUN, PASSED))


def _cuda_places() -> dict[str, str]:
    """Say where a wheel's test program finds those of CUDA's libraries that are not beside it, as LD_LIBRARY_PATH."""
    places = pycaffe.in_wheel("caffe/_cuda_libraries.py")
    if places is None:
        return {}
    found = subprocess.run([sys.executable, str(places)], capture_output=True, text=True).stdout.strip()
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), found]))}
