"""The GPU benchmark, on the CPU as far as it goes: the same net on both sides, honest counts, clear lines."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import bench_gpu
import testlib
from selfie.bench import (
    caffe_time,
    duel,
    first_meeting,
    gpu,
    gpu_setting,
    gtest,
    losses,
    record,
    sanitizer,
    training_peer,
)
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.worker import OutOfMemory, Worker
from selfie.data import image
from selfie.net import architectures, caffe_net, pycaffe, variants
from selfie.net.prototxt import dump
from selfie.original import protocol


@pytest.fixture
def ours():
    """Caffe in a process of its own, on the CPU."""
    with Worker(sys.executable, "bench.caffe_peer") as process:
        process.ask("hello", gpu=None)
        yield process


def test_caffe_scores_and_trains_in_a_process_of_its_own(ours):
    """Times above 0, the variant's parameters, and a loss."""
    about = ours.ask("prepare", variant="demo", batch=4, training=False)
    assert about["parameters"] == 488_066 and ours.ask("forward", count=2)["seconds"] > 0
    ours.ask("prepare", variant="demo", batch=4, training=True)
    done = ours.ask("training", count=2)
    assert done["seconds"] > 0 and 0 < done["loss"] < 100


def test_a_contender_that_fails_is_an_error_with_its_words(ours):
    """An exception leaves the process alive; its end is reported, too."""
    with pytest.raises(SelfieError, match="unknown variant 'nonsense'"):
        ours.ask("prepare", variant="nonsense", batch=4, training=False)
    assert ours.ask("release") == {}
    ours.process.kill()
    with pytest.raises(SelfieError, match=r"bench\.caffe_peer failed: exit code -9"):
        ours.ask("release")


def test_glogs_fatal_line_is_what_a_dead_contender_said(ours):
    """Caffe aborts with a stack trace behind the line that matters; a size that int cannot hold makes it."""
    with pytest.raises(SelfieError, match=r"bench\.caffe_peer failed: .*Check failed"):
        ours.ask("prepare", variant="demo", batch=50_000_000, training=False)


