"""pycaffe's binding, docker/caffe/python: it has all that the one on Boost.Python had, and what it promises beyond."""

from __future__ import annotations

import copy
import gc
import inspect
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import caffe
import caffe._caffe
import numpy as np
import pytest

from selfie.common import paths

LISTED = Path(__file__).with_name("pycaffe_of_boost.txt").read_text().splitlines()

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
  inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
"""

# What the binding of before took, and this one does not: nothing that did anything.
GONE = {
    "Solver.add_callback(0)": "without NCCL in the build it did nothing",
    "Net.after_backward(0-1)": "without NCCL in the build it did nothing; with one argument it is as it was",
}

ACCEPTED = re.compile(r"(?P<name>[\w.]+)(?:\((?P<least>\d+)(?:-(?P<most>\d+))?(?:: (?P<keywords>.*))?\))?")


def look_up(name: str) -> object:
    found = caffe._caffe
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    return found


def overloads(function: object) -> list[inspect.Signature]:
    """Of a function of C++, from the text that nanobind has of each; without self."""
    found = []
    for text, *_ in function.__nb_signature__:
        arguments = re.search(r"\((.*)\)", text.split(" -> ")[0], re.S).group(1)
        names = re.sub(r":\s*[^,=()\[\]]*(\[[^\]]*\])?[^,=()]*", "", arguments)
        scope: dict = {}
        exec(f"def function({re.sub(r'=[^,)]*', '=None', names)}): pass", scope)
        found.append(inspect.signature(scope["function"]))
    return found


def takes(signature: inspect.Signature, count: int, keywords: list[str], is_method: bool) -> bool:
    """Whether a call with so many arguments fits, the last of them by these names."""
    by_name = keywords[max(0, len(keywords) - count) :][:count] if keywords else []
    try:
        signature.bind(*[None] * (count + is_method - len(by_name)), **dict.fromkeys(by_name))
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("line", LISTED)
def test_what_the_binding_on_boost_had_is_there(line):
    """Each class, property and function, and of each function each number of arguments, with its keywords."""
    parts = ACCEPTED.fullmatch(line.replace("(*)", ""))
    found = look_up(parts["name"])
    if parts["least"] is None or line in GONE:
        return
    least, most = int(parts["least"]), int(parts["most"] or parts["least"])
    keywords = (parts["keywords"] or "").split()
    for count in range(least, most + 1):
        names = keywords[:count]
        assert any(takes(one, count, names, "." in parts["name"]) for one in overloads(found)), count


def test_every_difference_is_of_something_that_was_there():
    assert GONE.keys() <= set(LISTED)


# ---[ What users pass, and get


@pytest.fixture
def net_file(tmp_path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


def test_files_are_named_by_text_bytes_or_paths(tmp_path, net_file):
    """In both constructors, by keywords, and wherever a file is read or written."""
    net = caffe.Net(os.fsencode(net_file), caffe.TEST)
    weights = tmp_path / "w \u00fc.caffemodel"
    net.save(weights)
    for name in (weights, str(weights), os.fsencode(weights)):
        caffe.Net(network_file=str(net_file), weights=name, phase=caffe.TEST, level=0, stages=["one"])
        caffe.Net(net_file, name, caffe.TEST).copy_from(name)
    with pytest.raises(TypeError):
        caffe.Net(str(net_file))
    with pytest.raises(TypeError):
        net.save(3)
    with pytest.raises(caffe.Error, match="Could not open file"):
        caffe.Net(tmp_path / "none", caffe.TEST)


def test_a_net_whose_weights_are_refused_is_none(tmp_path, net_file):
    """Whatever was made of it goes."""
    (tmp_path / "weights").write_bytes(b"no weights")
    for _ in range(3):
        with pytest.raises(caffe.Error):
            caffe.Net(str(net_file), caffe.TEST, weights=str(tmp_path / "weights"))


def test_an_array_outlives_its_net_and_shows_what_others_write(net_file):
    """It is the blob's memory, float32, writable, of the blob's shape; blob, net and layers may go."""
    net = caffe.Net(str(net_file), caffe.TEST)
    array = net.blobs["data"].data
    assert array.dtype == np.float32 and array.shape == (2, 3) and array.flags.writeable and not array.flags.owndata
    array[...] = 7
    assert (net.blobs["data"].data == 7).all()
    layer, weights, blobs = net.layers[1], net.params["a"][0], net.params["b"]
    kept = weights.data.copy()
    del net
    gc.collect()
    assert (array == 7).all() and layer.type == "InnerProduct" and len(blobs) == 2
    np.testing.assert_array_equal(layer.blobs[0].data, kept)
    np.testing.assert_array_equal(weights.data, kept)


def test_blobs_of_no_axes_and_of_no_values(net_file):
    blob = caffe.Net(str(net_file), caffe.TEST).blobs["data"]
    blob.reshape()
    assert blob.data.shape == () and blob.count == 1
    blob.data[()] = 3
    assert float(blob.data) == 3
    blob.reshape(0, 3)
    assert blob.data.shape == blob.diff.shape == (0, 3)
    blob.reshape(*np.array([2, 2]), 1)
    assert list(blob.shape) == [2, 2, 1]
    for wrong in (1.5, "2", None):
        with pytest.raises(TypeError):
            blob.reshape(wrong)


def test_lists_are_as_pythons(net_file):
    """Lengths, negative indices, slices, iteration, membership, ends."""
    net = caffe.Net(str(net_file), caffe.TEST)
    names, layers = net._layer_names, net.layers
    assert list(names) == ["data", "a", "b"] and names[-1] == "b" and list(names[1:]) == ["a", "b"] and "a" in names
    assert len(layers) == 3 and layers[-1].type == "InnerProduct" and [x.type for x in layers[:1]] == ["Input"]
    assert list(net._inputs) == [0] and list(net._bottom_ids(1)) == [0]
    assert list(net.blob_loss_weights.values()) == [0, 0, 0]
    with pytest.raises(IndexError):
        layers[3]
    assert [len(blobs) for blobs in net.params.values()] == [2, 2]
    net.params["a"].add_blob(2, 5)
    assert net.params["a"][2].data.shape == (2, 5)


def test_users_hang_attributes_on_objects_and_refer_to_them_weakly(net_file):
    net = caffe.Net(str(net_file), caffe.TEST)
    for thing in (net, net.blobs["data"], net.layers[1], net.params["a"]):
        thing.my_own = 3
        assert thing.my_own == 3 and weakref.ref(thing)() is thing


def test_nets_are_not_copied_or_pickled(net_file):
    """By a TypeError; caffe.Error is pickled."""
    net = caffe.Net(str(net_file), caffe.TEST)
    for thing in (net, net.blobs["data"]):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.copy(thing)
    again = pickle.loads(pickle.dumps(caffe.Error("text")))
    assert type(again) is caffe.Error and str(again) == "text"


def solver_file(folder: Path, kind: str) -> Path:
    (folder / "train.prototxt").write_text(NET + 'layer { name: "l" type: "EuclideanLoss" bottom: "b" bottom: "b" }')
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    path = folder / "solver.prototxt"
    path.write_text(
        f'net: "{folder}/train.prototxt" base_lr: 0.5 lr_policy: "fixed" type: "{kind}" max_iter: 3 {momentum}'
    )
    return path


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_solvers_are_of_their_kinds(tmp_path, kind):
    """From get_solver as from the class; each is an SGDSolver and a Solver. Its net and parameters outlive it."""
    path = solver_file(tmp_path, kind)
    made, found = getattr(caffe, f"{kind}Solver")(str(path)), caffe.get_solver(path)
    assert type(made) is type(found) and isinstance(found, caffe.SGDSolver)
    assert found.lr == 0.5 and found.param.max_iter == 3 and found.iter == 0
    found.param.base_lr = 0.25
    assert found.param.base_lr == 0.25
    net, param = found.net, found.param
    assert found.net is net
    del found
    gc.collect()
    assert param.max_iter == 3 and net.blobs["b"].data.shape == (2, 1)
    with pytest.raises(TypeError):
        caffe._caffe.Solver()


# ---[ Layers in Python

PYTHON_LAYER = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "mine" type: "Python" bottom: "data" top: "mine"
  python_param {{ module: "{module}" layer: "{layer}" param_str: "x y" }} }}
"""


