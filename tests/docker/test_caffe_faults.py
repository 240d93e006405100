"""Faults that users reported of Caffe, each with its smallest input, on the real build: patches 0006 and 0060 on."""

from __future__ import annotations

import ctypes
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import caffe
import cv2
import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from PIL import Image, ImageOps

from selfie.common import paths

TOOLS = paths.BUILD / "caffe" / "bin"
EXTRA = paths.BUILD / "caffe-src" / "tools" / "extra"

INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}'
INNER = """
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}"
  inner_product_param {{ num_output: {outputs} weight_filler {{ type: "gaussian" std: 1 }} }} }}
"""
TRAINED = """
layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ dim: 4 dim: 5 }} shape {{ dim: 4 }}
  data_filler {{ type: "gaussian" }} data_filler {{ type: "constant" value: 1 }} }} }}
{layers}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "{last}" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "{last}" bottom: "label" top: "accuracy"
  include {{ phase: TEST }} }}
"""


def shape(*dims: int) -> str:
    """An Input layer "data" of that shape."""
    return INPUT.format(dims=" ".join(f"dim: {dim}" for dim in dims))


def quoted(name: str) -> str:
    """`name` as it may stand between quotation marks in a prototxt."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def chain(names: list[str], bottom: str = "data") -> tuple[str, str]:
    """Inner products of these names, one after the other, and the last one's top."""
    layers = ""
    for number, name in enumerate(names):
        layers += INNER.format(name=quoted(name), bottom=bottom, top=f"top{number}", outputs=2 + number % 3)
        bottom = f"top{number}"
    return layers, bottom


def net(folder: Path, text: str, phase: int = caffe.TEST) -> caffe.Net:
    (folder / "net.prototxt").write_text(text)
    return caffe.Net(str(folder / "net.prototxt"), phase)


def solver(folder: Path, names: list[str], more: str = "", layers: str = "") -> Path:
    """A solver of a net with inner products of these names and then `layers`; its snapshots are called s_iter_*."""
    text, last = chain(names)
    (folder / "net.prototxt").write_text(TRAINED.format(layers=text + layers, last=last))
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 random_seed: 1 '
        f'snapshot_prefix: "{folder}/s" {more}'
    )
    return folder / "solver.prototxt"


