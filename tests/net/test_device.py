"""GPUs that cannot be used, or are too small, are told in one line before Caffe would abort. No GPU is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import device, memory, pycaffe, solver
from selfie.net.device import Gpu
from selfie.net.memory import Need
from selfie.runs import prepare, train


@pytest.fixture
def cpu_build():
    """Skips where the Caffe in use was built for GPUs."""
    if pycaffe.is_gpu_build():
        testlib.skip("cpu-build", "this one is for GPUs")


@pytest.fixture
def gpu_build_without_driver():
    """Skips unless the Caffe in use was built for GPUs and there is none."""
    if not pycaffe.is_gpu_build():
        testlib.skip("gpu-build", "this one is for CPUs")
    if shutil.which("nvidia-smi"):
        testlib.skip("no-driver", "there is one")


@pytest.mark.parametrize("text", ["", "x", "-1", "0,", "0,0", "1,01", "0 1", "0, 1", "\u0663"])
def test_nonsense_is_no_gpu(text):
    """Caffe would take some of it for GPU 0."""
    with pytest.raises(SelfieError, match="give the number of a GPU"):
        device.ids(text)
    assert device.ids("1,0") == [1, 0]


def commands(run, lmdb, folder, gpu):
    """Commands that would compute on a GPU."""
    return [
        [
            "tools/train.py",
            "--variant",
            "demo",
            "--weights",
            "none",
            "--lmdb",
            lmdb,
            "--run",
            folder / "new",
            "--gpu",
            gpu,
        ],
        ["tools/score.py", "--run", run.folder, "--gpu", gpu, lmdb.parent / "images"],
    ]


def test_a_cpu_build_says_so(cpu_build, tiny_run, tiny_lmdb, tmp_path):
    """Training and scoring alike, and nothing is written."""
    for command in commands(tiny_run, tiny_lmdb, tmp_path, "0"):
        testlib.assert_one_line_error(testlib.command(*command), "built for the CPU only")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("gpu", ["0", "1"])
def test_a_gpu_build_without_a_driver_says_so(gpu_build_without_driver, tiny_run, tiny_lmdb, tmp_path, gpu):
    """The words are Caffe's (patch 0023)."""
    for command in commands(tiny_run, tiny_lmdb, tmp_path, gpu):
        testlib.assert_one_line_error(testlib.command(*command), f"GPU {gpu} cannot be used", "no NVIDIA driver")
    assert not (tmp_path / "new").exists()


def test_several_gpus_need_nccl(monkeypatch):
    """Caffe would say so after it has read everything."""
    monkeypatch.setattr(pycaffe, "check_gpu_build", lambda: None)
    if pycaffe.caffe().has_nccl():
        testlib.skip("no-nccl", "this one has it")
    with pytest.raises(SelfieError, match="NCCL"):
        device.check("0,1")


def test_the_question_is_asked_in_another_process(cpu_build):
    """Its error arrives here as one."""
    with pytest.raises(SelfieError, match="built for the CPU only"):
        device.look(0)


def test_a_driver_that_is_not_there_tells_no_memory(monkeypatch, caplog):
    """Nothing is refused on its account, and it is said."""
    if shutil.which("nvidia-smi"):
        testlib.skip("no-driver", "there is one")
    assert device.memory(0) == (0, 0) and "it is not checked" in caplog.text


def test_make_hands_gpus_and_batch_on():
    """make train GPU=0,1 BATCH=8; scoring takes the first."""
    for target, words in (("train", "--gpu 0,1"), ("train", "--batch 8"), ("score", "--gpu 0 ")):
        told = subprocess.run(["make", "-n", target, "GPU=0,1", "BATCH=8"], cwd=paths.ROOT, capture_output=True)
        assert words in told.stdout.decode()


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "mode", "batch"),
    [("demo", "training", 8), ("demo", "training", 64), ("demo", "scoring", 64), ("squeezenet", "scoring", 8)],
)
def test_the_estimate_is_what_caffe_takes(tiny_lmdb, variant, mode, batch):
    """On a CPU, within 5 %, with Caffe's own kernels: oneDNN's have other buffers."""
    result = testlib.command(
        "tests/measure_memory.py", variant, mode, batch, tiny_lmdb, env={**os.environ, "CAFFE_ONEDNN": "0"}
    )
    taken, expected = map(int, result.stdout.split())
    print(f"{variant} {mode} {batch}: {taken / 1e6:.0f} MB, expected {expected / 1e6:.0f} MB")
    assert taken == pytest.approx(expected, rel=0.05)


