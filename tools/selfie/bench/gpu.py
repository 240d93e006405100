"""What `make bench-gpu` measures on a GPU: Caffe beside PyTorch on the same card, beside itself on the CPU, and right.

Groups, as in `bench`, are functions that return rows. Caffe and PyTorch run in processes of their own, so that neither
holds memory that the other wants, and take turns. On the CPU (`gpu` None) the same code runs with small nets: that
tries the benchmark itself where there is no GPU.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfie.bench.record import Row, describe_machine, in_turns, median_ratio, record_groups
from selfie.bench.workload import command
from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.common.worker import OutOfMemory, Worker, failure, last_words
from selfie.net import architectures, pycaffe, variants
from selfie.net.prototxt import dump
from selfie.net.variants import Variant
from selfie.runs import run_folder

# The precisions that both sides know, and what CAFFE_TF32 is for them.
PRECISIONS = {"TF32": "1", "fp32": "0"}
# How far the losses of a training on the GPU may be from those on the CPU. Another OpenBLAS kernel on a CPU, which only
# rounds otherwise, changes the first two losses (before and after one update) by 1e-5, but the change grows step by
# step, to 1.2e-2 of the mean loss in 20 iterations. TF32 rounds to 11 bits, fp32 to 24: only its first losses compare.
FIRST_LOSSES = {"fp32": 1e-4, "TF32": 2e-2}
ALL_LOSSES = {"fp32": 5e-2, "TF32": None}
OTHER_KERNEL = "Sandybridge"  # of OpenBLAS, that any CPU with AVX can run
SECONDS = 0.5  # of work between two clock readings
WITHOUT_GPU = paths.ROOT / "docker" / "gtest-without-gpu.txt"  # the filter for what runs anywhere
SHARDS = 8  # of upstream's tests at a time: most of them leave a GPU nearly idle

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """Where the benchmark's files are, whether it is the short one, on which GPU (None: the CPU), and the Python that
    has PyTorch, where a group needs it."""

    folder: Path
    quick: bool
    gpu: int | None
    torch: str | None = None

    @property
    def device(self) -> str:
        """In PyTorch's words."""
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    @property
    def variant(self) -> Variant:
        return variants.get("demo" if self.quick else "vgg16")

    @property
    def precisions(self) -> list[str]:
        """A CPU has no TF32."""
        return ["fp32"] if self.gpu is None else list(PRECISIONS)

    @property
    def caffe_flags(self) -> list[str]:
        return [] if self.gpu is None else ["-gpu", str(self.gpu)]


def find_torch(given: str | None = None) -> str:
    """A Python that has PyTorch: `given`, or this one, or the first on the PATH. SelfieError if none has."""
    for python in [given] if given else [sys.executable, shutil.which("python3")]:
        if python is None or not shutil.which(python):
            continue
        question = "import importlib.util as i, sys; sys.exit(i.find_spec('torch') is None)"
        if subprocess.run([python, "-c", question], capture_output=True).returncode == 0:
            return python
    raise SelfieError(
        f"PyTorch, the peer, is not in {given or 'this Python nor in the first on the PATH'}: pip "
        "install -r requirements-bench.txt, or --torch PYTHON, or --only layers training gtest"
    )


# --- groups ----------------------------------------------------------------------------------------------------------


def layers(setting: Setting) -> Iterable[Row]:
    """Caffe's own measurement: `caffe time`, layer by layer (it waits for each, so the sum is more than a pass)."""
    batch, count = (2, 2) if setting.quick else (32, 20)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(dump(architectures.with_input(setting.variant, batch, training=True)))
        file.flush()
        for precision in setting.precisions:
            try:
                found = caffe_time(file.name, count, setting.caffe_flags, precision)
            except OutOfMemory as error:
                log.warning("no measurement of layers, %s: %s", precision, error)
                continue
            for name in ("Forward pass", "Backward pass"):
                yield Row(
                    "layers",
                    f"caffe time, {setting.variant.name}, batch {batch}, {precision}: {name.lower()}",
                    "ms",
                    found[name],
                    detail=found,
                )


