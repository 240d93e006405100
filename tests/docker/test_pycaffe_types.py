"""pycaffe's type stubs: a program that uses it passes a strict checker."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = """
from __future__ import annotations

import numpy as np

import caffe
from caffe import layers as L
from caffe import params as P


def lenet(lmdb: str) -> str:
    n = caffe.NetSpec()
    n.data, n.label = L.Data(batch_size=4, backend=P.Data.LMDB, source=lmdb, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20)
    return str(n.to_proto())


def score(path: str) -> float:
    caffe.set_mode_cpu()
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="w.caffemodel")
    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.array([104, 117, 123]))
    net.blobs["data"].reshape(1, 3, 227, 227)
    net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image(path))
    return float(net.forward()["prob"][0, 1])


def train() -> caffe.proto.caffe_pb2.NetParameter:
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(1)
    print(solver.test_nets[0].blobs["loss"].data, caffe.__version__, caffe.layer_type_list())
    caffe.Classifier("d", "w", mean=np.zeros(3), raw_scale=255, image_dims=(256, 256)).predict([np.zeros((9, 9, 3))])
    return caffe.proto.caffe_pb2.NetParameter()


try:
    score("x")
except caffe.Error as error:
    print(error)
"""
WRONG = """
caffe.Net(3)
caffe.io.load_image(3)
caffe.io.Transformer({}).set_means("data", 3)
caffe.Classifier("d").predict(3)
"""


def test_strict_checkers_know_pycaffe(tmp_path):
    """mypy --strict of a user's script: right use passes, each wrong one is found."""
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(TYPED + WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "mypy"]
    result = subprocess.run([*command, "right.py"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    result = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    first = len(TYPED.splitlines()) + 2
    found = {int(line) for line in re.findall(r"^wrong\.py:(\d+): error", result.stdout, re.M)}
    assert found == set(range(first, first + 4)), result.stdout


@pytest.mark.parametrize(
    "name", ["caffe", "caffe.io", "caffe.net_spec", "caffe.draw", "caffe.pycaffe", "caffe.coord_map"]
)
def test_what_the_stubs_name_is_there(name):
    module = importlib.import_module(name)
    stub = Path(module.__file__).with_suffix(".pyi").read_text()
    names = re.findall(r"^(?:from \S+ import \w+ as|def|class) (\w+)|^(\w+):", stub, re.M)
    assert names and all(hasattr(module, former or latter) for former, latter in names)