def test_what_does_not_fit_is_refused_with_the_batch_that_does():
    """12 GB, of which an eighth may be cuDNN's; the limits are inclusive."""
    need, card = Need(2_000_000_000, 100_000_000), Gpu("", 11_000_000_000, 12_000_000_000)
    memory.check(need, 90, 0, card, "training")
    with pytest.raises(
        SelfieError,
        match=r"GPU 0 .* training in batches of 91 needs about 11\.1 GB .* 11\.0 GB free; "
        r"a batch of 71 would fit",
    ):
        memory.check(need, 91, 0, card, "training")
    with pytest.raises(SelfieError, match="not even one"):
        memory.check(Need(20_000_000_000, 1), 1, 0, card, "training")
    memory.check(need, 91, 0, Gpu(), "training")  # a card that does not tell


def test_no_batch_is_offered_that_did_not_fit():
    """Where the estimate says that it fits, or a card does not tell, half of it is proposed."""
    need = Need(2_000_000_000, 100_000_000)
    assert memory.sentence(need, 32, Gpu("", 11_000_000_000, 12_000_000_000)).endswith("and more than that: try 16")
    assert memory.sentence(need, 32, Gpu()).endswith("is not known: try 16")


def test_the_workspace_is_counted_as_it_is_set(monkeypatch):
    """CAFFE_CUDNN_WORKSPACE_MB, or an eighth of the memory, at most 4 GiB."""
    monkeypatch.setenv("CAFFE_CUDNN_WORKSPACE_MB", "100")
    assert memory.workspace(80 << 30) == memory.HANDLES + (100 << 20)
    monkeypatch.delenv("CAFFE_CUDNN_WORKSPACE_MB")
    assert memory.workspace(8 << 30) == memory.HANDLES + (1 << 30)
    assert memory.workspace(80 << 30) == memory.HANDLES + (4 << 30)


@pytest.mark.parametrize(
    "line",
    [
        "Check failed: error == cudaSuccess (2 vs. 0)  out of memory",
        "out of GPU memory for 4096 MiB of cuDNN's workspace",
        "Check failed: status == CUBLAS_STATUS_SUCCESS (3) CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_a_training_that_runs_out_of_memory_names_a_batch(tiny_lmdb, tmp_path, monkeypatch, line):
    """Whatever of CUDA, Caffe and cuBLAS says it. Caffe is played by a program that ends as it would."""
    run = prepare.prepare(testlib.job(tiny_lmdb, tmp_path / "run")).save(gpu="0")
    log = f"F1126 01:02:03.000000 7 syncedmem.cpp:71] {line}"
    (tmp_path / "caffe").write_text(f'#!/bin/sh\necho "{log}" >&2\nexit 134\n')
    (tmp_path / "caffe").chmod(0o755)
    monkeypatch.setattr(pycaffe, "CAFFE", tmp_path / "caffe")
    monkeypatch.setattr(device, "look", lambda number: Gpu("", 600 << 20, 800 << 20))
    with pytest.raises(SelfieError, match=r"GPU 0 ran out of memory: .*; a batch of 10 would fit: .*--batch"):
        train._run_caffe(run, 0, None)


# --- several GPUs ----------------------------------------------------------------------------------------------------


def test_each_gpu_takes_a_batch_and_epochs_count_all(tiny_lmdb, tmp_path):
    """64 selfies, 3 passes: 6 steps of 32 on one device, 3 on two GPUs; 12 with batches of 16; iter_size counts."""

    def steps(**changes) -> int:
        job = testlib.job(tiny_lmdb, tmp_path / "run")
        del job.settings["max_iter"]
        job.epochs, settings = 3, changes.pop("settings", {})
        job.settings.update(settings)
        for name, value in changes.items():
            setattr(job, name, value)
        return solver.parse(prepare._solver_text(job, {"train": 64, "val": 24})).max_iter

    assert (steps(), steps(gpu="0"), steps(gpu="0,1"), steps(batch=16)) == (6, 6, 3, 12)
    assert steps(batch=16, settings={"iter_size": "2"}) == 6


def test_a_batch_of_ones_own_is_in_the_net_that_is_trained(tiny_lmdb, tmp_path):
    """The training phase's; validation keeps its own."""
    job = testlib.job(tiny_lmdb, tmp_path / "run")
    job.batch = 8
    run = train.train(job)
    text = (run.folder / "train_val.prototxt").read_text()
    assert run.info["batch"] == 8 and re.findall(r"batch_size: (\d+)", text) == ["8", "50"]
    job = testlib.job(tiny_lmdb, tmp_path / "other")
    job.batch = 0
    with pytest.raises(SelfieError, match="at least 1"):
        prepare.prepare(job)