def caffe_time(model: str, count: int, flags: list[str], precision: str) -> dict:
    """{"Forward pass": ms, "Backward pass": ms, "layers": {name: {"forward": ms, "backward": ms}}} of a net."""
    done = subprocess.run(
        [pycaffe.binary(), "time", "-model", model, "-iterations", str(count), *flags],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**os.environ, "CAFFE_TF32": PRECISIONS[precision], "GLOG_minloglevel": "0"},
    )
    if done.returncode:
        raise failure("caffe time failed", last_words(done.stderr, done.returncode))
    return parse_caffe_time(done.stderr)


def parse_caffe_time(text: str) -> dict:
    """What `caffe time` logged."""
    found: dict = {"layers": {}}
    for name, way, ms in re.findall(r"\] +(\S+)\t(forward|backward): ([\d.e+-]+) ms\.", text):
        found["layers"].setdefault(name, {})[way] = float(ms)
    for name, ms in re.findall(r"Average (Forward pass|Backward pass): ([\d.e+-]+) ms\.", text):
        found[name] = float(ms)
    return found


def vgg16(setting: Setting) -> Iterable[Row]:
    """Scoring and training beside PyTorch, in both precisions, and what share of the card's matrix rate that is."""
    for precision in setting.precisions:
        rate = matrix_rate(setting, precision)
        yield Row("vgg16", f"matrix product of {precision} in PyTorch", "TFLOP/s", rate / 1e12)
        for training in (False, True):
            rows = list(_duels(setting, precision, training, rate))
            yield from rows
            if rows:
                best = max(rows, key=lambda row: row.ours)
                yield Row(
                    "vgg16",
                    f"{best.what}: share of the matrix rate",
                    "%",
                    100 * best.detail["share"],
                    100 * best.detail["share"] / best.ours * best.peer,
                    best.peer_name,
                )


def matrix_rate(setting: Setting, precision: str) -> float:
    """FLOP/s of a large product of float32 matrices on this device, by PyTorch: the median of five."""
    size, count = (512, 2) if setting.quick else (8192, 10)
    with Worker(setting.torch, "bench.torch_peer") as peer:
        peer.ask("hello", device=setting.device, tf32=precision == "TF32")
        seconds = statistics.median(peer.ask("matrix", size=size, count=count)["seconds"] for _ in range(5))
    return 2 * size**3 * count / seconds


def _duels(setting: Setting, precision: str, training: bool, rate: float) -> Iterator[Row]:
    for batch in (2, 4) if setting.quick else (32, 64, 128):
        mode = "training" if training else "forward"
        what = f"{setting.variant.name} {mode}, batch {batch}, {precision}"
        log.info("%s", what)
        try:
            yield duel(setting, precision, training, batch, rate, what)
        except OutOfMemory as error:
            log.warning("no measurement of %s: %s", what, error)


