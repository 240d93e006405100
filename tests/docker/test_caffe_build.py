"""The Caffe that docker/build_caffe.sh makes: what our patches promise, checked on the real build."""

from __future__ import annotations

import os
import platform
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caffe
import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from PIL import Image

import testlib
from selfie.common import paths

BINARY = paths.BUILD / "caffe" / "bin" / "caffe"

NET = """
layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ dim: 4 dim: 10 }} shape {{ dim: 4 }}
  data_filler {{ type: "gaussian" }} data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "{first}" type: "InnerProduct" bottom: "data" top: "hidden"
  inner_product_param {{ num_output: {hidden} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "head" type: "InnerProduct" bottom: "hidden" top: "head"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "head" bottom: "label" }}
"""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that steers OpenBLAS or Caffe's log, plus `more`."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "GLOG_"))}, **more}


def write_solver(folder, max_iter=10, hidden=8, first="hidden", fmt="BINARYPROTO", more="", net=None):
    """A solver prototxt for a small net, in `folder`; its snapshots are called s_iter_N.*"""
    (folder / "net.prototxt").write_text(net or NET.format(hidden=hidden, first=first))
    solver = folder / "solver.prototxt"
    solver.write_text(f"""
        net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 display: 1 random_seed: 1
        max_iter: {max_iter} snapshot_prefix: "{folder}/s" snapshot_format: {fmt} {more}""")
    return solver


