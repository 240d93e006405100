"""What Caffe refuses or fails in is a caffe.Error, in every thread, and one line of its tools."""

from __future__ import annotations

import gc
import os
import pickle
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caffe
import fuzz_caffe
import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2

import testlib
from selfie.common import paths

TOOLS = paths.BUILD / "caffe" / "bin"
FORWARD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "inner" type: "InnerProduct" bottom: "conv" top: "inner"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
"""
DATA = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  data_param {{ source: "{folder}/lmdb" backend: LMDB batch_size: 1 prefetch: 2 }} }}
layer {{ name: "inner" type: "InnerProduct" bottom: "data" top: "inner"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "inner" bottom: "label" top: "loss" }}
"""


def net(folder: Path, text: str = FORWARD, phase: int = caffe.TEST) -> caffe.Net:
    (folder / "net.prototxt").write_text(text)
    return caffe.Net(str(folder / "net.prototxt"), phase)


def solver(folder: Path, text: str) -> caffe.SGDSolver:
    (folder / "net.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 9 snapshot_prefix: "{folder}/s"'
    )
    return caffe.get_solver(str(folder / "solver.prototxt"))


def records(folder: Path, damaged: int | None = None, count: int = 6) -> Path:
    """A database of `count` records, one of them damaged."""
    with lmdb.open(str(folder / "lmdb"), map_size=1 << 20) as database, database.begin(write=True) as transaction:
        for number in range(count):
            datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(4), label=number % 2)
            value = datum.SerializeToString()
            transaction.put(b"%08d" % number, b"\xff" * 9 if number == damaged else value)
    return folder / "lmdb"


def message(work) -> str:
    """What the caffe.Error says that `work` raises: one line."""
    with pytest.raises(caffe.Error) as raised:
        work()
    text = str(raised.value)
    assert text and "\n" not in text
    return text


# ---[ The exception


def test_it_is_a_runtime_error_that_can_be_sent_to_other_processes():
    error = pickle.loads(pickle.dumps(caffe.Error("no")))
    assert isinstance(error, RuntimeError) and type(error) is caffe.Error and str(error) == "no"


def test_a_prototxt_is_refused_with_line_and_column(tmp_path):
    assert "line 2, column" in message(lambda: net(tmp_path, 'name: "x"\nlayer { nmae: "y" }\n'))
    assert "Unknown layer type: Nonsense" in message(lambda: net(tmp_path, 'layer { name: "y" type: "Nonsense" }'))


@pytest.mark.parametrize(
    "layer",
    [
        "convolution_param { num_output: 2 kernel_size: 3 stride_h: 0 stride_w: 1 }",
        "convolution_param { num_output: 2 kernel_size: 3 group: 0 }",
        "convolution_param { num_output: 2 kernel_size: 3 dilation: 0 }",
        "convolution_param { num_output: 2147483647 kernel_size: 3 }",
        "convolution_param { num_output: 90000000 kernel_size: 4 }",
        "convolution_param { num_output: 2 kernel_size: 3 axis: 7 }",
    ],
)
def test_absurd_numbers_are_refused(tmp_path, layer):
    """No division by zero, no overflow, no memory that is not there."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, limits[1]))  # should one be tried after all
    try:
        message(lambda: net(tmp_path, FORWARD.split("convolution_param")[0] + layer + "}"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_blob_keeps_the_shape_that_it_had(tmp_path):
    blob = net(tmp_path).blobs["data"]
    for dims in ((1 << 20, 1 << 20), (2, -3), (2,) * 40):
        message(lambda dims=dims: blob.reshape(*dims))
        assert tuple(blob.shape) == (1, 3, 8, 8) and blob.count == 192 and blob.data.shape == (1, 3, 8, 8)


def test_labels_outside_the_classes_are_refused(tmp_path):
    """They read beyond the probabilities."""
    text = """
    layer { name: "d" type: "Input" top: "d" top: "l" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
    layer { name: "loss" type: "%s" bottom: "d" bottom: "l" top: "loss" }"""
    for kind in ("SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss", "Accuracy"):
        for label in (-1, 3, float("nan"), 1e9):
            one = net(tmp_path, text % kind)
            one.blobs["l"].data[...] = label
            message(one.forward)


# ---[ What failed says so, others go on


def test_a_net_that_failed_halfway_says_so_and_can_be_saved(tmp_path):
    failed, other = net(tmp_path), net(tmp_path)
    good = other.forward()["inner"].copy()
    failed.blobs["data"].reshape(1, 4, 8, 8)
    first = message(failed.forward)
    failed.blobs["data"].reshape(1, 3, 8, 8)
    for work in (failed.forward, failed.backward, failed.reshape):
        again = message(work)
        assert again.startswith("this Net failed before") and first in again
    failed.save(str(tmp_path / "rescued.caffemodel"))
    other.copy_from(str(tmp_path / "rescued.caffemodel"))
    assert np.array_equal(other.params["conv"][0].data, failed.params["conv"][0].data)
    assert other.forward()["inner"].shape == good.shape


def test_weights_are_copied_all_or_not_at_all(tmp_path):
    """By binaryproto and HDF5; the net goes on as it was."""
    one = net(tmp_path)
    one.blobs["data"].data[...] = 1
    before = one.forward()["inner"].copy()
    other = net(tmp_path, FORWARD.replace("num_output: 2 weight_filler", "num_output: 3 weight_filler"))
    other.save(str(tmp_path / "other.caffemodel"))
    other.save_hdf5(str(tmp_path / "other.h5"))
    assert "shape mismatch" in message(lambda: one.copy_from(str(tmp_path / "other.caffemodel")))
    assert "shape mismatch" in message(lambda: one.copy_from(str(tmp_path / "other.h5")))
    (tmp_path / "cut").write_bytes((tmp_path / "other.caffemodel").read_bytes()[:-9])
    assert "Failed to parse NetParameter file" in message(lambda: one.copy_from(str(tmp_path / "cut")))
    message(lambda: one.share_with(other))
    assert np.array_equal(one.forward()["inner"], before)


def test_values_in_a_nets_own_definition_have_its_shapes(tmp_path):
    """Inner products took them in any shape, and read beyond them."""
    inner = 'layer { name: "inner" type: "InnerProduct" bottom: "conv" top: "inner"'
    for blobs in ("blobs { shape { dim: 1 } data: 1 }", "blobs { shape { dim: 1 } data: 1 } " * 2):
        message(lambda blobs=blobs: net(tmp_path, FORWARD.replace(inner, inner + blobs)))
    one = FORWARD.replace(inner, inner + "blobs { shape { dim: 2 dim: 72 } " + "data: 3 " * 144 + "} blobs { "
                          "shape { dim: 2 } data: 4 data: 5 } ")  # fmt: skip
    values = net(tmp_path, one).params["inner"]
    assert (values[0].data == 3).all() and values[1].data.tolist() == [4, 5]


def test_what_python_layers_raise_stays_theirs(tmp_path):
    """Also when they are made: that was a SystemError."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        net(
            tmp_path, 'layer { name: "p" type: "Python" top: "p" python_param { module: "no_such_module" layer: "P" } }'
        )