def run(program: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run one of Caffe's tools."""
    command = [TOOLS / program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def python(code: str, **options: object) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter: what fails in Caffe ends the process."""
    return subprocess.run(
        [sys.executable, "-c", "import caffe\n" + code], capture_output=True, text=True, timeout=120, **options
    )


def fatal(result: subprocess.CompletedProcess) -> str:
    """What a run that failed says: from the first line that is no information to the stack trace."""
    assert result.returncode == 1, result.stderr  # no signal has ended it
    said = result.stderr.split("*** Check failure stack trace")[0]
    return re.search(r"(?ms)^([EF]\d{4}|HDF5-DIAG|terminate|Traceback).*|\Z", said).group().strip()


def as_owner_only() -> None:
    """To be called in a child before its program starts: permissions hold for root, too."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, dropped from the bounding set
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


# ---[ Saving


@pytest.fixture
def small(tmp_path) -> Path:
    """The prototxt of a small net."""
    (tmp_path / "net.prototxt").write_text(shape(1, 5) + chain(["inner"])[0])
    return tmp_path / "net.prototxt"


@pytest.mark.parametrize("method, name", [("save", "m.caffemodel"), ("save_hdf5", "m.caffemodel.h5")])
def test_a_protected_model_is_neither_replaced_nor_removed(small, method, name):
    """The reason is the system's; the file is what it was; nothing stays beside it."""
    model = small.parent / name
    model.write_bytes(b"precious")
    model.chmod(0o444)
    result = python(f"caffe.Net({str(small)!r}, caffe.TEST).{method}({str(model)!r})", preexec_fn=as_owner_only)
    assert f"Cannot write {model}: Permission denied" in fatal(result)
    assert model.read_bytes() == b"precious"
    assert sorted(path.name for path in small.parent.iterdir()) == sorted([name, "net.prototxt"])


def test_without_file_descriptors_the_old_model_stays(small):
    """EMFILE comes before anything is written."""
    model = small.parent / "m.caffemodel"
    model.write_bytes(b"precious")
    result = python(f"""
import os, resource
net = caffe.Net({str(small)!r}, caffe.TEST)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: net.save({str(model)!r})""")
    assert f"Cannot write {model}: Too many open files" in fatal(result)
    assert model.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "where, reason",
    [("no/such/folder/m.caffemodel", "No such file or directory"), ("folder", "Is a directory"),
     ("net.prototxt/m.caffemodel", "Not a directory"), ("/dev/full", "No space left on device")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["save", "save_hdf5"])
def test_a_save_that_cannot_be_names_the_reason(small, where, reason, method):
    """The system's, from opening the file or from writing to it; nothing new is left in the folder."""
    (small.parent / "folder").mkdir()
    target = small.parent / where
    result = python(f"caffe.Net({str(small)!r}, caffe.TEST).{method}({str(target)!r})")
    assert f"Cannot write {target}: {reason}" in fatal(result)
    assert sorted(path.name for path in small.parent.iterdir()) == ["folder", "net.prototxt"]


def limited_files() -> None:
    """To be called in a child: a file can have 1000 bytes at most, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("method", ["save", "save_hdf5"])
def test_a_full_disk_leaves_the_old_model(tmp_path, method):
    """Net.save is as atomic as a snapshot."""
    (tmp_path / "net.prototxt").write_text(shape(1, 5000) + chain(["inner"])[0])
    model = tmp_path / "m.caffemodel"
    model.write_bytes(b"precious")
    code = f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST).{method}({str(model)!r})"
    assert f"Cannot write {model}: File too large" in fatal(
        python(code, preexec_fn=limited_files, restore_signals=False)
    )
    assert model.read_bytes() == b"precious"
    assert not (tmp_path / "m.caffemodel.tmp").exists()


def test_a_full_disk_ends_an_hdf5_output_in_one_line(tmp_path):
    """The layer writes as snapshots are written: the file of before stays."""
    layer = (
        'layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "data" hdf5_output_param { file_name: "%s" } }'
    )
    file = tmp_path / "out.h5"
    (tmp_path / "net.prototxt").write_text(shape(1, 5000) + layer % file)
    code = f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST).forward()"
    assert python(code).returncode == 0
    before = file.read_bytes()
    assert f"Cannot write {file}: File too large" in fatal(
        python(code, preexec_fn=limited_files, restore_signals=False)
    )
    assert file.read_bytes() == before and len(before) > 20_000


def test_a_saved_model_keeps_link_and_permissions_and_replaces_the_old_one(small, monkeypatch):
    """A link to a model still is one, and what only its owner could read stays so; /dev/null takes a model, too."""
    net = caffe.Net(str(small), caffe.TEST)
    folder = small.parent
    (folder / "m1.caffemodel").write_bytes(b"old")
    (folder / "m1.caffemodel").chmod(0o600)
    (folder / "latest").symlink_to("m1.caffemodel")
    net.save(str(folder / "latest"))
    assert (folder / "latest").is_symlink()
    assert (folder / "m1.caffemodel").stat().st_mode & 0o777 == 0o600
    saved = caffe_pb2.NetParameter.FromString((folder / "m1.caffemodel").read_bytes())
    assert [layer.name for layer in saved.layer] == ["data", "inner"]
    net.save("/dev/null")
    monkeypatch.chdir(folder)
    net.save("plain")
    assert Path("plain").read_bytes() == (folder / "m1.caffemodel").read_bytes()


def write_database(folder: Path, values: list[bytes]) -> Path:
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for number, value in enumerate(values):
            transaction.put(b"%08d" % number, value)
    return folder


def records(count: int = 6, size: int = 8) -> list[bytes]:
    generator = np.random.default_rng(0)
    arrays = generator.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return [caffe.io.array_to_datum(array, label=i).SerializeToString() for i, array in enumerate(arrays)]


@pytest.mark.parametrize("tool", ["compute_image_mean", "upgrade_net_proto_binary", "upgrade_net_proto_text"])
def test_tools_do_not_touch_what_is_protected(tmp_path, small, tool):
    """They replace it when they may."""
    output = tmp_path / "output"
    output.write_bytes(b"precious")
    output.chmod(0o444)
    inputs = {
        "compute_image_mean": write_database(tmp_path / "db", records()),
        "upgrade_net_proto_binary": tmp_path / "net.caffemodel",
        "upgrade_net_proto_text": small,
    }
    caffe.Net(str(small), caffe.TEST).save(str(tmp_path / "net.caffemodel"))
    assert f"Cannot write {output}: Permission denied" in fatal(
        run(tool, inputs[tool], output, preexec_fn=as_owner_only)
    )
    assert output.read_bytes() == b"precious"
    output.chmod(0o644)
    assert run(tool, inputs[tool], output).returncode == 0
    assert output.read_bytes() != b"precious"


def test_a_protected_snapshot_is_not_replaced(tmp_path):
    """As in upstream's Caffe: who protects a snapshot wants to keep it."""
    path = solver(tmp_path, ["inner"], "max_iter: 2 snapshot: 2")
    for suffix in ("caffemodel", "solverstate"):
        (tmp_path / f"s_iter_2.{suffix}").write_bytes(b"precious")
        (tmp_path / f"s_iter_2.{suffix}").chmod(0o444)
    result = run("caffe", "train", "-solver", path, preexec_fn=as_owner_only)
    assert "s_iter_2.caffemodel: Permission denied" in fatal(result)
    assert (tmp_path / "s_iter_2.caffemodel").read_bytes() == b"precious"


# ---[ HDF5 and names

SLASHES = ["conv", "conv/fc", "conv/fc/scale", "fire2/squeeze", "fire2/expand", "50%", "a%2Fb", "a/b", "conv/0"]


def weights(of: caffe.Net) -> dict[str, list[np.ndarray]]:
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in of.params.items()}


def assert_same(one: caffe.Net, other: caffe.Net) -> None:
    assert list(one.params) == list(other.params)
    for name in one.params:
        for a, b in zip(one.params[name], other.params[name]):
            np.testing.assert_array_equal(a.data, b.data, err_msg=name)


def random_names(seed: int) -> list[str]:
    """Names of the characters that mean something in paths, codes or prototxts, all different."""
    generator = np.random.default_rng(seed)
    names = {"".join(generator.choice(list('ab/.%2F5 "\\é'), generator.integers(1, 7))) for _ in range(12)}
    return sorted(names - {"data"})


def random_paths(seed: int) -> list[str]:
    """Names that are paths of one to three parts, as an older Caffe could write them."""
    generator = np.random.default_rng(seed)
    part = ["a", "b", "%2F", "%", "c d", ".."]
    return sorted({"/".join(generator.choice(part, generator.integers(1, 4))) for _ in range(12)})


@pytest.mark.parametrize("names", [SLASHES, ["."], [".."], ["/"], ["%"], *(random_names(seed) for seed in range(8))])
def test_hdf5_holds_layers_of_any_name(tmp_path, names):
    """What save_hdf5 writes, load_hdf5 reads, each blob into its own layer; so do Net(weights=) and copy_from."""
    text = shape(3, 5) + chain(names)[0]
    saved = net(tmp_path, text)
    saved.save_hdf5(str(tmp_path / "m.h5"))
    for load in (lambda other: other.load_hdf5(str(tmp_path / "m.h5")),
                 lambda other: other.copy_from(str(tmp_path / "m.h5"))):  # fmt: skip
        other = net(tmp_path, text)
        load(other)
        assert_same(saved, other)


def test_hdf5_holds_our_squeezenet(tmp_path):
    """Its layers are called fire2/squeeze1x1 and the like."""
    prototxt = str(paths.PROTOTXT / "squeezenet" / "deploy.prototxt")
    saved = caffe.Net(prototxt, caffe.TEST)
    for blobs in saved.params.values():
        blobs[0].data[...] = np.random.default_rng(0).normal(size=blobs[0].data.shape)
    saved.save_hdf5(str(tmp_path / "m.h5"))
    other = caffe.Net(prototxt, caffe.TEST, weights=str(tmp_path / "m.h5"))
    assert_same(saved, other)


@pytest.mark.parametrize("names", [["conv", "conv/fc"], ["fire2/squeeze", "fire2/expand"]])
def test_hdf5_snapshots_of_layers_with_slashes_are_restored(tmp_path, names):
    """The weights after being stopped and resumed are those of a training that was not."""
    path = solver(tmp_path, names, "max_iter: 8 snapshot: 4 snapshot_format: HDF5 snapshot_diff: true")
    assert run("caffe", "train", "-solver", path).returncode == 0
    assert not list(tmp_path.glob("*.tmp"))
    layers, last = chain(names)
    text = TRAINED.format(layers=layers, last=last)
    trained = net(tmp_path, text)
    trained.copy_from(str(tmp_path / "s_iter_4.caffemodel.h5"))
    resumed = caffe.get_solver(str(path))
    resumed.restore(str(tmp_path / "s_iter_4.solverstate.h5"))
    assert_same(trained, resumed.net)


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An HDF5 file of float arrays; their names are paths, and their groups are made."""
    loaded = set(re.findall(r"/\S*/libhdf5\S*", Path("/proc/self/maps").read_text()))  # pycaffe's
    (high,) = (ctypes.CDLL(library) for library in loaded if "_hl" in library)
    (main,) = (ctypes.CDLL(library) for library in loaded if "_hl" not in library)
    number = ctypes.c_int64
    main.H5Fcreate.argtypes, main.H5Fcreate.restype = [ctypes.c_char_p, ctypes.c_uint, number, number], number
    main.H5Gcreate2.argtypes, main.H5Gcreate2.restype = [number, ctypes.c_char_p, number, number, number], number
    main.H5Gclose.argtypes = main.H5Fclose.argtypes = [number]
    high.H5LTmake_dataset_float.argtypes = [number, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    file, groups = main.H5Fcreate(str(path).encode(), 2, 0, 0), set()
    for name, array in arrays.items():
        parts = name.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            group = "/".join(parts[:end])
            if group not in groups:
                groups.add(group)
                main.H5Gclose(main.H5Gcreate2(file, group.encode(), 0, 0, 0))
        array = np.ascontiguousarray(array, np.float32)
        dims = np.array(array.shape, np.uint64)
        high.H5LTmake_dataset_float(file, name.encode(), array.ndim, dims.ctypes.data, array.ctypes.data)
    main.H5Fclose(file)


@pytest.mark.parametrize(
    "names",
    [
        ["conv", "conv/fc", "conv/fc/scale"],
        ["plain", "other"],
        ["50%", "a%2Fb", "%25", "%"],
        ["only/nested", "only/two"],
        *(random_paths(seed) for seed in range(4)),
    ],
)
def test_hdf5_files_of_older_caffes_are_read(tmp_path, names):
    """Those with groups in groups, too, of which many a training's only result is made."""
    text = shape(3, 5) + chain(names)[0]
    saved, other = net(tmp_path, text), net(tmp_path, text)
    # Each name a path.
    old = {f"data/{name}/{i}": blob for name, blobs in weights(saved).items() for i, blob in enumerate(blobs)}
    write_hdf5(tmp_path / "old.h5", old)
    other.load_hdf5(str(tmp_path / "old.h5"))
    assert_same(saved, other)


def test_hdf5_files_of_ordinary_names_are_what_they_were(tmp_path):
    """An older Caffe reads them; nothing marks them."""
    saved = net(tmp_path, shape(3, 5) + chain(["conv1", "fc"])[0])
    saved.save_hdf5(str(tmp_path / "m.h5"))
    content = (tmp_path / "m.h5").read_bytes()
    assert b"escaped" not in content and b"conv1" in content and b"fc" in content


def test_hdf5_refuses_two_layers_of_one_name(tmp_path):
    """In a sentence, and without leaving what looks like a model."""
    (tmp_path / "net.prototxt").write_text(shape(3, 5) + chain(["same", "same"])[0])
    result = python(f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST).save_hdf5('{tmp_path}/m.h5')")
    assert "m.h5: HDF5 holds one layer of a name: same" in fatal(result)
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]