@pytest.mark.parametrize(
    "words",
    [
        "F1126 syncedmem.cpp:71] Check failed:  out of memory",
        "F1126 cudnn.cpp:9] out of GPU memory for 4096 MiB of cuDNN's workspace",
        "F1126 x.cpp:1] Check failed: CUBLAS_STATUS_ALLOC_FAILED",
        "torch.OutOfMemoryError: CUDA out of memory.",
        "F1126 x.cpp:1] Check failed: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_running_out_of_memory_is_an_error_of_its_own(monkeypatch, words):
    """Then the other rows are still measured."""
    with Worker(sys.executable, "bench.caffe_peer") as process:
        monkeypatch.setattr(process, "_last_words", lambda: words)
        process.process.kill()
        process.process.wait()
        with pytest.raises(OutOfMemory):
            process.ask("release")


def test_multiplications_are_those_of_the_definition():
    """VGG16's as the protocol counts them from its layers; training costs three forwards but for the first layer's
    gradient by pixels, 3 x 64 x 9 at 224 x 224 places."""
    macs = caffe_net.macs(caffe_net.load(paths.PROTOTXT / "vgg16" / "deploy.prototxt"))
    assert macs.forward == protocol.vgg16_macs()
    assert 3 * macs.forward - macs.training == 3 * 64 * 9 * 224**2


def test_nets_that_branch_are_no_chain():
    """Those that the protocol counts the multiplications of."""
    assert [layer["type"] for layer in architectures.chain(variants.get("vgg16"))].count("Convolution") == 13
    with pytest.raises(SelfieError, match="no chain"):
        architectures.chain(variants.get("squeezenet"))
    with pytest.raises(SelfieError, match="dropout"):
        architectures.plain_layers(variants.get("vgg16_dropout"))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["demo", "squeezenet"])
def test_pytorch_computes_the_same(name, layout):
    """With Caffe's weights, its scores: the peer does the same work."""
    if importlib.util.find_spec("torch") is None:
        testlib.skip("torch", "pip install -r requirements-bench.txt")
    import torch

    from selfie.bench import torch_peer

    variant = variants.get(name)
    scorer = caffe_net.load(paths.PROTOTXT / name / "deploy.prototxt")
    rng = np.random.default_rng(0)
    pixels = 60 * rng.standard_normal((1, 3, variant.crop, variant.crop), np.float32)
    model = torch_peer.Net(architectures.plain_layers(variant))
    model(torch.from_numpy(pixels))
    learned = [layer for layer in model.modules() if hasattr(layer, "weight")]
    for layer, (weights, bias) in zip(learned, scorer.params.values()):
        weights.data[...] = (2 * weights.shape[0] / weights.count) ** 0.5 * rng.standard_normal(weights.data.shape)
        layer.weight.data[...] = torch.from_numpy(weights.data)
        layer.bias.data[...] = torch.from_numpy(bias.data)
    assert len(learned) == len(scorer.params)
    scorer.blobs["data"].data[...] = pixels
    scorer.forward()
    scores_of = architectures.plain_layers(variant)[-1]["top"]
    scores = model.to(memory_format=torch_peer.LAYOUTS[layout])(torch.from_numpy(pixels))
    np.testing.assert_allclose(
        scores.detach().numpy(), scorer.blobs[scores_of].data.reshape(1, -1), rtol=1e-3, atol=1e-4
    )


@pytest.mark.timing
def test_caffe_time_is_read_whole(tmp_path):
    """Both passes, and every layer both ways, from a real run."""
    file = tmp_path / "net.prototxt"
    file.write_text(dump(architectures.with_input(variants.get("demo"), 2, training=True)))
    times = caffe_time.caffe_time(str(file), 2, [], "fp32")
    assert set(times["layers"]) == {
        layer["name"] for layer in architectures.with_input(variants.get("demo"), 2, True)["layer"]
    }
    for name, way in (("Forward pass", "forward"), ("Backward pass", "backward")):
        assert times[name] >= 0.9 * sum(layer[way] for layer in times["layers"].values()) > 0
    with pytest.raises(SelfieError, match=r"caffe time failed: [EF]\d+ "):
        caffe_time.caffe_time(str(tmp_path / "none.prototxt"), 2, [], "fp32")


def test_losses_are_held_against_their_mean():
    """Not each against itself: a small loss would make a large difference of nothing. Lengths must agree."""
    assert losses.difference([2.0, 0.1], [2.0, 0.2]) == pytest.approx(0.1 / 1.05)
    with pytest.raises(RuntimeError):
        losses.difference([1.0], [])


@pytest.fixture
def upstream(tmp_path):
    """Make a script that speaks as gtest does: tests A.a to A.f, of which `cases` of sh are not like the others."""

    def make(cases: str) -> Path:
        script = tmp_path / "test.testbin"
        script.write_text(f"""#!/bin/sh
case "$*" in *--gtest_list_tests*)
    echo "Cuda number of devices: 0"; echo "A.  # TypeParam = float"; printf '  %s\\n' a b c d e f; exit;;
esac
[ "$1 $CAFFE_TF32 $OMP_NUM_THREADS" = "3 0 1" ] || exit 9
for name in $(echo "${{2#*=}}" | tr : ' '); do
    echo "[ RUN      ] $name"
    case $name in {cases} *) echo "[       OK ] $name (1 ms)";; esac
done
""")
        script.chmod(0o755)
        return script

    return make


def test_tests_that_fail_or_take_the_program_down_did_not_pass(upstream, tmp_path):
    """Of two shards, on GPU 3, in full precision, one thread each. Those behind one that dies are run all the same."""
    script = upstream('A.b) echo "[  FAILED  ] A.b (1 ms)";; A.c) kill -9 $$;;')
    logs = tmp_path / "logs"
    for _ in range(2):  # what an earlier run said does not count
        assert gtest.run_gtest(script, tmp_path, "*", 2, logs, gpu=3) == {
            "all": 6,
            "passed": 4,
            "failed": ["A.b", "A.c"],
            "cut off": [],
            "ends": 1,
        }
    assert "[ RUN      ] A.e" in (logs / "0.txt").read_text()  # whoever is cut off finds it there


def test_tests_that_are_cut_off_tell_what_was_done(upstream, tmp_path):
    """They neither passed nor failed, nor did those behind them; of the other shard all is known."""
    script = upstream('A.b) echo "[  FAILED  ] A.b (1 ms)";; A.c) exec sleep 60;;')
    assert gtest.run_gtest(script, tmp_path, "*", 2, tmp_path / "logs", gpu=3, seconds=1) == {
        "all": 6,
        "passed": 3,
        "failed": ["A.b"],
        "cut off": ["A.c"],
        "ends": 0,
    }


def test_each_blob_is_held_against_its_largest_value():
    """So the first layer that is wrong is known by name; what is not a number is as wrong as can be."""
    expected = {"conv": np.array([4.0, -8.0]), "prob": np.array([0.5])}
    actual = {"conv": np.array([4.0, -6.0]), "prob": np.array([np.nan])}
    assert first_meeting.differences(expected, actual) == {"conv": 0.25, "prob": np.inf}
    with pytest.raises(RuntimeError, match="conv, prob"):
        first_meeting.differences(expected, {"conv": actual["conv"]})


def test_tests_that_do_not_start_are_an_error(tmp_path):
    """Nothing of nothing passed is no success."""
    script = tmp_path / "test.testbin"
    script.write_text("#!/bin/sh\necho 'libcublas.so.13: cannot open' >&2\nexit 127\n")
    script.chmod(0o755)
    with pytest.raises(SelfieError, match="libcublas"):
        gtest.run_gtest(script, tmp_path, "*", 2, tmp_path / "logs")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--device", "x"], 2, "number of a GPU"),
        (["--only", "nothing"], 2, "gtest"),
        (["--device", "0", "--only", "vgg16", "nothing"], 2, "invalid choice"),
        (["--device", "cpu", "--only", "vgg16", "--torch", "no-such-python"], 1, "PyTorch, the peer, is not in"),
    ],
)
def test_wrong_usage_is_refused(arguments, code, word):
    """Before anything is measured."""
    result = testlib.command("tools/bench_gpu.py", *arguments)
    assert result.returncode == code and word in result.stderr and "Traceback" not in result.stderr