# ---[ Threads


def test_a_damaged_record_is_the_next_forwards(tmp_path):
    """Its thread hands it over; the net can be thrown away; the database can be opened again."""
    records(tmp_path, damaged=3)
    for _ in range(3):
        one = net(tmp_path, DATA.format(folder=tmp_path))
        for _ in range(3):
            one.forward()
        assert "Damaged record 00000003" in message(one.forward)
        assert "this Net failed before" in message(one.forward)
        del one
    gc.collect()
    with lmdb.open(str(tmp_path / "lmdb")) as database:
        assert database.stat()["entries"] == 6


def test_a_solver_that_failed_says_so_and_can_be_snapshotted(tmp_path):
    records(tmp_path, damaged=2)
    one = solver(tmp_path, DATA.format(folder=tmp_path))
    one.step(2)
    assert "Damaged record" in message(lambda: one.step(2))
    assert "this Solver failed before" in message(lambda: one.step(1))
    assert "this Net failed before" in message(one.net.forward)
    one.snapshot()
    assert (tmp_path / "s_iter_2.caffemodel").exists()


def test_a_picture_that_goes_missing_is_the_next_forwards(tmp_path):
    (tmp_path / "list").write_text(f"{tmp_path}/none.png 0\n")
    text = 'layer {{ name: "i" type: "ImageData" top: "i" top: "l" image_data_param {{ source: "{}" batch_size: 1 }} }}'
    assert "none.png" in message(lambda: net(tmp_path, text.format(tmp_path / "list")))


def test_other_threads_go_on(tmp_path):
    """Python threads, each with a net of its own, half of which fail."""
    nets = [net(tmp_path) for _ in range(8)]
    for one in nets:
        one.blobs["data"].data[...] = 1
    for one in nets[::2]:
        one.blobs["data"].reshape(1, 4, 8, 8)

    def passes(one: caffe.Net) -> int:
        done = 0
        for _ in range(50):
            try:
                one.forward()
                done += 1
            except caffe.Error:
                pass
        return done

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(passes, nets)) == [0, 50] * 4


# ---[ Nothing stays