# ---[ EXIF


def photograph(path: Path, orientation: int, mode: str = "RGB") -> np.ndarray:
    """Write a picture as a camera does that was not held upright; returns its pixels as they are to be seen."""
    blocks = np.random.default_rng(0).integers(0, 256, (4, 6, len(mode)), dtype=np.uint8)
    picture = Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8)).squeeze(), mode=mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))
    return np.asarray(ImageOps.exif_transpose(Image.open(path)))


def layer_pixels(folder: Path, layer: str) -> np.ndarray:
    """H x W x K of the first item of a data layer."""
    blob = net(folder, layer)
    blob.forward()
    return blob.blobs["data"].data[0].transpose(1, 2, 0).copy()


DATA = 'layer {{ name: "data" type: "Data" top: "data" top: "label" {more} data_param {{ source: "{source}" batch_size: 1 backend: LMDB }} }}'  # noqa: E501


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_whoever_reads_it(tmp_path, orientation, suffix):
    """Its file, raw and encoded databases, each with and without force_color, and pycaffe's own reader."""
    expected = photograph(tmp_path / f"photo{suffix}", orientation)
    (tmp_path / "list.txt").write_text(f"photo{suffix} 1\n")
    seen = {"ImageData": layer_pixels(
        tmp_path,
        f'layer {{ name: "data" type: "ImageData" top: "data" top: "label" image_data_param {{ '
        f'root_folder: "{tmp_path}/" source: "{tmp_path}/list.txt" batch_size: 1 }} }}',
    )}  # fmt: skip
    for kind, options in (("raw", []), ("encoded", ["-encoded"])):
        source = tmp_path / kind
        result = run("convert_imageset", *options, f"{tmp_path}/", tmp_path / "list.txt", source)
        assert result.returncode == 0, result.stderr
        seen[kind] = layer_pixels(tmp_path, DATA.format(source=source, more=""))
        mean = tmp_path / f"{kind}.binaryproto"
        assert run("compute_image_mean", source, mean).returncode == 0
        blob = caffe_pb2.BlobProto.FromString(mean.read_bytes())
        seen[f"mean of {kind}"] = caffe.io.blobproto_to_array(blob)[0].transpose(1, 2, 0)
    more = "transform_param { force_color: true }"
    seen["forced"] = layer_pixels(tmp_path, DATA.format(source=tmp_path / "encoded", more=more))
    seen["load_image"] = caffe.io.load_image(str(tmp_path / f"photo{suffix}"))[:, :, ::-1] * 255
    for reader, pixels in seen.items():
        assert pixels.shape == expected.shape, reader
        assert np.abs(pixels[:, :, ::-1] - expected).mean() < 3, reader
    assert caffe.io.load_image(str(tmp_path / f"photo{suffix}"), color=False).shape == (*expected.shape[:2], 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_encoded_alpha_and_gray_keep_their_channels_and_are_upright(tmp_path, mode, orientation):
    """As before: four channels of a picture with alpha, one of a gray one."""
    expected = photograph(tmp_path / "photo.png", orientation, mode)
    datum = caffe_pb2.Datum(encoded=True, data=(tmp_path / "photo.png").read_bytes(), label=1)
    write_database(tmp_path / "db", [datum.SerializeToString()])
    pixels = layer_pixels(tmp_path, DATA.format(source=tmp_path / "db", more=""))
    if mode == "RGBA":
        pixels = pixels[:, :, [2, 1, 0, 3]]
    np.testing.assert_array_equal(pixels.squeeze(), expected)


def test_pictures_without_exif_are_read_as_before(tmp_path):
    """By name, and from a file that is open, which has no name."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), pixels[:, :, ::-1])
    assert np.array_equal(np.round(caffe.io.load_image(str(tmp_path / "p.png")) * 255), pixels)
    file = io.BytesIO((tmp_path / "p.png").read_bytes())
    assert np.array_equal(np.round(caffe.io.load_image(file) * 255), pixels)


# ---[ pycaffe


@pytest.fixture
def two_outputs(tmp_path) -> caffe.Net:
    """One input in batches of four, two outputs fa and fb."""
    text = shape(4, 5) + 'force_backward: true name: "two"'
    for name in ("fa", "fb"):
        text += INNER.format(name=name, bottom="data", top=name, outputs=2)
    return net(tmp_path, text)


def test_forward_backward_all_returns_arrays_without_padding(two_outputs):
    """Six samples in batches of four: six rows of each output and of each diff, and the values of single passes."""
    generator = np.random.default_rng(0)
    data, fa, fb = (generator.normal(size=(6, size)).astype(np.float32) for size in (5, 2, 2))
    outs, diffs = two_outputs.forward_backward_all(data=data, fa=fa, fb=fb, blobs=["data"], diffs=["fa"])
    assert sorted(outs) == ["data", "fa", "fb"] and sorted(diffs) == ["data", "fa"]
    for array in (*outs.values(), *diffs.values()):
        assert isinstance(array, np.ndarray) and len(array) == 6
    matrix = {name: two_outputs.params[name][0].data for name in ("fa", "fb")}
    np.testing.assert_allclose(outs["fb"], data @ matrix["fb"].T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(diffs["data"], fa @ matrix["fa"] + fb @ matrix["fb"], rtol=1e-4, atol=1e-5)


def test_prefilled_blobs_are_taken_for_lack_of_arrays(two_outputs):
    """As the docstring has it: data alone, diffs alone, nothing at all."""
    data = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    outs, diffs = two_outputs.forward_backward_all(data=data)
    assert outs["fa"].shape == (6, 2) and diffs["data"].shape == (6, 5)
    outs, diffs = two_outputs.forward_backward_all(fa=data[:, :2], fb=data[:, :2])
    assert outs["fa"].shape == (6, 2) and diffs["data"].shape == (6, 5)
    outs, diffs = two_outputs.forward_backward_all()
    assert outs["fb"].shape == (4, 2) and diffs["data"].shape == (4, 5)
    assert two_outputs.forward_all()["fa"].shape == (4, 2)


def test_arrays_that_do_not_fit_are_refused(two_outputs):
    """Those of different lengths, and those that the net does not know."""
    rows = np.zeros((6, 2), np.float32)
    with pytest.raises(ValueError, match="data: 5, fa: 6"):
        two_outputs.forward_backward_all(data=np.zeros((5, 5), np.float32), fa=rows, fb=rows)
    with pytest.raises(ValueError, match="nonsense"):
        two_outputs.forward_backward_all(nonsense=rows)


def test_a_loss_counts_once_a_batch(tmp_path):
    """A scalar output is no row for each sample."""
    text = shape(4, 5) + INNER.format(name="fc", bottom="data", top="fc", outputs=5)
    text += 'layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "data" top: "loss" }'
    outs = net(tmp_path, text).forward_all(data=np.ones((10, 5), np.float32), blobs=["fc"])
    assert outs["loss"].shape == (3,) and outs["fc"].shape == (10, 5)


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("window", [[1, 2, 30, 40], [0, 0, 39, 59], [10.4, 10.2, 20.6, 33.1]])
def test_detector_crops_with_context(tmp_path, context, window):
    """Whole pixels are cut out, inside the picture and where the context reaches out of it."""
    (tmp_path / "net.prototxt").write_text(shape(2, 3, 24, 24) + INNER.format(
        name="fc", bottom="data", top="fc", outputs=2))  # fmt: skip
    model = tmp_path / "m.caffemodel"
    caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).save(str(model))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "im.png")
    detector = caffe.Detector(
        str(tmp_path / "net.prototxt"), str(model), mean=np.array([104, 117, 123.0]), raw_scale=255,
        channel_swap=(2, 1, 0), context_pad=context,
    )  # fmt: skip
    windows = zip([str(tmp_path / "im.png")], [np.array([window, window])])
    found = detector.detect_windows(windows)
    assert len(found) == 2 and all(np.isfinite(one["prediction"]).all() for one in found)


MEMORY = """
layer { name: "data" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 2 channels: 1 height: 2 width: 2 } }
"""


def test_memory_data_keeps_the_arrays_that_it_reads_and_no_others(tmp_path):
    """The last two, until the next ones or the net's end; also those given to a solver's net."""

    class Array(np.ndarray):
        """Can be referred to weakly, which tells when it is gone."""

    def given(value: float) -> np.ndarray:
        return np.full((4, 1, 2, 2), value, np.float32).view(Array)

    labels = np.zeros((4, 1, 1, 1), np.float32).view(Array)
    memory = net(tmp_path, MEMORY)
    first, second = given(1), given(2)
    gone = [weakref.ref(first), weakref.ref(second)]
    memory.set_input_arrays(first, labels)
    del first
    memory.forward()
    assert memory.blobs["data"].data.max() == 1
    memory.set_input_arrays(second, labels)
    del second
    assert gone[0]() is None and gone[1]() is not None
    memory.forward()
    assert memory.blobs["data"].data.min() == 2
    del memory
    assert gone[1]() is None

    path = tmp_path / "solver.prototxt"
    path.write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed" snapshot_after_train: false')
    trained = caffe.get_solver(str(path))
    third = given(3)
    gone = weakref.ref(third)
    trained.net.set_input_arrays(third, labels)
    del third
    assert gone() is not None
    trained.net.forward()
    assert trained.net.blobs["data"].data.min() == 3


OLD_NET = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv1_1" type: CONVOLUTION bottom: "data" top: "conv1_1"
  convolution_param { num_output: 2 kernel_size: 3 } }
layers { name: "relu1_1" type: RELU bottom: "conv1_1" top: "conv1_1" }
"""