def duel(setting: Setting, precision: str, training: bool, batch: int, rate: float, what: str) -> Row:
    """Caffe and PyTorch, in both its layouts, on the same net in turns; the better layout is the peer."""
    mode, variant = "training" if training else "forward", setting.variant
    with (
        Worker(sys.executable, "bench.caffe_peer", CAFFE_TF32=PRECISIONS[precision]) as ours,
        Worker(setting.torch, "bench.torch_peer") as peer,
    ):
        ours.ask("hello", gpu=setting.gpu)
        peer.ask("hello", device=setting.device, tf32=precision == "TF32")
        about = ours.ask("prepare", variant=variant.name, batch=batch, training=training)
        theirs = peer.ask(
            "prepare", chain=architectures.chain(variant), batch=batch, side=variant.crop, classes=variant.classes
        )
        if theirs["parameters"] != about["parameters"]:
            raise RuntimeError(f"not the same net: {about['parameters']} and {theirs['parameters']} parameters")
        contenders = {
            "ours": partial(ours.ask, mode),
            **{layout: partial(peer.ask, mode, layout=layout) for layout in ("contiguous", "channels_last")},
        }
        count = _warm_up(contenders.values(), setting)
        found = in_turns(
            2 if setting.quick else 5,
            **{name: lambda _, go=go: count * batch / go(count=count)["seconds"] for name, go in contenders.items()},
        )
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    layout = max(("contiguous", "channels_last"), key=medians.get)
    flop = 2 * about[f"{mode}_macs"]
    return Row(
        "vgg16",
        what,
        "images/s",
        medians["ours"],
        medians[layout],
        f"PyTorch, {layout}",
        median_ratio(found["ours"], found[layout]),
        None if setting.quick else 1.0,
        {
            "rounds": found,
            "passes per round": count,
            "GFLOP per picture": flop / 1e9,
            "share": medians["ours"] * flop / rate,
        },
    )


def _warm_up(contenders: Iterable, setting: Setting) -> int:
    """Let each choose its algorithms; how many passes of the slowest take SECONDS."""
    slowest = 0.0
    for go in contenders:
        go(count=1)
        slowest = max(slowest, go(count=1)["seconds"])
    return 1 if setting.quick else max(1, min(50, round(SECONDS / slowest)))


def training(setting: Setting) -> Iterable[Row]:
    """SqueezeNet on the published tiles, as `make figures-run` trains it: the same losses on the GPU as on the CPU.

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
        detail = {"cpu": on_cpu, name: other}
        yield Row(
            "training",
            f"squeezenet, {name} against CPU: first two losses, difference",
            "relative",
            max(difference([a], [b]) for a, b in zip(on_cpu[:2], other[:2])),
            wanted=FIRST_LOSSES[precision],
        )
        yield Row(
            "training",
            f"squeezenet, {name} against CPU: largest difference of {len(on_cpu)} losses over their mean",
            "relative",
            difference(on_cpu, other),
            wanted=ALL_LOSSES[precision],
            detail=detail,
        )


def figures(folder: Path) -> Path:
    """The raw database of the published tiles, and SqueezeNet's weights in their place; SelfieError without figures."""
    out = folder / "figures"
    command("tools/fetch_weights.py", "squeezenet")
    command("tools/cut_figures.py", "--out", out)
    command(
        "tools/make_lmdb.py",
        "--labels",
        out / "labels.csv",
        "--images",
        out / "tiles",
        "--out",
        out / "lmdb",
        "--raw",
        "--force",
    )
    return out / "lmdb"


def losses(
    setting: Setting, lmdb: Path, count: int, name: str, gpu: int | None = None, **environment: str
) -> list[float]:
    """The training loss of each of the first `count` iterations, one seed; on the CPU by Caffe's own convolutions,
    since oneDNN's Winograd rounds more."""
    run = setting.folder / "runs" / name.replace(" ", "_")
    changes = {"max_iter": count, "display": 1, "average_loss": 1, "snapshot": count, "test_initialization": "false"}
    command(
        "tools/train.py",
        "--variant",
        "squeezenet",
        "--lmdb",
        lmdb,
        "--run",
        run,
        "--solver",
        paths.SOLVER / "figures.prototxt",
        "--replace",
        *([] if gpu is None else ["--gpu", gpu]),
        *(["--batch", 8] if setting.quick else []),
        *(word for change in changes.items() for word in ("--set", "{}={}".format(*change))),
        **{"CAFFE_ONEDNN": "0", **environment},
    )
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    column = lines[0].index("train_loss")
    return [float(line[column]) for line in lines[1:] if line[column]]


def difference(expected: list[float], found: list[float]) -> float:
    """The largest |found - expected|, over the mean of `expected`; RuntimeError if the lengths differ."""
    if len(expected) != len(found) or not expected:
        raise RuntimeError(f"{len(expected)} losses on one side, {len(found)} on the other")
    return max(abs(b - a) for a, b in zip(expected, found)) / statistics.mean(expected)