def train(solver, *arguments, **options):
    """Run `caffe train` to its end."""
    command = [BINARY, "train", "-solver", solver, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def snapshots(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("s_"))


# ---[ The BLAS kernel


def best_kernels() -> set[str]:
    """The kernels of OpenBLAS that are worth this CPU's instructions."""
    if platform.machine() != "x86_64":
        testlib.skip("avx", f"OpenBLAS's kernels for {platform.machine()} are not known here")
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M).group(1).split())
    if {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return {"SkylakeX", "Cooperlake", "SapphireRapids"}
    if {"avx2", "fma"} <= flags:
        return {"Haswell", "Zen"}
    if "avx" in flags:
        return {"Sandybridge", "Bulldozer", "Piledriver", "Steamroller", "Excavator"}
    testlib.skip("avx", "any kernel is as good as another here")


# getenv() by which OpenBLAS, the first to ask, takes the CPU for a Prescott, as it does with one that it does not know.
MISTAKE = r"""
#include <cstring>
extern char** environ;
extern "C" char* getenv(const char* name) {
  static bool asked = false;
  const size_t length = std::strlen(name);
  if (!asked && !std::strcmp(name, "OPENBLAS_CORETYPE")) {
    asked = true;
    return const_cast<char*>("Prescott");
  }
  for (char** entry = environ; entry && *entry; ++entry)
    if (!std::strncmp(*entry, name, length) && (*entry)[length] == '=') return *entry + length + 1;
  return nullptr;
}
"""


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """An environment in which OpenBLAS mistakes the CPU when it is loaded."""
    folder = tmp_path_factory.mktemp("mistake")
    (folder / "mistake.cpp").write_text(MISTAKE)
    subprocess.run(["g++", "-shared", "-fPIC", "-o", folder / "mistake.so", folder / "mistake.cpp"], check=True)
    return clean_environment(LD_PRELOAD=str(folder / "mistake.so"))


def kernel_of_caffe(environment) -> str:
    """What the caffe command logs about its kernel."""
    log = subprocess.run([BINARY, "device_query"], env=environment, capture_output=True, text=True).stderr
    return re.search(r"OpenBLAS kernel: (.*)", log).group(1)


def python(code: str, environment) -> str:
    """Output of `code` in a fresh interpreter."""
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_blas_kernel_is_as_good_as_the_cpu():
    """With nothing set, caffe and pycaffe run the best kernels that this CPU's instructions allow."""
    assert kernel_of_caffe(clean_environment()).split()[0] in best_kernels()
    assert python("import caffe; print(caffe.blas_kernel())", clean_environment()).strip() in best_kernels()


def test_blas_kernel_is_mended_when_openblas_mistakes_the_cpu(mistaken):
    """A CPU that OpenBLAS does not know (taken for a Prescott) still gets its kernels, and products come out right."""
    assert kernel_of_caffe(mistaken).split()[0] in best_kernels()
    assert kernel_of_caffe(mistaken).endswith("(OpenBLAS took this CPU for Prescott)")
    code = """
import ctypes, os, numpy as np
os.environ["OPENBLAS_CORETYPE"] = "Nehalem"  # as weak as a Prescott, whose own kernels crash in OpenBLAS 0.3.34
blas = ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
del os.environ["OPENBLAS_CORETYPE"]
pointer = np.ctypeslib.ndpointer(np.float32)
blas.cblas_sgemm.argtypes = ([ctypes.c_int] * 6 + [ctypes.c_float, pointer, ctypes.c_int, pointer, ctypes.c_int]
                             + [ctypes.c_float, pointer, ctypes.c_int])
def error(m, n, k):
    a, b = (np.random.default_rng(0).standard_normal(shape, dtype=np.float32) for shape in ((m, k), (k, n)))
    c = np.zeros((m, n), np.float32)
    blas.cblas_sgemm(101, 111, 111, m, n, k, 1, a, k, b, n, 0, c, n)
    return float(np.abs(c - a.astype(float) @ b).max() / k ** 0.5)
before = error(700, 800, 900)  # threads and buffers are there before the change
blas.openblas_get_corename.restype = ctypes.c_char_p
replaced = blas.openblas_get_corename().decode()
import caffe
print(caffe.blas_kernel(), replaced)
shapes = (1, 1, 1), (3, 5, 7), (700, 800, 900), (17, 1000, 33), (64, 9999, 576)
print(max([before] + [error(*shape) for shape in shapes]))
print(os.environ.get("OPENBLAS_CORETYPE"), os.popen("echo $OPENBLAS_CORETYPE").read().strip())
"""
    kernel, replaced, error, *variable = python(code, clean_environment()).split()
    assert kernel in best_kernels() and replaced == "Nehalem"
    assert float(error) < 1e-5
    assert variable == ["None"], "the variable must not leak into this process or its children"


def test_a_users_choice_of_blas_kernel_is_respected():
    """OPENBLAS_CORETYPE, when set, decides."""
    best_kernels()
    assert kernel_of_caffe(clean_environment(OPENBLAS_CORETYPE="Prescott")) == "Prescott"


# ---[ Snapshots and restores


@pytest.mark.parametrize("fmt, suffix", [("BINARYPROTO", ""), ("HDF5", ".h5")])
def test_training_leaves_its_snapshots_and_nothing_else(tmp_path, fmt, suffix):
    """No temporary file stays beside the snapshots, and they restore."""
    result = train(write_solver(tmp_path, fmt=fmt, more="snapshot: 5"))
    assert result.returncode == 0, result.stderr
    assert snapshots(tmp_path) == sorted(
        f"s_iter_{n}.{kind}{suffix}" for n in (5, 10) for kind in ("caffemodel", "solverstate")
    )
    again = train(tmp_path / "solver.prototxt", "-snapshot", tmp_path / f"s_iter_5.solverstate{suffix}")
    assert again.returncode == 0, again.stderr
    assert "Iteration 5 " in again.stderr and "Iteration 4 " not in again.stderr


@pytest.mark.parametrize("fmt", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("most", [0, 500, 900, 20_000])
def test_a_snapshot_that_does_not_fit_on_the_disk_ends_the_run(tmp_path, fmt, most):
    """A write that fails, of the first byte or a later one, is an error with its reason, and leaves no file."""

    def small_files_only():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    result = train(write_solver(tmp_path, hidden=2000, fmt=fmt), preexec_fn=small_files_only, restore_signals=False)
    suffix = ".h5" if fmt == "HDF5" else ""
    assert result.returncode == 1, result.stderr
    assert f"s_iter_10.caffemodel{suffix}: File too large" in result.stderr and not snapshots(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_snapshot_and_stop(tmp_path, number):
    """A training that is told to stop exits with 0 and leaves a snapshot from which it goes on."""
    solver = write_solver(tmp_path, max_iter=1_000_000_000)
    with testlib.started("train", "-solver", solver, program=BINARY, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if "Iteration 100 " in line:
                break
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == 0
    (state,) = tmp_path.glob("s_iter_*.solverstate")
    iteration = int(state.stem.split("_")[-1])
    again = train(write_solver(tmp_path, max_iter=iteration + 1), "-snapshot", state)
    assert again.returncode == 0, again.stderr
    assert f"Iteration {iteration} " in again.stderr


@pytest.fixture(params=["BINARYPROTO", "HDF5"])
def snapshot(request, tmp_path):
    """(solver, solver state, model) of a small training, in either format."""
    solver = write_solver(tmp_path, fmt=request.param)
    assert train(solver).returncode == 0
    suffix = ".h5" if request.param == "HDF5" else ""
    return solver, tmp_path / f"s_iter_10.solverstate{suffix}", tmp_path / f"s_iter_10.caffemodel{suffix}"


@pytest.mark.parametrize("which", ["solverstate", "caffemodel"])
@pytest.mark.parametrize("keep", [0, 0.02, 0.5, 0.999])
def test_a_truncated_snapshot_is_not_restored(snapshot, which, keep):
    """However much of a solver state or of its model is there: unless it is all, nothing is trained."""
    solver, state, model = snapshot
    broken = state if which == "solverstate" else model
    broken.write_bytes(broken.read_bytes()[: int(keep * broken.stat().st_size)])
    assert_not_restored(train(solver, "-snapshot", state))


def assert_not_restored(result):
    """Training stopped before its first iteration."""
    assert result.returncode == 1, result.stderr
    assert "Iteration 1" not in result.stderr


def test_a_model_cut_off_between_two_layers_is_not_restored(tmp_path):
    """Such a file parses, but lacks layers."""
    solver = write_solver(tmp_path)
    train(solver)
    model = tmp_path / "s_iter_10.caffemodel"
    net = caffe_pb2.NetParameter.FromString(model.read_bytes())
    del net.layer[2:]
    model.write_bytes(net.SerializeToString())
    result = train(solver, "-snapshot", tmp_path / "s_iter_10.solverstate")
    assert_not_restored(result)
    assert "it holds no layer 'head'" in result.stderr


@pytest.mark.parametrize("other", [{"hidden": 9}, {"first": "another"}])
def test_a_snapshot_of_another_net_is_not_restored(snapshot, other):
    """Neither one of other shapes nor one of other layers."""
    solver, state, _ = snapshot
    fmt = "HDF5" if state.suffix == ".h5" else "BINARYPROTO"
    assert_not_restored(train(write_solver(solver.parent, max_iter=20, fmt=fmt, **other), "-snapshot", state))


def test_a_snapshot_whose_model_is_gone_is_not_restored(snapshot):
    """The solver state names its model; without it there is nothing to go on with."""
    solver, state, model = snapshot
    model.unlink()
    assert_not_restored(train(solver, "-snapshot", state))


DATA_NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ mirror: true crop_size: 5 }}
  data_param {{ source: "{source}" backend: LMDB batch_size: 3 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }}
"""


@pytest.mark.parametrize("stop", [2, 7, 12])
def test_a_resumed_training_equals_one_that_was_not_stopped(tmp_path, stop):
    """Same records, same crops, same mirrors: same weights, bit by bit, wherever in the database it stopped."""
    rng = np.random.default_rng(0)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for i in range(14):
            datum = caffe.io.array_to_datum(rng.integers(0, 256, (3, 8, 8), dtype=np.uint8), label=i % 2)
            transaction.put(b"%08d" % i, datum.SerializeToString())
    net = DATA_NET.format(source=tmp_path / "db")
    more = f"iter_size: 2 snapshot: {stop}"
    solver = write_solver(tmp_path, max_iter=20, net=net, more=more)
    assert train(solver).returncode == 0
    whole = (tmp_path / "s_iter_20.caffemodel").read_bytes()
    (tmp_path / "s_iter_20.caffemodel").unlink()
    assert train(solver, "-snapshot", tmp_path / f"s_iter_{stop}.solverstate").returncode == 0
    assert (tmp_path / "s_iter_20.caffemodel").read_bytes() == whole


# ---[ pycaffe's io


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("RGBA", 3), ("L", 1), ("LA", 1)])
def test_load_image_reads_colour_gray_and_alpha(tmp_path, mode, channels):
    """H x W x 3 floats in [0, 1] with color=True, H x W x 1 without; alpha is dropped."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, len(mode)), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode=mode).save(tmp_path / "image.png")
    colour = caffe.io.load_image(str(tmp_path / "image.png"))
    gray = caffe.io.load_image(str(tmp_path / "image.png"), color=False)
    assert colour.shape == (6, 9, 3) and gray.shape == (6, 9, 1)
    assert colour.dtype == gray.dtype == np.float32
    expected = np.broadcast_to(pixels[:, :, :channels], (6, 9, 3)) / 255
    np.testing.assert_allclose(colour, expected, atol=1e-6)
    np.testing.assert_allclose(gray[:, :, 0], expected @ [0.2125, 0.7154, 0.0721], atol=1e-5)


def test_an_array_survives_the_datum():
    """uint8 arrays come back as they were, and writable."""
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    back = caffe.io.datum_to_array(caffe.io.array_to_datum(array, label=7))
    np.testing.assert_array_equal(back, array)
    back[:] = 0


def test_resize_image_interpolates_and_does_not_smooth():
    """As in the Caffe of 2015: reducing takes single pixels, it does not average."""
    stripes = np.zeros((9, 9, 3), np.float32)
    stripes[:, 1::3] = 1
    assert caffe.io.resize_image(stripes, (3, 3)).min() == 1


def test_caffe_is_imported_without_what_only_its_io_needs():
    """scikit-image and scipy take longer to import than all the rest."""
    code = "import sys, caffe; print([name for name in ('skimage', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# ---[ Threads

PYTHON_NET = """
layer {{ name: "data" type: "DummyData" top: "data" dummy_data_param {{
  shape {{ dim: 8 dim: 400 }} data_filler {{ type: "gaussian" }} }} }}
layer {{ name: "inner" type: "InnerProduct" bottom: "data" top: "inner"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "python" type: "Python" bottom: "inner" top: "loss" loss_weight: 1
  python_param {{ module: "{module}" layer: "{layer}" }} }}
"""


class CountingLoss(caffe.Layer):
    """Sums its bottom, in Python; other threads get their turn meanwhile."""

    seen = threading.local()

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.seen.forward = getattr(self.seen, "forward", 0) + 1
        time.sleep(0.001)
        top[0].data[0] = bottom[0].data.sum()

    def backward(self, top, propagate_down, bottom):
        self.seen.backward = getattr(self.seen, "backward", 0) + 1
        bottom[0].diff[...] = 1


class FailingLoss(CountingLoss):
    """What a user's own layer may do."""

    def forward(self, bottom, top):
        raise KeyError("my own mistake")


def python_net(folder, layer):
    (folder / "net.prototxt").write_text(PYTHON_NET.format(module=__name__, layer=layer))
    return caffe.Net(str(folder / "net.prototxt"), caffe.TRAIN)


def python_solver(folder, layer="CountingLoss"):
    return caffe.get_solver(str(write_solver(folder, net=PYTHON_NET.format(module=__name__, layer=layer))))


def beats_during(work) -> int:
    """How often another Python thread ran while `work` did; it does a little 1000 times a second."""
    beats, done = [], threading.Event()

    def beat() -> None:
        while not done.wait(0.001):
            beats.append(1)

    thread = threading.Thread(target=beat)
    thread.start()
    before = len(beats)
    work()
    during = len(beats) - before
    done.set()
    thread.join()
    return during


@pytest.mark.timing
def test_python_goes_on_during_forward_backward_and_step(tmp_path):
    """The lock is free in each of them: another thread runs many times in a pass that takes long."""
    text = NET.format(hidden=3000, first="hidden").replace("dim: 10", "dim: 3000").replace("dim: 4 ", "dim: 800 ")
    solver = caffe.get_solver(str(write_solver(tmp_path, net=text.replace("dim: 4 }", "dim: 800 }"))))
    solver.net.forward()
    for work in (solver.net.forward, solver.net.backward, lambda: solver.step(1), solver.solve):
        start = time.perf_counter()
        beats = beats_during(work)
        assert beats >= 3, f"{beats} in {time.perf_counter() - start:.3f} s"


def test_python_layers_take_the_lock_back(tmp_path):
    """In forward, backward and step, in the main thread and in several others at a time: all passes are made."""

    def passes(number: int) -> tuple[int, int]:
        CountingLoss.seen.__dict__.clear()
        folder = tmp_path / str(number)
        folder.mkdir()
        net = python_net(folder, "CountingLoss")
        for _ in range(20):
            assert net.forward()["loss"] == pytest.approx(net.blobs["inner"].data.sum(), abs=1e-3)
            net.backward()
        python_solver(folder).step(5)
        return CountingLoss.seen.forward, CountingLoss.seen.backward

    assert passes(-1) == (25, 25)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(passes, range(4))) == [(25, 25)] * 4


def test_an_error_in_a_python_layer_is_the_callers(tmp_path):
    """With its own text, from forward and from step, and Python works afterwards."""
    net, solver = python_net(tmp_path, "FailingLoss"), python_solver(tmp_path, "FailingLoss")
    for work in (net.forward, lambda: solver.step(1), solver.solve):
        for _ in range(3):
            with pytest.raises(KeyError, match="my own mistake"):
                work()


def test_callbacks_take_the_lock_back(tmp_path):
    """Those of nets and of solvers; an error in one is the caller's, too."""
    solver, calls = python_solver(tmp_path), []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("gradients"))
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(solver.net, name)(lambda layer, name=name: calls.append((name, layer)))
    beats_during(lambda: solver.step(2))
    assert calls.count("start") == calls.count("gradients") == 2
    assert calls.count(("before_forward", 2)) == calls.count(("after_backward", 1)) == 2

    def fail(layer: int) -> None:
        raise KeyError(layer)

    solver.net.before_forward(fail)
    with pytest.raises(KeyError):
        solver.net.forward()