@pytest.mark.parametrize("tool", ["draw", "summarize"])
def test_nets_of_the_old_form_are_drawn_and_listed(tmp_path, tool):
    """VGG16's own prototxt has `layers { type: CONVOLUTION }`."""
    (tmp_path / "old.prototxt").write_text(OLD_NET)
    if tool == "draw":
        import caffe.draw
        from google.protobuf import text_format

        old = text_format.Parse(OLD_NET, caffe_pb2.NetParameter())
        text = caffe.draw.get_pydot_graph(old, "LR").to_string()
        assert len(old.layers) == 2, "what is drawn stays as it was"
    else:
        text = subprocess.run(
            [sys.executable, EXTRA / "summarize.py", tmp_path / "old.prototxt"], capture_output=True, text=True
        ).stdout
    for word in ("conv1_1", "relu1_1", "Convolution", "ReLU"):
        assert word in text


# ---[ Files of weights


def test_caffe_test_takes_a_list_of_weights_as_train_does(tmp_path):
    """The last file wins, layer by layer; spaces do no harm."""
    names = ["one", "two"]
    path = solver(tmp_path, names, "max_iter: 0 snapshot_after_train: false")
    models = []
    (tmp_path / "single").mkdir()
    for number, name in enumerate(names):
        layer = INNER.format(name=name, bottom="data", top="top", outputs=2 + number)
        single = net(tmp_path / "single", shape(1, 5 if number == 0 else 2) + layer)
        models.append(tmp_path / f"{name}.caffemodel")
        single.save(str(models[-1]))
    weights = f"{models[0]}, {models[1]}"
    tested = run("caffe", "test", "-model", tmp_path / "net.prototxt", "-weights", weights, "-iterations", 1)
    assert tested.returncode == 0, tested.stderr
    trained = run("caffe", "train", "-solver", path, "-weights", weights)
    assert trained.returncode == 0, trained.stderr
    for model in models:
        assert f"weights from {model}" in tested.stderr and f"weights from {model}" in trained.stderr