class Keeping(caffe.Layer):
    """Keeps what it is given."""

    def setup(self, bottom, top):
        self.bottom, self.top, self.first = bottom, top, bottom[0]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        assert len(bottom) == 1 and bottom[-1] in bottom and [*bottom[:]] == [*bottom]
        top[0].data[...] = 2 * bottom[0].data


class Shapeless(caffe.Layer):
    """Has no method at all."""


class NoLayer:
    """Takes what a layer takes."""

    def __init__(self, param):
        pass


def python_net(folder: Path, layer: str) -> caffe.Net:
    (folder / "python.prototxt").write_text(PYTHON_LAYER.format(module=__name__, layer=layer))
    return caffe.Net(str(folder / "python.prototxt"), caffe.TEST)


def test_a_net_gives_a_layers_own_object_back(tmp_path):
    """With its attributes, as long as the net lives; then it goes, and what it kept of the net may be used still."""
    net = python_net(tmp_path, "Keeping")
    net.blobs["data"].data[...] = 4
    assert (net.forward()["mine"] == 8).all()
    layer = net.layers[1]
    assert type(layer) is Keeping and layer.param_str == "x y" and layer.phase == caffe.TEST
    assert layer.first.data is not None and layer.type == "Python"
    gone, first = weakref.ref(layer), layer.first
    del layer
    gc.collect()
    assert gone() is net.layers[1]
    del net
    gc.collect()
    assert gone() is None and (first.data == 4).all()


def test_a_layer_that_lacks_what_it_needs_says_so(tmp_path):
    """It recursed without end."""
    with pytest.raises(NotImplementedError, match="reshape"):
        python_net(tmp_path, "Shapeless")
    with pytest.raises(caffe.Error, match="NoLayer is not derived"):
        python_net(tmp_path, "NoLayer")
    with pytest.raises(AttributeError):
        python_net(tmp_path, "Nowhere")


