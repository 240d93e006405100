"""Scripts, nets and habits of 2014 to 2020: they run, or one line says what to change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
from PIL import Image

from selfie.common import paths

DEPLOY = """
name: "small"
input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 32
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }
layer { name: "halves" type: "Convolution" bottom: "norm" top: "halves"
  convolution_param { num_output: 16 group: 2 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "halves" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
TRAINED = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
LAYER = 'layer {{ name: "odd" type: "{}" bottom: "fc" top: "odd" {} }}'
OLD = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 } }
"""


@pytest.fixture
def deploy(tmp_path) -> Path:
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    return tmp_path / "deploy.prototxt"


@pytest.fixture
def weights(deploy) -> Path:
    path = deploy.with_name("w.caffemodel")
    caffe.Net(str(deploy), caffe.TEST).save(str(path))
    return path


def refusal(work, kind: type[Exception] = caffe.Error) -> str:
    """What the exception says that `work` raises: one line."""
    with pytest.raises(kind) as raised:
        work()
    assert type(raised.value) is kind and "\n" not in str(raised.value)
    return str(raised.value)


def python(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


# ---[ Calls


def test_the_log_may_be_begun_twice():
    """glog ended the process. The second call sets what it says."""
    code = (
        "import caffe; caffe.init_log(); caffe.init_log(0, True); caffe.log('seen'); caffe.init_log(2); caffe.log('no')"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert "] seen" in result.stderr and "] no" not in result.stderr


@pytest.mark.skipif(hasattr(caffe._caffe, "gpu_problem"), reason="cpu-build: this Caffe is for GPUs")
def test_gpu_mode_is_refused_before_anything_is_computed(deploy):
    """So the net goes on when the mode is changed."""
    net = caffe.Net(str(deploy), caffe.TEST)
    try:
        caffe.set_mode_gpu()
        for work in (net.forward, net.backward):
            assert "set_mode_cpu()" in refusal(work)
    finally:
        caffe.set_mode_cpu()
    assert net.forward()["prob"].shape == (1, 5)
    assert "check mode" in refusal(lambda: caffe.set_device(0))


@pytest.mark.parametrize("shape", [((1, 3, 8, 8),), (1, 3, 8.0, 8), (1, 3, np.float64(8), 8), (2**31, 1)], ids=str)
def test_what_is_no_shape_is_told_how_one_is_written(deploy, shape):
    """A division of Python 3 gives floats, and a tuple wants a star."""
    blob = caffe.Net(str(deploy), caffe.TEST).blobs["data"]
    assert "reshape(*shape)" in refusal(lambda: blob.reshape(*shape), TypeError)
    assert list(blob.shape) == [1, 3, 32, 32]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_of_32_bits(seed):
    assert str(seed) in refusal(lambda: caffe.set_random_seed(seed), OverflowError)
    caffe.set_random_seed(np.int64(2**32 - 1))


def test_what_caffe_io_imported_is_found_there_still():
    """Without being imported with it."""
    code = "import sys, caffe.io; assert 'skimage' not in sys.modules and 'scipy' not in sys.modules;"
    code += "caffe.io.skimage.io.imread, caffe.io.skimage.transform.rescale;"
    code += "from caffe.io import resize, zoom; print(resize.__module__, zoom.__module__, hasattr(caffe.io, 'other'))"
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"skimage\S+ scipy\S+ False\n", result.stdout)


# ---[ Other Caffes' nets, and what is no weights


@pytest.mark.parametrize(
    ("kind", "parameters", "told"),
    [
        ("Normalize", "", ["layer 'odd'", "Normalize", "another version", '"Python"']),
        ("Normalize", "norm_param { }", ["line 12", "norm_param", "another version"]),
        ("ReLU", "relu_param { leak: 1 }", ["line 12", "leak", "misspelt"]),
        ("Pooling", "pooling_param { pool: WEIGHTED }", ["line 12", "WEIGHTED", "misspelt"]),
    ],
)
def test_layers_of_another_caffe_are_named_as_such(deploy, kind, parameters, told):
    deploy.write_text(DEPLOY + LAYER.format(kind, parameters))
    message = refusal(lambda: caffe.Net(str(deploy), caffe.TEST))
    assert all(word in message for word in told), message


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>\r\n<html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_text_is_no_weights(deploy, content):
    path = deploy.with_name("w.caffemodel")
    path.write_bytes(content)
    assert "it is text" in refusal(lambda: caffe.Net(str(deploy), caffe.TEST, weights=str(path)))
    path.write_bytes(b"\x0a\xff" + content)
    assert "it is text" not in refusal(lambda: caffe.Net(str(deploy), caffe.TEST, weights=str(path)))


def test_a_prototxt_may_begin_with_the_mark_of_utf_8(deploy):
    deploy.write_bytes(b"\xef\xbb\xbf" + DEPLOY.replace("\n", "\r\n").encode())
    assert caffe.Net(str(deploy), caffe.TEST).outputs == ["prob"]
    deploy.write_bytes(b"\xef\xbb")
    refusal(lambda: caffe.Net(str(deploy), caffe.TEST))


def test_a_net_with_a_leveldb_is_told_what_to_do(tmp_path):
    """LevelDB is the default, so it need not be named."""
    text = 'layer { name: "data" type: "Data" top: "data" data_param { source: "db" batch_size: 1 } }'
    (tmp_path / "net.prototxt").write_text(text)
    assert "backend: LMDB" in refusal(lambda: caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN))


class WithoutSuper(caffe.Layer):
    """Forgets what it is derived from."""

    def __init__(self, param):
        self.param = param


@pytest.mark.filterwarnings("ignore:nanobind")
def test_python_layers_that_are_none_are_named(tmp_path):
    def net(parameters: str) -> caffe.Net:
        (tmp_path / "net.prototxt").write_text(f'layer {{ name: "mine" type: "Python" top: "a" {parameters} }}')
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)

    assert "layer 'mine'" in refusal(lambda: net(""))
    own = f'python_param {{ module: "{__name__}" layer: "WithoutSuper" }}'
    assert "WithoutSuper.__init__" in refusal(lambda: net(own)) and "super()" in refusal(lambda: net(own))


# ---[ Processes

FORKED = """
import os, sys, threading
import caffe, numpy as np
def answer(net):
    net.blobs['data'].data[...] = np.arange(3072).reshape(1, 3, 32, 32) % 251
    net.forward()
    return net.blobs['fc'].data.copy()