@pytest.mark.parametrize("name", ["nope.caffemodel", "nope.caffemodel.h5"])
@pytest.mark.parametrize("command", ["train", "test", "snapshot"])
def test_weights_that_are_not_there_are_told_in_one_line(tmp_path, name, command):
    """Not in 25 of HDF5's, whatever the command and the format."""
    path = solver(tmp_path, ["one"], "max_iter: 0")
    missing = tmp_path / name
    arguments = {
        "train": ["train", "-solver", path, "-weights", missing],
        "test": ["test", "-model", tmp_path / "net.prototxt", "-weights", missing],
        "snapshot": ["train", "-solver", path, "-snapshot", missing],
    }
    said = fatal(run("caffe", *arguments[command]))
    assert said.endswith(f"Cannot read {missing}: No such file or directory") and "\n" not in said


def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path, small):
    """It is named."""
    (tmp_path / "text.caffemodel").write_text("no model")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 20)
    start = f"net = caffe.Net({str(small)!r}, caffe.TEST)\n"
    for code, reason in (
        ("net.copy_from('text.caffemodel')", "text.caffemodel"),
        ("net.load_hdf5('text.caffemodel')", "Cannot read text.caffemodel: damaged, or no HDF5 file"),
        ("net.load_hdf5('nope.h5')", "Cannot read nope.h5: No such file or directory"),
        ("net.copy_from('cut.h5')", "cut.h5"),
        ("net.copy_from('.')", "Cannot read .: Is a directory"),
    ):
        said = fatal(python(start + code, cwd=tmp_path))
        assert reason in said and "HDF5-DIAG" not in said


