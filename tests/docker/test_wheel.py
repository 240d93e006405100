"""Caffe as a wheel: what is in it, that it computes as the Caffe that was built here, and beside whom it can live.

The wheel is the one in dist/ that pip would take for this Python. It is unpacked into a folder of its own, which comes
before the build of this checkout in the path of the Pythons that are started.
"""

from __future__ import annotations

import email
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import make_wheel
import numpy as np
import pytest
from PIL import Image

import testlib
from selfie.common import paths

SMALL = 40e6  # bytes of a wheel for every Linux
SOLVER = """
net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" display: 1 random_seed: 1 max_iter: {iterations}
snapshot_prefix: "{folder}/s"
"""
NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 16 dim: 16 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3
  weight_filler { type: "xavier" } } }
layer { name: "head" type: "InnerProduct" bottom: "conv" top: "head" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "head" bottom: "label" top: "loss" }
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel in dist/ for CPUs and this Python, the newest."""
    from packaging import tags, utils

    good = set(tags.sys_tags())
    wheels = (path for path in (paths.ROOT / "dist").glob("caffe-*.whl") if ".cu13" not in path.name)
    found = [path for path in wheels if utils.parse_wheel_filename(path.name)[3] & good]
    if not found:
        testlib.skip("wheel", "none in dist/ for this Python")
    return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder with nothing but the wheel's content, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        folder,
        wheel,
    ]
    subprocess.run([*command, "--disable-pip-version-check"], check=True)
    return folder


def python(site: Path | None, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run this Python with the wheel, or without one with the Caffe that is installed."""
    environment = {**os.environ, **({"PYTHONPATH": str(site)} if site else {})}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)


def said(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_the_wheel_has_the_licence_of_every_library_inside(wheel):
    """And of what is linked into it: Caffe's, ours, nanobind's at least."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(archive.read(info)).get_all("License-File")
    licenses = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert {"selfie.txt", "caffe.txt", "nanobind.txt"} <= licenses
    assert {Path(name).name for name in told} == licenses
    bundled = [name for name in names if name.startswith("caffe.libs/")]
    assert bundled and len(licenses) > 3


def test_the_wheel_needs_no_python_library_and_shows_others_nothing(wheel, site):
    """A wheel for every Linux is small, and its module tells the linker of nothing but its beginning."""
    module = site / "caffe" / "_caffe.so"
    dump = subprocess.run(["objdump", "-p", module], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"NEEDED +lib(boost_)?python", dump)
    if "manylinux_2_31" in wheel.name:
        assert wheel.stat().st_size <= SMALL
        table = subprocess.run(
            ["nm", "-D", "--defined-only", module], capture_output=True, text=True, check=True
        ).stdout
        assert [line.split()[-1] for line in table.splitlines()] == ["PyInit__caffe"]


# --- it computes -----------------------------------------------------------------------------------------------------

FORWARD = """
import sys, numpy as np, caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
random = np.random.default_rng(2015)
for blobs in net.params.values():
    for blob in blobs:
        blob.data[...] = random.normal(0, 0.05, blob.data.shape)
data = random.uniform(0, 255, net.blobs['data'].data.shape)
np.save(sys.argv[2], net.forward(data=data)[net.outputs[0]])
print(caffe.__file__)
"""


def test_answers_are_those_of_the_caffe_built_here(site, tmp_path):
    """Of the demo's net with random weights, to rounding."""
    testlib.need_build()
    deploy = paths.PROTOTXT / "demo" / "deploy.prototxt"
    ours, theirs = (
        said(python(place, "-c", FORWARD, deploy, tmp_path / f"{n}.npy")) for n, place in enumerate((None, site))
    )
    assert ours != theirs and theirs.startswith(str(site))
    first, second = np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy")
    assert np.abs(first).max() > 0
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-6)


@pytest.fixture(params=["wheel", "build"])
def place(request) -> Path | None:
    """The wheel, and what is installed here: both have the program as `python -m caffe`."""
    return request.getfixturevalue("site") if request.param == "wheel" else None


def solver(folder: Path, net: str = NET, iterations: int = 5) -> Path:
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(SOLVER.format(folder=folder, iterations=iterations))
    return folder / "solver.prototxt"


def test_the_program_trains(place, tmp_path):
    result = python(place, "-m", "caffe", "train", "-solver", solver(tmp_path))
    assert result.returncode == 0 and "Optimization Done" in result.stderr
    assert re.search(r"^I\d{4} [\d:.]+ +\d+ solver", result.stderr, re.M), "lines begin with month and day"
    assert (tmp_path / "s_iter_5.caffemodel").exists()