def test_failures_leave_neither_memory_nor_files_behind(tmp_path):
    """Nets that fail while they are made, or at a forward, with databases and HDF5 files open; solvers."""
    records(tmp_path, damaged=0)
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    broken = FORWARD.replace("num_output: 2 weight_filler", "num_output: 0 weight_filler")
    whole = net(tmp_path)

    def fail() -> None:
        message(lambda: net(tmp_path, broken))
        message(lambda: net(tmp_path, DATA.format(folder=tmp_path)))
        message(lambda: solver(tmp_path, DATA.format(folder=tmp_path)))
        message(lambda: whole.copy_from(str(tmp_path / "bad.h5")))
        one = net(tmp_path)
        one.blobs["data"].reshape(1, 4, 8, 8)
        message(one.forward)

    def used() -> tuple[int, int]:
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        return resident, len(os.listdir("/proc/self/fd"))

    for _ in range(100):
        fail()
    memory, files = used()
    for _ in range(300):
        fail()
    assert used()[1] == files
    assert used()[0] - memory < 6 << 20


# ---[ Tools


@pytest.mark.parametrize(
    "command, words",
    [
        ("caffe train -solver {0}/none", "Cannot read {0}/none: No such file or directory"),
        ("caffe train -solver {0}/bad", "Failed to parse SolverParameter file: {0}/bad: line 1"),
        ("caffe test -model {0}/bad -weights {0}/bad", "Failed to parse NetParameter file: {0}/bad: line 1"),
        ("caffe time -model {0}/gpu.prototxt -gpu 0", ""),
        ("caffe nonsense", "Unknown action: nonsense"),
        ("caffe train", "Need a solver definition to train"),
        ("compute_image_mean {0}/none", "Cannot open lmdb {0}/none"),
        ("convert_imageset {0}/ {0}/bad {0}", "mkdir {0} failed"),
        ("upgrade_net_proto_text {0}/bad {0}/out", "Failed to parse NetParameter file: {0}/bad: line 1"),
        ("upgrade_net_proto_binary {0}/none {0}/out", "Cannot read {0}/none"),
        ("upgrade_solver_proto_text {0}/none {0}/out", "Cannot read {0}/none"),
        ("extract_features {0}/none {0}/bad a b 1 lmdb", "Failed to parse NetParameter file: {0}/bad"),
    ],
)
def test_tools_end_in_one_line_and_exit_status_1(tmp_path, command, words):
    """The last one on stderr, an error of the log's form; the log file has it, too. No stack trace, no signal."""
    (tmp_path / "bad").write_text("nonsense: {\n")
    (tmp_path / "logs").mkdir()
    program, *arguments = command.format(tmp_path).split()
    result = subprocess.run(
        [TOOLS / program, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={**os.environ, "GLOG_log_dir": str(tmp_path / "logs")},
    )  # fmt: skip
    lines = [line for line in result.stderr.splitlines() if not re.match(r"[IW]\d|.*Using CPU$", line)]
    assert result.returncode == 1 and lines[-1].startswith("E") and words.format(tmp_path) in lines[-1], result.stderr
    assert len(lines) == 1 or command == "caffe nonsense"  # which lists what there is
    assert "***" not in result.stderr
    [log] = (tmp_path / "logs").glob(f"{program}.*.log.ERROR.*")
    assert lines[-1] in log.read_text()


@pytest.mark.parametrize(
    "command",
    [[TOOLS / "caffe"], [sys.executable, "-m", "caffe"]]
    + [[TOOLS / name] for name in ("compute_image_mean", "convert_imageset", "extract_features")]
    + [[TOOLS / f"upgrade_{name}"] for name in ("net_proto_text", "net_proto_binary", "solver_proto_text")],
    ids=lambda command: " ".join(Path(word).name for word in command),
)
@pytest.mark.parametrize("arguments", [[], ["a", "b", "c", "d", "e", "f", "g"]], ids=["nothing", "much"])
def test_tools_without_what_they_need_show_their_usage(tmp_path, command, arguments):
    """And end by themselves: caffe's was killed by a signal before its words were out."""
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert result.returncode in (0, 1, 2) and "***" not in result.stderr, result.stderr
    if not arguments or command[0] == TOOLS / "caffe":
        assert "usage" in (result.stdout + result.stderr).lower()


def test_commands_tell_it_in_one_line(tmp_path):
    """Where they have no words of their own."""
    code = f"import caffe; from selfie.common import cli; cli.run(lambda: caffe.Net({str(tmp_path / 'none')!r}, 1))"
    result = testlib.command("-c", code)
    testlib.assert_one_line_error(result, "Caffe: ", str(tmp_path / "none"))


# ---[ Damaged files of all kinds


def test_no_damaged_file_ends_python_or_is_wrongly_accepted():
    """A slice of `make fuzz`, which does 2,000 of each kind. See docker/fuzz_caffe.py."""
    counts, bad = fuzz_caffe.fuzz(paths.BUILD / "caffe", list(fuzz_caffe.KINDS), 2015, range(100), jobs=2)
    assert not bad, bad
    for kind in fuzz_caffe.KINDS:
        assert sum(counts[kind].values()) == 100
        assert counts[kind]["accepted"] > 10 and counts[kind]["caffe.Error"] > 10
