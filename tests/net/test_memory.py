"""The memory that a net will need: compared with what Caffe takes, and with a small net counted by hand."""

from __future__ import annotations

import os

import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffe_net, device, memory, pycaffe, variants
from selfie.net.device import Gpu
from selfie.net.memory import Need
from selfie.runs import prepare, train

K40_BYTES = 12 * 1000**3 - 500_000_000  # 12 GB less what the driver, the CUDA context and cuBLAS take

# With a pool whose output two layers read, a convolution that needs no column buffer, and a ReLU in place.
SMALL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "one" type: "Convolution" bottom: "pool" top: "one" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
"""


def test_a_small_net_counted_by_hand(tmp_path):
    """Numbers of 4 bytes, for a batch of 2: weights and columns, blobs, indices of maxima, gradients."""
    (tmp_path / "net.prototxt").write_text(SMALL)
    net = caffe_net.load(tmp_path / "net.prototxt")
    weights = (4 * 27 + 4) + (2 * 4 + 2) + (3 * 64 + 3)
    columns = 27 * 8 * 8
    data, conv, pool, one, fc = 2 * 3 * 64, 2 * 4 * 64, 2 * 4 * 16, 2 * 2 * 16, 2 * 3
    blobs = conv + pool + one + fc + pool  # the last: where in its window each maximum was
    scoring = memory.scoring(net)
    assert (scoring.fixed, scoring.total(2)) == (4 * (weights + columns), 4 * (weights + columns + data + blobs))
    ahead = 4 * data  # a Data layer reads four batches ahead
    gradients = conv + 3 * pool + one + fc  # Caffe splits the pool's output: a gradient from each reader, and their sum
    test_net = (blobs + ahead) * 5 // 2 + columns  # in batches of 5
    training = memory.training(net, test_batch=5)
    assert training.fixed == 4 * (3 * weights + columns + test_net)  # weights, their gradients, momentum
    assert training.per_picture * 2 == 4 * (blobs + gradients + ahead)
    adam = memory.training(net, test_batch=5, history=2)
    assert adam.fixed - training.fixed == 4 * weights


def test_vgg16_and_its_solver_fit_a_k40():
    """The post's card has 12 GB; the batch of the post's time is the one in the prototxt."""
    vgg16 = variants.get("vgg16")
    need = memory.training(caffe_net.load(paths.PROTOTXT / "vgg16" / "deploy.prototxt"), vgg16.test_batch)
    print(f"training vgg16 needs {need.total(vgg16.batch) / 1e9:.1f} GB")
    assert vgg16.batch <= need.largest_batch(K40_BYTES) < 4 * vgg16.batch


@pytest.mark.parametrize(
    ("variant", "mode", "batch"),
    [("demo", "training", 8), ("demo", "training", 64), ("demo", "scoring", 64), ("squeezenet", "scoring", 8)],
)
def test_the_estimate_is_what_caffe_takes(tiny_lmdb, variant, mode, batch):
    """On a CPU, within 5 %, with Caffe's own kernels: oneDNN's have other buffers."""
    result = testlib.command(
        "tests/net/measure_memory.py", variant, mode, batch, tiny_lmdb, env={**os.environ, "CAFFE_ONEDNN": "0"}
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
        train._run_caffe(run, 0, None, lock=0)