def test_the_program_refuses_in_one_line(place, tmp_path):
    """As Caffe's own does; what it does not know, too."""
    result = python(place, "-m", "caffe", "train", "-solver", tmp_path / "none.prototxt")
    lines = [line for line in result.stderr.splitlines() if line[:1] == "E"]
    assert result.returncode == 1 and len(lines) == 1 and "none.prototxt" in lines[0]
    assert python(place, "-m", "caffe", "fly").returncode == 1


@pytest.mark.parametrize("program", make_wheel.PROGRAMS)
def test_upstreams_programs_are_commands(site, program, tmp_path):
    """Beside `caffe`, by their own names: each asks for its arguments."""
    command, environment = site / "bin" / program, {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run([command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and program in result.stdout + result.stderr
    assert re.search("usage|INPUT_DB|LISTFILE", result.stdout + result.stderr, re.I) and not list(tmp_path.iterdir())


def test_upstreams_scripts_come_along(place, tmp_path):
    """Those that are called by other scripts may be executed."""
    solver(tmp_path)
    assert "SoftmaxWithLoss" in said(python(place, "-m", "caffe", "summarize", tmp_path / "net.prototxt"))
    result = python(place, "-m", "caffe", "train", "-solver", tmp_path / "solver.prototxt")
    (tmp_path / "a.log").write_text(result.stderr)
    code = "import caffe, os; print(os.path.dirname(caffe.__file__))"
    scripts = Path(said(python(place, "-c", code)), "scripts")
    subprocess.run([scripts / "parse_log.sh", "a.log"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "a.log.train").read_text().splitlines()[1].split()[0] == "0"


PYTHON_LAYER = """
import caffe
class Half(caffe.Layer):
    def setup(self, bottom, top): print('set up', flush=True)
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data / 2
    def backward(self, top, down, bottom): bottom[0].diff[...] = top[0].diff / 2
"""


def test_the_program_runs_layers_written_in_python(place, tmp_path):
    """In the Python that it is started with, and no other."""
    layer = 'layer { name: "half" type: "Python" bottom: "data" top: "half" python_param {'
    layer += ' module: "half" layer: "Half" } }\n'
    net = NET.replace('layer { name: "conv"', layer + 'layer { name: "conv"')
    net = net.replace('"Convolution" bottom: "data"', '"Convolution" bottom: "half"')
    (tmp_path / "half.py").write_text(PYTHON_LAYER)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from caffe.__main__ import main; sys.exit(main())"
    result = python(place, "-c", code, "train", "-solver", solver(tmp_path, net))
    assert result.returncode == 0, result.stderr
    assert "set up" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_program_with_a_snapshot(place, tmp_path, number):
    """Python's own handling of Ctrl-C does not come between."""
    environment = {**os.environ, **({"PYTHONPATH": str(place)} if place else {})}
    arguments = ("-m", "caffe", "train", "-solver", solver(tmp_path, iterations=10**7))
    with testlib.started(*arguments, stderr=subprocess.PIPE, env=environment) as process:
        next(line for line in process.stderr if "Iteration 2 " in line)
        process.send_signal(number)
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == 0, rest
    assert list(tmp_path.glob("s_iter_*.solverstate"))


def test_ctrl_c_ends_what_has_no_snapshot(place, tmp_path):
    """`caffe time` ends at once, by the signal."""
    environment = {**os.environ, **({"PYTHONPATH": str(place)} if place else {})}
    solver(tmp_path)
    arguments = ("-m", "caffe", "time", "-model", tmp_path / "net.prototxt", "-iterations", 10**8)
    with testlib.started(*arguments, stderr=subprocess.PIPE, env=environment) as process:
        next(line for line in process.stderr if "Benchmark begins" in line)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT


# --- beside others ---------------------------------------------------------------------------------------------------

# What each package computes; Caffe's own part takes all libraries that the others have, too.
PEERS = {"torch", "onnx", "onnxruntime", "openvino"}  # of requirements-bench.txt
WORK = {
    "cv2": """
import cv2, numpy as np
good, coded = cv2.imencode('.jpg', np.full((8, 8, 3), 90, np.uint8))
assert good and abs(int(cv2.imdecode(coded, 1)[0, 0, 0]) - 90) < 3""",
    "h5py": """
import h5py
with h5py.File(folder + '/other.h5', 'w') as file: file['x'] = [1., 2.]
with h5py.File(folder + '/other.h5') as file: assert file['x'][1] == 2""",
    "google.protobuf": """
from google.protobuf import struct_pb2
assert struct_pb2.Value.FromString(struct_pb2.Value(number_value=2).SerializeToString()).number_value == 2""",
    "lmdb": """
import lmdb
with lmdb.open(folder + '/other') as env, env.begin(write=True) as txn: assert txn.put(b'a', b'b')""",
    "scipy.linalg": """
import numpy as np, scipy.linalg
assert abs(scipy.linalg.inv(np.diag([2.] * 300))[7, 7] - .5) < 1e-9""",
    "torch": """
import torch
assert torch.nn.functional.conv2d(torch.ones(2, 16, 32, 32), torch.ones(16, 16, 3, 3))[0, 0, 0, 0] == 144""",
    "onnx": """
import onnx
node = onnx.helper.make_node('Relu', ['x'], ['y'])
assert onnx.NodeProto.FromString(node.SerializeToString()).op_type == 'Relu'""",
    "onnxruntime": "import onnxruntime; assert onnxruntime.get_available_providers()",
    "openvino": "import openvino; assert openvino.Core().available_devices",
}
CAFFE = """
import caffe, numpy as np
net = caffe.Net(folder + '/other.prototxt', caffe.TEST)
for blobs in net.params.values():
    for blob in blobs: blob.data[...] = 1
net.forward()
assert abs(net.blobs['conv'].data[0, 0, 0, 0] - (1 + 9 * 3 * 90)) < 3 * 9 * 3, net.blobs['conv'].data[0, 0, 0, 0]
net.save_hdf5(folder + '/caffe.h5')
net.load_hdf5(folder + '/caffe.h5')
net.save(folder + '/caffe.caffemodel')
net.copy_from(folder + '/caffe.caffemodel')
"""
PICTURES = """
layer {{ name: "data" type: "ImageData" top: "data" top: "label" image_data_param {{
  source: "{0}/list" batch_size: 1 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{
  num_output: 16 kernel_size: 3 }} }}
layer {{ name: "head" type: "InnerProduct" bottom: "conv" top: "head" inner_product_param {{ num_output: 2 }} }}
"""


@pytest.mark.parametrize("first", ["caffe", "other"])
@pytest.mark.parametrize("other", WORK)
def test_others_live_in_the_same_process(site, tmp_path, other, first):
    """Whoever is imported first: both compute, and Caffe once more."""
    if importlib.util.find_spec(other.split(".")[0]) is None:
        testlib.skip("torch" if other in PEERS else "convert", f"no {other} here")
    Image.new("RGB", (32, 32), (90, 90, 90)).save(tmp_path / "a.jpg")
    (tmp_path / "list").write_text(f"{tmp_path}/a.jpg 1\n")
    (tmp_path / "other.prototxt").write_text(PICTURES.format(tmp_path))
    parts = (CAFFE, WORK[other]) if first == "caffe" else (WORK[other], CAFFE)
    code = "\n".join([f"folder = {str(tmp_path)!r}", *parts, CAFFE, "print(caffe.__file__)"])
    assert said(python(site, "-c", code)).startswith(str(site))


# --- it is made, and taken -------------------------------------------------------------------------------------------


def test_what_was_not_built_is_no_wheel(tmp_path, capsys):
    (tmp_path / "LICENSE").touch()
    assert make_wheel.main([str(tmp_path), "--source", str(tmp_path), "--out", str(tmp_path / "dist")]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "make caffe" in told
    assert not (tmp_path / "dist").exists()


def test_a_library_without_a_licence_stops_the_wheel(tmp_path):
    """One that is no package's, unless its licence was given."""
    with pytest.raises(make_wheel.WheelError, match=r"libmine\.so\.3"):
        make_wheel.license_of(tmp_path / "libmine.so.3", tmp_path)
    (tmp_path / "mine.txt").touch()
    assert make_wheel.license_of(tmp_path / "libmine.so.3", tmp_path) is None


def test_tags_are_those_that_pip_looks_for():
    """This Python takes what is made for it."""
    from packaging import tags

    interpreter, abi = make_wheel.own_tag().split("-")
    assert any((tag.interpreter, tag.abi) == (interpreter, abi) for tag in tags.sys_tags())


def test_the_project_takes_the_wheel_where_one_is_installed(tmp_path):
    """Its program, and the version that a run tells; without one those of the build."""
    info = tmp_path / "site" / "caffe-1.0.0+selfie.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caffe\nVersion: 1.0.0+selfie.9\n")
    (info / "RECORD").write_text("caffe/bin,,\n../bin/caffe,,\n")
    program = tmp_path / "bin" / "caffe"
    program.parent.mkdir()
    program.touch()
    code = "from selfie.net import pycaffe; print(pycaffe.binary(), pycaffe.version(), sep='|')"
    place, version = said(python(tmp_path / "site", "-c", code)).splitlines()[-1].split("|")
    assert (Path(place), version) == (program, "1.0.0 (wheel 1.0.0+selfie.9)")
    shutil.rmtree(info)
    place, version = said(python(tmp_path / "site", "-c", code)).splitlines()[-1].split("|")
    assert Path(place) != program