# ---[ What it costs


def test_caffe_is_neither_linked_with_python_nor_with_boosts():
    """So that a Python of another build, without a library of its own, can load it."""
    files = [paths.BUILD / "caffe" / name for name in ("bin/caffe", "lib/libcaffe.so", "python/caffe/_caffe.so")]
    needed = subprocess.run(["objdump", "-p", *files], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"NEEDED +lib(boost_)?python", needed)


def seconds_of(code: str) -> float:
    """Processor time that a new Python takes for `code`; the least of five.

    With one thread for BLAS: others, numpy's and Caffe's, spin for a while when they have nothing to do, which is no
    work of the import.
    """

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(5))


@pytest.mark.timing
def test_an_import_takes_a_fifth_of_a_second_beyond_numpys():
    assert seconds_of("import caffe") - seconds_of("import numpy") < 0.2


# A loader that is interrupted as it loads _caffe: Python hears of it in the midst of the module's making.
INTERRUPTED = r"""
#include <csignal>
#include <cstring>
#include <dlfcn.h>
extern "C" void* dlopen(const char* name, int mode) {
  if (name && std::strstr(name, "/_caffe.")) { std::raise(SIGINT); }
  typedef void* (*Function)(const char*, int);
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, "dlopen"))(name, mode);
}
"""


def test_an_import_that_is_interrupted_is_no_crash(tmp_path):
    """It raises KeyboardInterrupt, and can be made again."""
    (tmp_path / "loader.cpp").write_text(INTERRUPTED)
    library = tmp_path / "loader.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, tmp_path / "loader.cpp", "-ldl"], check=True)
    code = """
try:
    import caffe
except KeyboardInterrupt:
    print("interrupted")
import caffe
print(caffe.Net.__name__)
"""
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout.split()) == (0, ["interrupted", "Net"]), result.stderr


SIGNALLED = """
import signal
import caffe
caffe.set_random_seed(1)
solver = caffe.get_solver("solver.prototxt")
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
while len(handled) < 500:
    solver.step(1)
signal.setitimer(signal.ITIMER_REAL, 0)
print(solver.iter > 1, solver.net.blobs["loss"].data < 1e6)
"""


@pytest.mark.parametrize("cpu", ["", "AVX2", "SSE41"])
def test_signals_do_not_harm_what_is_computed(tmp_path, cpu):
    """A timer rings, and Python hears it, while inner products of several sizes are trained (upstream's oneDNN lets the
    handler's frame overwrite the heap)."""
    net = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 32 dim: 1024 } shape { dim: 32 } data_filler { type: "gaussian" } data_filler { type: "constant" } } }
"""
    bottom = "data"
    for name, outputs in (("a", 128), ("b", 300), ("c", 2)):
        net += f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" inner_product_param {{'
        net += f' num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}\n'
        bottom = name
    net += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "loss" }'
    (tmp_path / "net.prototxt").write_text(net)
    solver = 'net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" solver_mode: CPU snapshot_prefix: "s"'
    (tmp_path / "solver.prototxt").write_text(solver)
    environment = {**os.environ, "GLOG_minloglevel": "2", **({"ONEDNN_MAX_CPU_ISA": cpu} if cpu else {})}
    result = subprocess.run(
        [sys.executable, "-c", SIGNALLED], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout.split()) == (0, ["True", "True"]), result.stderr


# ---[ Types

USE = """
import numpy as np
from _caffe import Layer, Net, get_solver
net = get_solver("solver.prototxt").net
width: int = net.params["conv1"][0].data.shape[1] + net.blobs["data"].width
scores: np.ndarray = net.forward(data=np.zeros(3))["prob"]
class Mine(Layer):
    def setup(self, bottom: object, top: object) -> None:
        print(self.param_str.split(), self.phase + 1)
"""


def test_checkers_know_pycaffes_types(tmp_path):
    """Right use passes, wrong use does not. Of what C++ gives, and of what pycaffe.py adds to it."""
    installed = paths.BUILD / "caffe" / "python" / "caffe"
    assert (installed / "py.typed").is_file()
    shutil.copy(installed / "_caffe.pyi", tmp_path)
    (tmp_path / "use.py").write_text(f"{USE}net.save(3)\nnet.blobs.data\nnet.step(1)\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "mypy", "--no-site-packages", "use.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    wrong = len(USE.splitlines())
    found = {int(line) for line in re.findall(r"^use\.py:(\d+): error", result.stdout, re.M)}
    assert found - {2} == {wrong + 1, wrong + 2, wrong + 3}, result.stdout


def test_the_program_inside_shares_no_name_with_the_program_caffe():
    """Which loads pycaffe for layers written in Python: what both had was one, and freed twice at the end."""
    library = Path(caffe.__file__).parent / "_caffe.so"
    named = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    assert "PyInit__caffe" in named and "brew" not in named and "FLAGS_" not in named