def test_the_benchmark_measures_on_the_cpu(tmp_path):
    """Its own part of it, in miniature: table and JSON."""
    result = testlib.command("tools/bench_gpu.py", "--device", "cpu", "--quick", "--only", "layers", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "caffe time, demo, batch 2, fp32: forward pass" in result.stdout
    report = paths.read_json(tmp_path / "bench_gpu_cpu.json")
    assert report["groups"]["layers"]["quick"] and report["machine"]["caffe build"]


def test_the_whole_benchmark_where_pytorch_is(tmp_path, mirror):
    """Both sides, all groups, on the CPU; the figures give the same losses with another kernel of OpenBLAS."""
    try:
        python = gpu_setting.find_torch()
    except SelfieError as error:
        testlib.skip("torch", str(error))
    mirror("grid_render_best.jpg")
    report = gpu.measure(gpu_setting.Setting(Path(tmp_path), True, None, python), ["vgg16", "training"])
    rows = [row for group in report["groups"].values() for row in group["rows"]]
    assert len(rows) == 10 and all(row["fine"] is not False for row in rows)


def test_a_first_meeting_is_rehearsed_on_the_cpu(tmp_path):
    """Each step writes as it ends; what compares with the CPU finds the CPU there."""
    steps = ("first:100", "errors:100")
    environment = {**os.environ, "DEVICE": "cpu", "QUICK": "1", "PYTHON": sys.executable, "CARRY": tmp_path / "none"}
    command = [paths.ROOT / "tools" / "gpu_check.sh", tmp_path, *steps]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + (tmp_path / "first.log").read_text()
    report = paths.read_json(tmp_path / "bench_gpu_cpu.json")
    assert list(report["groups"]) == ["first", "errors"]
    assert all(row["fine"] is not False for group in report["groups"].values() for row in group["rows"])
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()] == [["first", "good"], ["errors", "good"]]