def test_nets_in_threads_compute_what_they_compute_alone(tmp_path):
    """Four nets with the same weights, each in a thread of its own, against one after the other."""
    deploy, weights = paths.PROTOTXT / "demo" / "deploy.prototxt", tmp_path / "demo.caffemodel"
    master = caffe.Net(str(deploy), caffe.TEST)
    generator = np.random.default_rng(0)
    for blobs in master.params.values():
        blobs[0].data[...] = generator.normal(0, 0.05, blobs[0].data.shape)
    master.save(str(weights))
    inputs = generator.normal(0, 60, (4, 6, 2, *master.blobs["data"].data.shape[1:]))

    def scores(batches) -> np.ndarray:
        net = caffe.Net(str(deploy), str(weights), caffe.TEST)
        net.blobs["data"].reshape(*batches.shape[1:])
        found = []
        for batch in batches:
            net.blobs["data"].data[...] = batch
            found.append(net.forward()["prob"].copy())
        return np.stack(found)

    alone = [scores(batches) for batches in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(scores, inputs))
    np.testing.assert_array_equal(together, alone)
    assert np.ptp(alone) > 0


CONVOLUTIONS = """
import threading, time
import numpy as np
import caffe
def net(tmp, inputs, layers, size=24, outputs=32):
    text = "".join(f"layer {{ name: 'c{i}' type: 'Convolution' bottom: 'c{i - 1}' top: 'c{i}' convolution_param "
                   f"{{ num_output: {outputs} kernel_size: 3 pad: 1 }} }}" for i in range(1, layers + 1))
    path = f"{tmp}/net.prototxt"
    open(path, "w").write("layer { name: 'c0' type: 'Input' top: 'c0' input_param { shape { dim: 1 dim: %d dim: %d "
                          "dim: %d } } }" % (inputs, size, size) + text)
    return caffe.Net(path, caffe.TEST)
"""