def test_a_missing_list_of_pictures_is_named(tmp_path):
    """ImageData's."""
    layer = (
        'layer { name: "d" type: "ImageData" top: "d" top: "l" image_data_param { source: "nope.txt" batch_size: 1 } }'
    )
    (tmp_path / "net.prototxt").write_text(layer)
    said = fatal(python("caffe.Net('net.prototxt', caffe.TEST)", cwd=tmp_path))
    assert "Cannot read nope.txt: No such file or directory" in said


# ---[ The log


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """The log of a training with tests."""
    folder = tmp_path_factory.mktemp("log")
    path = solver(folder, ["one"], "max_iter: 12 display: 2 test_interval: 4 test_iter: 1 snapshot: 6")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
    result = run("caffe", "train", "-solver", path, env=environment)
    assert result.returncode == 0, result.stderr
    (folder / "train.log").write_text(result.stderr)
    return folder / "train.log"


def with_year(text: str) -> str:
    """The same log as glog 0.6 writes it by itself."""
    return re.sub(r"(?m)^([IWEF])(\d{4} )", r"\g<1>2026\2", text)


def test_lines_of_the_log_have_the_form_that_parsers_know(log):
    """I0210 13:39:22.381027 25210 solver.cpp:204] ..., from the command and from pycaffe; the year can be asked for."""
    lines = [line for line in log.read_text().splitlines() if re.match(r"[IWEF]\d", line)]
    assert len(lines) > 40
    for line in lines:
        assert re.match(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] ", line), line
    environment = {**os.environ, "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    assert re.match(r"I\d{4} ", python("caffe.log('hello')", env=environment).stderr.splitlines()[-1])
    environment["GLOG_log_year_in_prefix"] = "1"
    assert re.match(r"I20\d{6} ", python("caffe.log('hello')", env=environment).stderr.splitlines()[-1])


@pytest.mark.parametrize("form", ["short", "with year"])
def test_parse_log_reads_the_log(log, tmp_path, form):
    """With lines in between that are not Caffe's; both tables are whole."""
    text = log.read_text() if form == "short" else with_year(log.read_text())
    (tmp_path / "train.log").write_text(text.replace("\n", "\n\nnot a line of the log\n", 5))
    result = subprocess.run(
        [sys.executable, "-W", "error", EXTRA / "parse_log.py", "train.log", ".", "--verbose"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    train = (tmp_path / "train.log.train").read_text().splitlines()
    assert train[0] == "NumIters,Seconds,LearningRate,loss" and len(train) >= 6
    assert [line.split(",")[0] for line in train[1:4]] == ["0.0", "2.0", "4.0"]
    assert all(0 <= float(line.split(",")[1]) < 60 for line in train[1:])
    test = (tmp_path / "train.log.test").read_text().splitlines()
    assert test[0] == "NumIters,Seconds,LearningRate,accuracy,loss" and len(test) >= 3


CHARTS = """
import runpy, sys
import matplotlib.pyplot as plt
for chart in range(8):
    sys.argv = ["plot.py", str(chart), f"{chart}.png", "train.log"]
    runpy.run_path("plot.py", run_name="__main__")
    plt.close("all")
"""


@pytest.mark.parametrize("form", ["short", "with year"])
def test_plots_are_drawn_from_the_log(log, tmp_path, form):
    """parse_log.sh, extract_seconds.py and plot_training_log.py, all kinds of charts."""
    text = log.read_text() if form == "short" else with_year(log.read_text())
    (tmp_path / "train.log").write_text(text)
    for name in ("parse_log.sh", "extract_seconds.py"):
        shutil.copy(EXTRA / name, tmp_path)
    shutil.copy(EXTRA / "plot_training_log.py.example", tmp_path / "plot.py")
    # Matplotlib takes longer to import than a chart to draw: one process draws all, another one as a user has it drawn.
    for arguments in (["-c", CHARTS], ["plot.py", "0", "own.png", "train.log"]):
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr, result.stderr
    charts = [Image.open(path) for path in tmp_path.glob("*.png")]
    assert len(charts) == 9 and all(chart.size[0] > 100 for chart in charts)
    table = [line.split() for line in (tmp_path / "train.log.test").read_text().splitlines()]
    assert [row[0] for row in table] == ["#Iters", "0", "4", "8", "12"] and all(len(row) == 4 for row in table)


def test_the_first_speed_in_the_log_is_a_speed(log, tmp_path):
    """0 after no iteration, for a new training and for one that goes on."""
    speeds = re.findall(r"Iteration (\d+) \((\S+) iter/s, \S+s/(\d+) iters\)", log.read_text())
    assert speeds[0] == ("0", "0", "0")
    assert [(number, count) for number, _, count in speeds[1:]] == [
        ("2", "2"),
        ("4", "2"),
        ("6", "2"),
        ("8", "2"),
        ("10", "2"),
    ]
    assert all(0 < float(speed) < 1e6 for _, speed, _ in speeds[1:])
    path = solver(tmp_path, ["one"], "max_iter: 12 display: 4")
    resumed = run("caffe", "train", "-solver", path, "-snapshot", log.parent / "s_iter_6.solverstate").stderr
    speeds = re.findall(r"Iteration (\d+) \((\S+) iter/s, \S+s/(\d+) iters\)", resumed)
    assert [(number, count) for number, _, count in speeds] == [("8", "2")]
    assert 0 < float(speeds[0][1]) < 1e6


# ---[ Python layers, databases, empty batches


class Refusing(caffe.Layer):
    """Raises in the method that param_str names."""

    def raise_in(self, name: str) -> None:
        if self.param_str == name:
            raise ValueError(f"no such luck in {name}")

    def setup(self, bottom, top):
        self.raise_in("setup")

    def reshape(self, bottom, top):
        self.raise_in("reshape")
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.raise_in("forward")

    def backward(self, top, propagate_down, bottom):
        self.raise_in("backward")


@pytest.mark.parametrize("where", ["setup", "reshape", "forward", "backward"])
def test_caffe_train_prints_what_a_python_layer_raised(tmp_path, where):
    """With its traceback; the run has failed, without a signal."""
    layer = f"""layer {{ name: "python" type: "Python" bottom: "top0" top: "python" loss_weight: 1
        python_param {{ module: "{__name__}" layer: "Refusing" param_str: "{where}" }} }}"""
    path = solver(tmp_path, ["one"], "max_iter: 3 snapshot_after_train: false", layers=layer)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = run("caffe", "train", "-solver", path, env=environment)
    assert result.returncode == 1
    assert f"ValueError: no such luck in {where}" in result.stderr
    assert "raise_in" in result.stderr and "terminate called" not in result.stderr


@pytest.fixture
def read_only(tmp_path) -> Path:
    """A database whose files and folder must not be written to."""
    database = write_database(tmp_path / "db", records())
    (database / "lock.mdb").unlink()
    (database / "data.mdb").chmod(0o444)
    database.chmod(0o555)
    yield database
    database.chmod(0o755)


def test_a_database_that_may_only_be_read_is_read(tmp_path, read_only):
    """By the Data layer and by compute_image_mean; it stays as it is."""
    (tmp_path / "net.prototxt").write_text(DATA.format(source=read_only, more=""))
    code = (
        f"n = caffe.Net('{tmp_path}/net.prototxt', caffe.TEST); print(n.forward()['label'], n.blobs['data'].data.shape)"
    )
    result = python(code, preexec_fn=as_owner_only)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == "[0.] (1, 3, 8, 8)"
    assert run("compute_image_mean", read_only, tmp_path / "mean", preexec_fn=as_owner_only).returncode == 0
    assert [path.name for path in read_only.iterdir()] == ["data.mdb"]


def test_a_database_that_cannot_be_read_is_named(tmp_path):
    """One that is not there, one without permission, an empty one."""
    hidden = write_database(tmp_path / "hidden", records())
    (hidden / "data.mdb").chmod(0)
    empty = write_database(tmp_path / "empty", [])
    for source, words in (
        (tmp_path / "nope", "Cannot open lmdb {}: No such file or directory"),
        (hidden, "Cannot open lmdb {}: Permission denied"),
        (empty, "No records in {}"),
    ):
        (tmp_path / "net.prototxt").write_text(DATA.format(source=source, more=""))
        code = f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST)"
        assert words.format(source) in fatal(python(code, preexec_fn=as_owner_only))
        said = fatal(run("compute_image_mean", source, tmp_path / "mean", preexec_fn=as_owner_only))
        assert words.format(source) in said


TAIL = {
    "Softmax": "", "BatchNorm": "", "MVN": "", "LRN": "", "ReLU": "", "SPP": "spp_param { pyramid_height: 2 }",
    "Convolution": "convolution_param { num_output: 2 kernel_size: 3 }",
}  # fmt: skip


@pytest.mark.parametrize("kind", TAIL)
def test_an_empty_batch_is_refused_by_a_sentence(tmp_path, kind):
    """Whether blobs become empty, or are so from the beginning: no signal of a division by zero."""
    layer = f'layer {{ name: "the layer" type: "{kind}" bottom: "data" top: "top" {TAIL[kind]} }}'
    (tmp_path / "net.prototxt").write_text(shape(2, 3, 8, 8) + layer)
    start = f"net = caffe.Net('{tmp_path}/net.prototxt', caffe.TEST)\nnet.blobs['data'].reshape(0, 3, 8, 8)\n"
    for code in ("net.forward()", "net.reshape()"):
        said = fatal(python(start + code))
        assert "Layer 'the layer' has nothing to compute with: its bottom 'data' has the shape 0 3 8 8 (0)" in said
    (tmp_path / "net.prototxt").write_text(shape(0, 3, 8, 8) + layer)
    result = python(f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST).forward()")
    assert "caffe.Error" in fatal(result) and "nothing to" in fatal(result) and result.returncode == 1


def test_accuracy_of_nothing_is_refused(tmp_path):
    """It divides by the number of labels as soon as it is made."""
    text = shape(0, 3) + 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 0 } } }'
    text += 'layer { name: "accuracy" type: "Accuracy" bottom: "data" bottom: "label" top: "accuracy" }'
    (tmp_path / "net.prototxt").write_text(text)
    assert "no labels" in fatal(python(f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST)"))


@pytest.mark.parametrize("layer", ["Data", "HDF5Data", "MemoryData", "ImageData"])
def test_a_data_layer_wants_a_batch_size(tmp_path, layer):
    """None, or 0, is told when the net is made."""
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/p.png 1\n")
    write_hdf5(tmp_path / "data.h5", {"data": np.zeros((4, 3)), "label": np.zeros(4)})
    (tmp_path / "h5.txt").write_text(f"{tmp_path}/data.h5\n")
    params = {
        "Data": f'data_param {{ source: "{write_database(tmp_path / "db", records())}" backend: LMDB batch_size: 0 }}',
        "HDF5Data": f'hdf5_data_param {{ source: "{tmp_path}/h5.txt" batch_size: 0 }}',
        "MemoryData": "memory_data_param { batch_size: 0 channels: 1 height: 2 width: 2 }",
        "ImageData": f'image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 0 }}',
    }
    (tmp_path / "net.prototxt").write_text(
        f'layer {{ name: "d" type: "{layer}" top: "data" top: "label" {params[layer]} }}'
    )
    said = fatal(python(f"caffe.Net('{tmp_path}/net.prototxt', caffe.TEST)"))
    assert "ositive" in said and "batch" in said