def test_a_machine_may_lack_all_but_numpy_and_protobuf(tmp_path):
    """What needs polars or LMDB says so, and leaves all else to be measured."""
    lacking = ("lmdb", "polars", "openpyxl", "zstandard", "pillow_heif", "cv2", "PIL", "tqdm", "skimage", "scipy")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({lacking}))\n")
    command = [sys.executable, paths.ROOT / "tools/bench_gpu.py", "--device", "cpu", "--quick", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [*command, "--only", "first", "crops", "errors"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "no measurement of crops: it needs lmdb and polars" in result.stderr
    report = paths.read_json(tmp_path / "bench_gpu_cpu.json")
    assert list(report["groups"]) == ["first", "errors"]
    assert all(row["fine"] is not False for group in report["groups"].values() for row in group["rows"])


@pytest.fixture
def tiles(tmp_path) -> Path:
    """A labels.csv with 16 pictures of noise beside it, which Caffe trains SqueezeNet on."""
    (tmp_path / "tiles").mkdir()
    rng = np.random.default_rng(3)
    rows = [f"{number}.png,{number % 2},{'train' if number < 12 else 'test'}" for number in range(16)]
    for number in range(16):
        image.write(tmp_path / "tiles" / f"{number}.png", rng.integers(0, 256, (40, 40, 3), np.uint8))
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return tmp_path / "labels.csv"


def test_a_training_that_is_resumed_has_the_same_losses(tiles, tmp_path):
    """Bit by bit, with the pictures of its iterations; those of other iterations are others."""
    told = {"gpu": None, "variant": "demo", "batch": 4, "labels": str(tiles), "caffemodel": None}
    with Worker(sys.executable, "bench.training_peer") as process:
        assert process.ask("begin", **told, prefix=str(tmp_path / "s")) == {"pictures": 12}
        process.ask("train", count=2)
        assert process.ask("snapshot") == {"iteration": 2}
        expected = process.ask("train", count=2)["losses"]
    with Worker(sys.executable, "bench.training_peer") as process:
        process.ask("begin", **told, prefix=str(tmp_path / "s"))
        process.ask("restore", solverstate=str(tmp_path / "s_iter_2.solverstate"))
        assert process.ask("train", count=2)["losses"] == expected
    pictures = training_peer.Pictures(tiles, variants.get("demo"), 4)
    (first, _), (second, _), (again, _) = (pictures.batch_of(iteration) for iteration in (0, 1, 3))
    assert (first != second).any() and (first == again).all()


def test_pictures_may_come_decoded(tiles):
    """Those that do are the same, and then there are no others."""
    pictures = training_peer.Pictures(tiles, variants.get("demo"), 4)
    expected = [pictures.batch_of(iteration) for iteration in (0, 0)]
    pictures.decode()
    for file in (tiles.parent / "tiles").iterdir():
        file.unlink()
    decoded = training_peer.Pictures(tiles, variants.get("demo"), 4)
    assert len(decoded.rows) == 4
    for iteration, (pixels, labels) in enumerate(expected):
        again, told = decoded.batch_of(iteration)
        assert (again == pixels).all() and told == labels


def test_a_step_that_is_cut_off_loses_only_itself(tmp_path):
    """So does one that fails, whose last words are told; the exit status says that not all is good."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *slow*) sleep 9;; *bad*) echo first; echo why >&2; exit 1;; esac\n')
    python.chmod(0o755)
    command = [paths.ROOT / "tools" / "gpu_check.sh", tmp_path / "out", "slow:1", "bad:9", "good:9"]
    packed = tmp_path / "packed.tar.gz"
    environment = {**os.environ, "PYTHON": str(python), "CARRY": str(tmp_path / "none"), "PACK": str(packed)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    with tarfile.open(packed) as archive:
        assert {"./steps.tsv", "./slow.log", "./good.log"} <= set(archive.getnames())
    told = [line.split("\t")[:2] for line in (tmp_path / "out" / "steps.tsv").read_text().splitlines()]
    assert told == [["slow", "not done in 1 s"], ["bad", "failed: why"], ["good", "good"]]
    assert result.returncode == 1


def test_dense_crops_and_memory_are_measured_in_miniature(tmp_path):
    """With positive times and bytes on both sides."""
    report = gpu.measure(gpu_setting.Setting(tmp_path, True, None), ["crops", "memory"])
    rows = [row for group in report["groups"].values() for row in group["rows"]]
    assert len(rows) == 3 and all(row["ours"] > 0 and row["peer"] > 0 for row in rows)


def test_rows_are_kept_as_they_come(tmp_path):
    """A group that fails or is cut off leaves what it has measured, and is called so. No rows change nothing."""

    def broken(_):
        yield record.Row("broken", "first", "s", 1.0)
        raise SelfieError("cut off")

    groups = {"good": lambda _: [record.Row("good", "all", "s", 2.0)], "broken": broken, "none": lambda _: []}
    setting, file = gpu_setting.Setting(tmp_path, True, None), tmp_path / "report.json"
    with pytest.raises(SelfieError, match="cut off"):
        record.record_groups(file, groups, ["good", "broken"], setting, dict)
    kept = paths.read_json(file)["groups"]
    assert [(name, "unfinished" in of, len(of["rows"])) for name, of in kept.items()] == [
        ("good", False, 1),
        ("broken", True, 1),
    ]
    groups["good"] = groups["none"]
    assert record.record_groups(file, groups, ["good", "none"], setting, dict)["groups"] == kept


def test_the_net_for_the_sanitizer_has_all_layers_that_patches_change(tmp_path):
    """It computes, forward and backward; a GPU build's own layers of cuDNN are all among its types."""
    file = tmp_path / "net.prototxt"
    file.write_text(sanitizer.net())
    said = sanitizer.timed(file, [str(pycaffe.binary())], [])
    assert len(re.findall(r"layer\d+\tbackward: ", said)) == len(sanitizer.LAYERS)
    ours = (paths.ROOT / "docker" / "patches-cuda").glob("*.patch")
    named = {name for patch in ours for name in re.findall(r"b/src/caffe/layers/cudnn_(\w+)_layer", patch.read_text())}
    own = {path.name.split("_")[1] for path in (paths.ROOT / "docker" / "caffe-cuda").rglob("cudnn_*_layer.cu")}
    as_types = {
        "conv": "Convolution",
        "deconv": "Deconvolution",
        "lcn": "LRN",
        "lrn": "LRN",
        "relu": "ReLU",
        "tanh": "TanH",
    }
    types = {as_types.get(name, name.capitalize()) for name in named | own} - {"Softmax"}  # in the loss
    assert types == {"Convolution", "Deconvolution", "LRN", "ReLU", "TanH", "Pooling", "Sigmoid"}
    assert types <= {kind for kind, _ in sanitizer.LAYERS}


def test_the_commands_groups_are_those_of_the_library():
    """They stand in the command, too, since the library is slow to import."""
    assert tuple(gpu.GROUPS) == bench_gpu.GROUPS


def test_the_peers_process_needs_pytorch_and_the_standard_library_only():
    """A Python that has PyTorch has none of our packages: with a stub of torch, all else is at hand in bare Python."""
    code = """if True:
        import sys, types
        class Stub(types.ModuleType):
            __getattr__ = lambda self, name: type(name, (), {})
        sys.modules["torch"] = torch = Stub("torch")
        torch.nn = Stub("torch.nn")
        import selfie.bench.torch_peer
        print(sorted(name for name in sys.modules if name.startswith("selfie")))
    """
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "selfie.bench.torch_peer" in result.stdout


DUEL_PEER = '''
"""A peer as torch_peer is one, without PyTorch: half as fast in one layout as in the other."""
from selfie.common.worker import serve

SECONDS = {"contiguous": 4.0, "channels_last": 2.0}
serve({
    "hello": lambda device, tf32: {},
    "prepare": lambda layers, batch, side, classes: {"parameters": 488_066},
    "forward": lambda layout, count: {"seconds": SECONDS[layout] * count},
})
'''


def test_the_peer_of_a_duel_is_pytorchs_faster_layout(tmp_path):
    """With its images/s and a ratio to it; the share of the matrix rate is that of the multiply-accumulates."""
    python = tmp_path / "python"  # a Python that has another torch_peer
    (tmp_path / "peer.py").write_text(DUEL_PEER)
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'peer.py'}\n")
    python.chmod(0o755)
    setting = gpu_setting.Setting(tmp_path, True, None, str(python))
    with duel.Sides(setting, "fp32", "vgg16", setting.variant) as sides:
        row = duel.duel(sides, "forward", 4, 1e12, "title")
    assert row.peer_name == "PyTorch, channels_last" and row.peer == pytest.approx(2)
    assert row.ratio == pytest.approx(row.ours / 2) and row.detail["iterations per round"] == 1
    macs = caffe_net.macs(caffe_net.load(paths.PROTOTXT / "demo" / "deploy.prototxt")).forward
    assert row.detail["share"] == pytest.approx(row.ours * 2 * macs / 1e12)
