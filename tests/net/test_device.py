"""GPUs that cannot be used are told in one line before Caffe would abort. No GPU is needed."""

from __future__ import annotations

import re
import shutil

import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.net import device, pycaffe, solver
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
    scratch = ("--variant", "demo", "--weights", "none", "--lmdb", lmdb)
    return [
        ("tools/train.py", *scratch, "--run", folder / "new", "--gpu", gpu),
        ("tools/score.py", "--run", run.folder, "--gpu", gpu, lmdb.parent / "images"),
    ]


def test_a_cpu_build_says_so(cpu_build, tiny_run, tiny_lmdb, tmp_path):
    """Training and scoring alike, and nothing is written."""
    for command in commands(tiny_run, tiny_lmdb, tmp_path, "0"):
        testlib.assert_one_line_error(testlib.command(*command), "built for the CPU only")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("gpu", ["0", "1"])
def test_a_gpu_build_without_a_driver_says_so(gpu_build_without_driver, tiny_run, tiny_lmdb, tmp_path, gpu):
    """The words are Caffe's (patch 0038)."""
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


# --- several GPUs ----------------------------------------------------------------------------------------------------


def test_each_gpu_takes_a_batch_and_epochs_count_all(tiny_lmdb, tmp_path):
    """64 selfies, 3 epochs: 6 iterations of 32 on one device, 3 on two GPUs; 12 in batches of 16; iter_size counts."""

    def iterations(**changes) -> int:
        job = testlib.job(tiny_lmdb, tmp_path / "run")
        del job.settings["max_iter"]
        job.epochs, settings = 3, changes.pop("settings", {})
        job.settings.update(settings)
        for name, value in changes.items():
            setattr(job, name, value)
        return solver.parse(prepare._solver_text(job, {"train": 64, "val": 24})).max_iter

    assert (iterations(), iterations(gpu="0"), iterations(gpu="0,1"), iterations(batch=16)) == (6, 6, 3, 12)
    assert iterations(batch=16, settings={"iter_size": "2"}) == 6


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