def gtest(setting: Setting) -> Iterable[Row]:
    """Upstream's own tests, on a GPU those of the GPU, too."""
    binary, folder = upstream_tests()
    if not binary.exists():
        log.warning("no upstream tests: %s is not here (`make caffe-test` builds it)", binary)
        return
    wanted = "SoftmaxLayerTest*:SyncedMemoryTest*" if setting.quick else "*"
    left_out = "" if setting.gpu is not None else WITHOUT_GPU.read_text().strip()
    found = run_gtest(
        binary, folder, wanted + left_out, 1 if setting.quick else min(SHARDS, parallel.cores()), setting.gpu
    )
    for name in found["failed"]:
        log.warning("failed: %s", name)
    yield Row("gtest", "upstream's tests that pass", "tests", found["passed"], wanted=found["all"], detail=found)


def upstream_tests() -> tuple[Path, Path]:
    """(the test program of the Caffe in use, the folder from which it finds its data)."""
    installed = pycaffe.CAFFE.resolve().parents[1]
    return installed.parent / "test" / "test.testbin", pycaffe.source(installed)


def run_gtest(binary: Path, folder: Path, chosen: str, shards: int, gpu: int | None = None) -> dict:
    """Run the `chosen` tests in `shards` processes: {"all": how many, "passed": how many, "failed": names}.

    In full precision: their gradients, told from differences of 1 %, are lost in TF32's rounding. SelfieError where one
    of the processes ends before it says what it will run.
    """
    command = [binary, f"--gtest_filter={chosen}", *([] if gpu is None else [str(gpu)])]
    environments = [
        {**os.environ, "CAFFE_TF32": "0", "GTEST_TOTAL_SHARDS": str(shards), "GTEST_SHARD_INDEX": str(shard)}
        for shard in range(shards)
    ]
    done = list(
        parallel.threads(
            lambda environment: subprocess.run(
                command, cwd=folder, env=environment, text=True, errors="replace", capture_output=True
            ),
            environments,
            shards,
        )
    )
    for one in done:
        if not re.search(r"^\[=+\] Running \d+ tests?", one.stdout, re.MULTILINE):
            raise failure("upstream's tests failed", last_words(one.stderr, one.returncode))
    text = "\n".join(one.stdout for one in done)
    planned, begun, passed = (
        re.findall(pattern, text, re.MULTILINE)
        for pattern in (r"^\[=+\] Running (\d+) tests?", r"^\[ RUN      \] (\S+)", r"^\[       OK \] (\S+)")
    )
    return {
        "all": sum(map(int, planned)),
        "passed": len(passed),
        "failed": sorted(set(begun) - set(passed)),
        "exit codes": [one.returncode for one in done],
    }


GROUPS = {function.__name__: function for function in (layers, vgg16, training, gtest)}


# --- all of it -------------------------------------------------------------------------------------------------------


def measure(setting: Setting, names: Iterable[str]) -> dict:
    """Measure groups into folder/bench_gpu.json, or bench_gpu_cpu.json of a trial on the CPU; the whole report."""
    name = "bench_gpu.json" if setting.gpu is not None else "bench_gpu_cpu.json"
    return record_groups(setting.folder / name, GROUPS, names, setting, lambda: machine(setting))


def machine(setting: Setting) -> dict:
    """What the numbers depend on."""
    found = {
        **describe_machine(),
        "versions": run_folder.versions(),
        "caffe build": pycaffe.CAFFE.resolve().parents[2].name,
    }
    if setting.torch:
        with Worker(setting.torch, "bench.torch_peer") as peer:
            found["peer"] = peer.ask("hello", device=setting.device, tf32=True)
    if setting.gpu is not None and shutil.which("nvidia-smi"):
        found["gpus"] = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    return found