def new():
    return caffe.Net(sys.argv[1], caffe.TEST, weights=sys.argv[2])
net = new()
first = answer(net)
def check(work):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.allclose(work(), first, rtol=1e-4, atol=1e-4) else 1)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
check(lambda: answer(net))
check(lambda: answer(new()))
found = []
thread = threading.Thread(target=lambda: (check(lambda: answer(net)), found.append(1)))
thread.start()
thread.join()
assert found and np.allclose(answer(net), first, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_forked_child_computes(deploy, weights, threads):
    """After its parent did: it waited for ever for OpenMP's threads, which it did not have."""
    environment = {**os.environ, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": threads}
    result = python("-W", "ignore", "-c", FORKED, deploy, weights, env=environment)
    assert result.returncode == 0, result.stderr


INTERRUPTED = """
import os, signal, sys, threading, time
import caffe
solver = caffe.get_solver('solver.prototxt')
def interrupt():
    while solver.iter < 3:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    solver.solve() if sys.argv[1] == 'solve' else solver.step(10**8)
except KeyboardInterrupt:
    before = solver.iter
    solver.step(2)
    print(before >= 3, solver.iter - before)
"""


@pytest.mark.parametrize("call", ["step", "solve"])
def test_ctrl_c_ends_a_training_between_iterations(tmp_path, call):
    """It waited for the last one. The solver goes on when it is asked to."""
    (tmp_path / "net.prototxt").write_text(TRAINED)
    solver = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 100000000 snapshot_prefix: "s"'
    (tmp_path / "solver.prototxt").write_text(solver)
    result = python("-c", INTERRUPTED, call, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "True 2\n"), result.stderr


# ---[ Programs and scripts


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """`python -m caffe` in a folder; it went well."""
    result = python("-m", "caffe", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result


def test_upstreams_programs_are_in_pycaffe(tmp_path):
    """What they write is byte for byte what the built ones write, or what they read again."""
    tools = paths.BUILD / "caffe" / "bin"
    Image.new("RGB", (9, 7), (10, 20, 30)).save(tmp_path / "a.png")
    (tmp_path / "list").write_text("a.png 1\n")
    (tmp_path / "old.prototxt").write_text(OLD)
    (tmp_path / "solver.prototxt").write_text('net: "x" solver_type: ADAGRAD')
    size = ("-resize_height", 4, "-resize_width", 5)
    subprocess.run(
        [tools / "convert_imageset", *map(str, size), "./", "list", "theirs"],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    run("convert_imageset", *size, "./", "list", "ours", folder=tmp_path)
    run("compute_image_mean", "ours", "mean.binaryproto", folder=tmp_path)
    run("compute_image_mean", "theirs", "mean2.binaryproto", folder=tmp_path)
    assert (tmp_path / "mean.binaryproto").read_bytes() == (tmp_path / "mean2.binaryproto").read_bytes()
    mean = caffe.io.caffe_pb2.BlobProto.FromString((tmp_path / "mean.binaryproto").read_bytes())
    assert caffe.io.blobproto_to_array(mean)[0, :, 0, 0].tolist() == [30, 20, 10]

    run("upgrade_net_proto_text", "old.prototxt", "new.prototxt", folder=tmp_path)
    assert "layers" not in (tmp_path / "new.prototxt").read_text()
    net = caffe.Net(str(tmp_path / "new.prototxt"), caffe.TEST)
    assert net.blobs["conv"].data.shape == (1, 4, 6, 6)
    net.save(str(tmp_path / "w.caffemodel"))
    run("upgrade_net_proto_binary", "w.caffemodel", "w2.caffemodel", folder=tmp_path)
    net.copy_from(str(tmp_path / "w2.caffemodel"))
    run("upgrade_solver_proto_text", "solver.prototxt", "solver2.prototxt", folder=tmp_path)
    assert 'type: "AdaGrad"' in (tmp_path / "solver2.prototxt").read_text()


def test_the_program_extracts_features(tmp_path):
    import lmdb

    text = 'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 2 dim: 3 } '
    (tmp_path / "net.prototxt").write_text(text + 'data_filler { type: "constant" value: 4 } } }')
    caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).save(str(tmp_path / "w.caffemodel"))
    run("extract_features", "w.caffemodel", "net.prototxt", "data", "features", 2, "lmdb", folder=tmp_path)
    with lmdb.open(str(tmp_path / "features"), readonly=True) as database, database.begin() as transaction:
        values = [caffe.io.caffe_pb2.Datum.FromString(value) for _, value in transaction.cursor()]
    assert len(values) == 4 and {tuple(datum.float_data) for datum in values} == {(4, 4, 4)}


def test_their_mistakes_are_told(tmp_path):
    """In one line, or by the usage, and exit status 1."""
    result = python("-m", "caffe", "convert_imageset", "-backend", "leveldb", "./", "list", "db", cwd=tmp_path)
    errors = [line for line in result.stderr.splitlines() if line[:1] == "E"]
    assert result.returncode == 1 and len(errors) == 1 and "LMDB" in errors[0]
    result = python("-m", "caffe", "convert_imageset", cwd=tmp_path)
    assert result.returncode == 1 and "-resize_height" in result.stdout + result.stderr


def test_upstreams_scripts_are_in_pycaffe(tmp_path, deploy, weights):
    """They find each other, and ImageNet's mean beside pycaffe."""
    shutil.copy(deploy, tmp_path / "net.prototxt")
    run("draw_net", "net.prototxt", "net.png", folder=tmp_path)
    assert Image.open(tmp_path / "net.png").size[0] > 100
    assert "InnerProduct" in run("summarize", "net.prototxt", folder=tmp_path).stdout
    Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / "a.jpg")
    model = ("--model_def", deploy, "--pretrained_model", weights, "--images_dim", "36,36", "--raw_scale", "1")
    run("classify", *model, "a.jpg", "scores.npy", folder=tmp_path)
    scores = np.load(tmp_path / "scores.npy")
    assert scores.shape == (1, 5) and scores.sum() == pytest.approx(1, abs=1e-5)


def test_logs_are_read_and_drawn(tmp_path):
    """By the scripts that call each other: parse_log.sh calls extract_seconds.py."""
    (tmp_path / "net.prototxt").write_text(TRAINED)
    solver = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" display: 1 max_iter: 4 test_iter: 1 test_interval: 2'
    (tmp_path / "solver.prototxt").write_text(solver + ' snapshot_prefix: "s" solver_mode: CPU')
    log = run("train", "-solver", "solver.prototxt", folder=tmp_path).stderr
    (tmp_path / "a.log").write_text(log)
    run("parse_log", "a.log", ".", folder=tmp_path)
    assert (tmp_path / "a.log.train").read_text().startswith("NumIters,Seconds,LearningRate,loss\n0.0,")
    result = python(
        "-m", "caffe", "plot_training_log", 6, "a.png", "a.log",
        cwd=tmp_path, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "a.png").size[0] > 100