def test_another_thread_reads_blobs_while_a_net_computes(tmp_path):
    """No crash, and the net gives what it gives alone; oneDNN's values are unpacked for the reader meanwhile."""
    code = (
        CONVOLUTIONS
        + f"""
net = net({str(tmp_path)!r}, 16, 6)
generator = np.random.default_rng(0)
for blobs in net.params.values():
    blobs[0].data[...] = generator.normal(0, 0.1, blobs[0].data.shape)
net.blobs["c0"].data[...] = generator.normal(0, 1, net.blobs["c0"].data.shape)
net.forward()
alone = net.blobs["c6"].data.copy()
done, reads = threading.Event(), []
def read():
    while not done.is_set():
        reads.extend(float(blob.data[0, 0, 0, 0]) for blob in net.blobs.values())
        time.sleep(0.0005)
reader = threading.Thread(target=read, daemon=True)
reader.start()
end = time.monotonic() + 4
while time.monotonic() < end or len(reads) < 1000:
    assert reader.is_alive()
    net.forward()
    np.testing.assert_allclose(net.blobs["c6"].data, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())
done.set()
reader.join()
"""
    )
    python(code, {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


def test_threads_may_run_where_they_might_before(tmp_path):
    """Those of the pool are woken elsewhere than where the net's thread runs, which lasts no longer than that."""
    code = (
        CONVOLUTIONS
        + f"""
import os
net = net({str(tmp_path)!r}, 16, 3)
for _ in range(30):
    net.forward()
    time.sleep(0.003)  # so that they fall asleep
threads = [int(name) for name in os.listdir("/proc/self/task")]
assert len(threads) > 1 or len(os.sched_getaffinity(0)) == 1
assert all(os.sched_getaffinity(thread) == os.sched_getaffinity(0) for thread in threads)
"""
    )
    python(code, {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"})


def test_weights_written_while_a_net_computes_hold_from_the_next_pass_on(tmp_path):
    """oneDNN keeps weights in an order of its own: those that were read in the midst of the writing must not stay."""
    code = (
        CONVOLUTIONS
        + f"""
net = net({str(tmp_path)!r}, 256, 1, size=4, outputs=512)
weights, bias = net.params["c1"]
bias.data[...] = 0
net.blobs["c0"].data[...] = 1
net.forward()
written = [np.full(weights.data.shape, value, np.float32) for value in (1, 2)]
for trial in range(200):
    value = 1 + trial % 2
    def write(delay=np.random.default_rng(trial).random() * 0.002):
        time.sleep(delay)
        weights.data[...] = written[value - 1]
    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        net.forward()
    writer.join()
    net.forward()
    np.testing.assert_allclose(net.blobs["c1"].data[0, :, 1, 1], 256 * 9 * value, rtol=1e-4)
"""
    )
    python(code, {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


@pytest.mark.parametrize("callback", ["", "net.before_forward(lambda layer: sum(range(200)))"])
def test_python_ends_while_a_daemon_thread_computes(tmp_path, callback):
    """With exit status 0: C++ must not end the program because Python ends that thread, wherever that is just then."""
    for delay in np.linspace(0.05, 0.1, 10):
        python(
            CONVOLUTIONS
            + f"""
net = net({str(tmp_path)!r}, 16, 2, size=6)
{callback}
def work():
    while True:
        net.forward()
threading.Thread(target=work, daemon=True).start()
time.sleep({delay})
""",
            os.environ,
        )
