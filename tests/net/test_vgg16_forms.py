"""VGG16 from other frameworks: what Caffe computes with converted weights is what the other framework computes."""

from __future__ import annotations

import importlib
import io
import pickle
import re
import struct
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import caffe_net, caffemodel, pycaffe, torch_state, variants, vgg16_forms, weights
from selfie.net.torch_state import State
from selfie.net.vgg16_forms import Form
from selfie.runs import prepare

STAGES = [(count, channels // 32) for count, channels in vgg16_forms.VGG16_STAGES]
SIDE = 64  # of the pictures: 2 x 2 pixels are left after five poolings
NARROW = vgg16_forms.layers(STAGES, width=12, classes=5, side=2)
PICTURES = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def prototxt(tmp_path_factory) -> Path:
    """VGG16's own deploy prototxt, narrow, with its 1000-way head, which has five classes here."""
    outputs = {"4096": "12", "2": "5"}
    text = (paths.PROTOTXT / "vgg16" / "deploy.prototxt").read_text().replace("224", str(SIDE))
    text = re.sub(r"num_output: (\d+)", lambda m: f"num_output: {outputs.get(m[1]) or int(m[1]) // 32}", text)
    file = tmp_path_factory.mktemp("narrow") / "deploy.prototxt"
    file.write_text(text.replace("fc8_selfie", "fc8"))
    return file


def needed(module: str) -> ModuleType:
    """Import what writes a form; skips where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        testlib.skip("convert", f"{module} is not installed")


def random_weights(order: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weights and biases by Caffe's layer names, as Keras has them ("HWIO") or PyTorch ("OIHW")."""
    generator = np.random.default_rng(2)
    arrays = {}
    for layer in NARROW:
        outputs, inputs, *kernel = layer.shape
        spread = np.sqrt(2 / np.prod(layer.shape[1:])) / (40 if layer is NARROW[0] and order == "HWIO" else 1)
        shape = (*kernel, inputs, outputs) if order == "HWIO" else layer.shape
        weight, bias = generator.normal(0, spread, shape), generator.normal(0, 0.2, outputs)
        arrays[layer.name] = weight.astype(np.float32), bias.astype(np.float32)
    return arrays


def forward(arrays: dict, order: str, pixels: np.ndarray) -> np.ndarray:
    """The net in numpy: N x H x W x 3 -> N x classes probabilities; `order` is that of kernels and of flattening."""
    values = np.asarray(pixels, np.float64)
    for stage, (count, _) in enumerate(STAGES, 1):
        for number in range(1, count + 1):
            kernel, bias = arrays[f"conv{stage}_{number}"]
            kernel = kernel if order == "HWIO" else kernel.transpose(2, 3, 1, 0)
            padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))  # N x H x W x C x 3 x 3
            values = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True) + bias, 0)
        rows, columns = values.shape[1] // 2, values.shape[2] // 2
        values = values.reshape(len(values), rows, 2, columns, 2, -1).max((2, 4))
    values = (values if order == "HWIO" else values.transpose(0, 3, 1, 2)).reshape(len(values), -1)
    for name in ("fc6", "fc7", "fc8"):
        weight, bias = arrays[name]
        values = values @ (weight if order == "HWIO" else weight.T) + bias
        values = values if name == "fc8" else np.maximum(values, 0)
    shares = np.exp(values - values.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def by_caffe(prototxt: Path, model: Path, mean: tuple[float, float, float]) -> np.ndarray:
    """What Caffe makes of PICTURES (BGR), prepared as for a run with that mean."""
    net = caffe_net.load(prototxt, model)
    net.blobs["data"].reshape(len(PICTURES), 3, SIDE, SIDE)
    net.reshape()
    net.blobs["data"].data[...] = image.prepare(PICTURES, SIDE, mean)
    net.forward()
    return net.blobs["prob"].data.copy()


def normalised(mean: tuple[float, ...], deviation: tuple[float, ...]) -> np.ndarray:
    """PICTURES as torchvision feeds them: RGB, 0 to 1, normalised, channels last."""
    return (PICTURES[..., ::-1] / 255 - mean) / deviation


# --- Keras -----------------------------------------------------------------------------------------------------------


def keras_file(path: Path, layout: str, arrays: dict, top: bool = True) -> Path:
    """Write a file as a version of Keras does, "numbers" without the layers' names."""
    h5py = needed("h5py")
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for layer in NARROW if top else NARROW[:13]:
            name, kind = layer.keras[0], {"Convolution": "conv2d", "InnerProduct": "dense"}[layer.kind]
            number = counts[kind] = counts.get(kind, -1) + 1
            group, names = {
                "1": (name, (f"{name}_W_1:0", f"{name}_b_1:0")),
                "2": (f"{name}/{name}", ("kernel:0", "bias:0")),
                "model": (f"model_weights/vgg16/{name}", ("kernel", "bias")),
                "3": (f"layers/{kind}" + f"_{number}" * bool(number) + "/vars", ("0", "1")),
                "numbers": (f"layers/functional/layers/{kind}" + f"_{number}" * bool(number) + "/vars", ("0", "1")),
            }[layout]
            for key, array in zip(names, arrays[layer.name]):
                file.create_dataset(f"{group}/{key}", data=array)
            if layout == "3":
                file[group].attrs["name"] = name
            if layout == "model":  # a model that was trained has more of that name
                file.create_dataset(f"optimizer_weights/adam/{name}/kernel_momentum", data=np.zeros((2, 2)))
        file.create_group("flatten").attrs["weight_names"] = []
    return path


@pytest.mark.parametrize("layout", ["1", "2", "model", "3", "numbers"])
def test_keras_weights_give_what_keras_gives(tmp_path, prototxt, layout):
    """BGR less the mean, kernels HWIO, fc6 on the map's rows: numpy computes it so, Caffe with converted weights."""
    arrays = random_weights("HWIO")
    source = keras_file(tmp_path / "vgg16.h5", layout, arrays)
    assert vgg16_forms.convert(source, tmp_path / "out.caffemodel", described=NARROW) is Form.KERAS
    expected = forward(arrays, "HWIO", PICTURES - np.array(variants.IMAGENET_MEAN))
    assert 0.05 < expected.max() < 0.95, "not saturated: all layers count"
    np.testing.assert_allclose(by_caffe(prototxt, tmp_path / "out.caffemodel", variants.IMAGENET_MEAN), expected, 2e-4)


def test_without_top_there_are_the_convolutions_alone(tmp_path):
    source = keras_file(tmp_path / "notop.h5", "3", random_weights("HWIO"), top=False)
    assert vgg16_forms.convert(source, tmp_path / "out.caffemodel", described=NARROW) is Form.KERAS_NOTOP
    assert list(caffe_net.caffemodel_shapes(tmp_path / "out.caffemodel")) == [layer.name for layer in NARROW[:13]]


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def pickled_tensor(key: str, shape: tuple[int, ...], legacy: bool, numbers: int) -> bytes:
    """The opcodes with which torch.save describes a tensor of float32 in a storage of so many numbers."""
    strides = [int(np.prod(shape[place + 1 :])) for place in range(len(shape))]
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    storage += whole(numbers) + b"N" * legacy + b"tQ"
    sides = b"".join(b"(" + b"".join(map(whole, values)) + b"t" for values in (shape, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(0) + sides + b"\x89ccollections\nOrderedDict\n)RtR"


def torch_file(
    path: Path, arrays: dict, legacy: bool = False, extra: bytes = b"", storage: str = "stored", halved: str = ""
) -> Path:
    """Write a state as torch.save does, opcode by opcode.

    extra    stands in the pickle before its end
    halved   tensor whose storage has half as many numbers as it has
    """
    tensors = {
        f"{layer.torch[0]}.{part}": array
        for layer in NARROW
        for part, array in zip(("weight", "bias"), arrays[layer.name])
    }
    state = b"\x80\x02ccollections\nOrderedDict\n)R("
    for number, (name, array) in enumerate(tensors.items()):
        if name == halved:
            tensors[name] = array.ravel()[: array.size // 2]
        state += text(name) + pickled_tensor(str(number), array.shape, legacy, tensors[name].size)
    state += b"u" + extra + b"."
    if legacy:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        parts = [pickle.dumps(one, 2) for one in (torch_state.MAGIC, 1001, system)]
        parts += [state, pickle.dumps([str(number) for number in range(len(tensors))], 2)]
        parts += [struct.pack("<q", array.size) + array.tobytes() for array in tensors.values()]
        path.write_bytes(b"".join(parts))
        return path
    kind = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}[storage]
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", state)
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return path


def safetensors_file(path: Path, arrays: dict) -> Path:
    numpy = needed("safetensors.numpy")
    tensors = {
        f"{layer.torch[1 if layer.kind == 'InnerProduct' else 0]}.{part}": array
        for layer in NARROW
        for part, array in zip(("weight", "bias"), arrays[layer.name])
    }
    tensors["pre_logits.fc1.weight"] = tensors["pre_logits.fc1.weight"].reshape(12, -1, 2, 2)  # as timm has it
    numpy.save_file(tensors, path)
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_torchvisions_weights_give_what_torchvision_gives(tmp_path, prototxt, kind):
    """RGB of 0 to 1, normalised: in every pixel, those at the padded borders too."""
    arrays = random_weights("OIHW")
    file = tmp_path / "vgg16.pth"
    source = safetensors_file(file, arrays) if kind == "safetensors" else torch_file(file, arrays, kind == "legacy")
    assert vgg16_forms.convert(source, tmp_path / "out.caffemodel", described=NARROW) is Form.TORCHVISION
    expected = forward(arrays, "OIHW", normalised(vgg16_forms.TORCH_MEAN, vgg16_forms.TORCH_STD))
    assert 0.05 < expected.max() < 0.95, "not saturated: all layers count"
    mean = variants.get("vgg16_torchvision").mean
    np.testing.assert_allclose(by_caffe(prototxt, tmp_path / "out.caffemodel", mean), expected, 2e-4)


@pytest.mark.parametrize("kind", ["zip", "legacy", "parameters", "float64", "bfloat16"])
def test_files_of_pytorch_itself_are_read(tmp_path, prototxt, kind):
    """PyTorch's own net, its own files in both formats, its own answers."""
    try:
        import torch
    except ImportError:
        testlib.skip("torch", "it is not installed")
    layers, inputs = [], 3
    for count, channels in STAGES:
        for _ in range(count):
            layers += [torch.nn.Conv2d(inputs, channels, 3, padding=1), torch.nn.ReLU()]
            inputs = channels
        layers.append(torch.nn.MaxPool2d(2, 2))
    head = [torch.nn.Linear(4 * inputs, 12), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(12, 12)]
    head += [torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(12, 5)]
    net = torch.nn.ModuleDict({"features": torch.nn.Sequential(*layers), "classifier": torch.nn.Sequential(*head)})
    values = random_weights("OIHW")
    with torch.no_grad():
        for layer in NARROW:
            place, number = layer.torch[0].split(".")
            for part, value in zip(("weight", "bias"), values[layer.name]):
                getattr(net[place][int(number)], part).copy_(torch.from_numpy(value))
    if kind == "float64":
        net = net.double()
    if kind == "bfloat16":
        net = net.bfloat16()
    saved = {"state_dict": dict(net.named_parameters()), "epoch": 3} if kind == "parameters" else net.state_dict()
    torch.save(saved, tmp_path / "vgg16.pth", _use_new_zipfile_serialization=kind != "legacy")
    vgg16_forms.convert(tmp_path / "vgg16.pth", tmp_path / "out.caffemodel", Form.TORCHVISION, NARROW)
    pixels = torch.from_numpy(normalised(vgg16_forms.TORCH_MEAN, vgg16_forms.TORCH_STD)).permute(0, 3, 1, 2).float()
    net = net.float().eval()
    expected = net["classifier"](torch.flatten(net["features"](pixels), 1)).softmax(1).detach().numpy()
    mean = variants.get("vgg16_torchvision").mean
    np.testing.assert_allclose(by_caffe(prototxt, tmp_path / "out.caffemodel", mean), expected, 2e-4)


# --- what is hostile, or damaged -------------------------------------------------------------------------------------


def test_nothing_that_stands_in_a_pickle_is_executed(tmp_path):
    """Whatever way it is called: by name, by a stack, as a class, by an extension, from builtins."""
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    calls = [
        b"cos\nsystem\n(" + text(f"touch {marker}") + b"tR0",
        text("os") + text("system") + b"\x93(" + text(f"touch {marker}") + b"tR0",
        b"(" + text(f"touch {marker}") + b"ios\nsystem\n0",
        b"cbuiltins\neval\n(" + text(f"open('{marker}', 'w')") + b"tR0",
        b"\x82\x01",
        b"ctorch._utils\n_rebuild_tensor_v2\n}(" + text("__class__") + text("x") + b"ub0",
        pickle.dumps(Evil(), 2)[2:-1] + b"0",
        pickle.dumps(Evil(), 4)[2:-1] + b"0",
    ]
    for number, extra in enumerate(calls):
        for legacy in (False, True):
            file = torch_file(tmp_path / f"{number}.pth", random_weights("OIHW"), legacy, extra)
            with pytest.raises(SelfieError, match=r"nothing of it was executed|has no need of|damaged"):
                vgg16_forms.convert(file, tmp_path / "out.caffemodel", described=NARROW)
    assert not marker.exists() and not (tmp_path / "out.caffemodel").exists()


def test_a_small_file_stays_small_in_memory(tmp_path):
    """A table that would hash for ever, a compressed archive, a tensor larger than its storage: refused at once."""
    arrays = random_weights("OIHW")
    nested = b")" + b"q\x00h\x00h\x00\x86" * 60 + b"}(h\x00Nu00"
    with pytest.raises(SelfieError, match="a name that is no text"):
        State(torch_file(tmp_path / "x.pth", arrays, extra=nested))
    with pytest.raises(SelfieError, match="is compressed"):
        State(torch_file(tmp_path / "x.pth", arrays, storage="deflated"))
    for legacy in (False, True):
        file = torch_file(tmp_path / "x.pth", arrays, legacy, halved="features.0.weight")
        with pytest.raises(SelfieError, match=r"damaged: features.0.weight \(it reaches beyond its storage"):
            vgg16_forms.convert(file, tmp_path / "out.caffemodel", described=NARROW)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "keras 2", "keras 3"])
def test_damaged_files_end_in_one_line_and_leave_nothing(tmp_path, kind):
    """Cut off anywhere, or with bytes changed: SelfieError and no file; or the net, where numbers stood."""
    arrays = random_weights("HWIO" if kind.startswith("keras") else "OIHW")
    if kind.startswith("keras"):
        data = keras_file(tmp_path / "x", kind[-1], arrays).read_bytes()
    elif kind == "safetensors":
        data = safetensors_file(tmp_path / "x", arrays).read_bytes()
    else:
        data = torch_file(tmp_path / "x", arrays, kind == "legacy").read_bytes()
    generator = np.random.default_rng(3)
    cut = [data[:size] for size in (*range(0, 64, 7), *generator.integers(64, len(data), 40))]
    changed = []
    for _ in range(120):
        copy = bytearray(data)
        for place in generator.integers(0, len(data) if generator.random() < 0.5 else 4096, 4):
            copy[place] = generator.integers(256)
        changed.append(bytes(copy))
    refused = 0
    for damaged in (*cut, *changed):
        (tmp_path / "x").write_bytes(damaged)
        target = tmp_path / "out.caffemodel"
        try:
            vgg16_forms.convert(tmp_path / "x", target, described=NARROW)
        except SelfieError as error:
            refused += 1
            assert "\n" not in str(error) and not target.exists()
        else:
            assert len(caffe_net.caffemodel_shapes(target)) == len(NARROW) or kind.startswith("keras")
            target.unlink()
    assert refused > len(cut)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "keras"])
def test_a_file_of_another_framework_is_no_caffemodel_and_says_how_it_becomes_one(tmp_path, kind):
    """Whoever starts from it as it is gets a line, before anything is written; a caffemodel is never taken for one."""
    order, name = ("HWIO", "vgg16") if kind == "keras" else ("OIHW", "vgg16_torchvision")
    file, arrays = tmp_path / "x", random_weights(order)
    if kind == "keras":
        keras_file(file, "2", arrays)
    elif kind == "safetensors":
        safetensors_file(file, arrays)
    else:
        torch_file(file, arrays, kind == "legacy")
    whose = "Keras" if kind == "keras" else "PyTorch"
    with pytest.raises(SelfieError, match=f"no caffemodel but a file of {whose}: .*convert it.* start from {name}$"):
        prepare.starting_weights(variants.get("vgg16"), str(file))
    for number in range(40):  # nets of all sorts of names
        caffemodel.write(
            tmp_path / "ours", "abcdef{"[number % 7 :] * (number // 7), [("x", "Convolution", [arrays["conv1_1"][1]])]
        )
        assert prepare.starting_weights(variants.get("vgg16"), str(tmp_path / "ours")) == tmp_path / "ours"


@pytest.mark.parametrize("name", ["net_iter_10.caffemodel.h5", "weights"])
def test_a_caffemodel_in_hdf5_is_called_one_and_says_how_it_becomes_binary(tmp_path, prototxt, name):
    """What Caffe itself writes with snapshot_format: HDF5; and what is said works."""
    needed("h5py")
    net = pycaffe.caffe().Net(str(prototxt), pycaffe.caffe().TEST)
    net.save_hdf5(str(tmp_path / name))
    for use in (
        lambda: prepare.starting_weights(variants.get("vgg16"), str(tmp_path / name)),
        lambda: vgg16_forms.convert(tmp_path / name, tmp_path / "out"),
    ):
        with pytest.raises(SelfieError, match=r"is a caffemodel of Caffe's in HDF5") as error:
            use()
    source, target = re.findall(r"[(,] ?'([^']*)'", str(error.value))[1:]
    (tmp_path / name).rename(tmp_path / source)  # Caffe goes by the name
    assert ("rename" in str(error.value)) is (source != name)
    net = pycaffe.caffe().Net(str(prototxt), str(tmp_path / source), pycaffe.caffe().TEST)
    net.save(str(tmp_path / target))
    assert prepare.starting_weights(variants.get("vgg16"), str(tmp_path / target)) == tmp_path / target


def test_other_nets_are_named(tmp_path):
    """A layer that is missing, of another shape, not finite; a file of neither framework."""
    arrays = random_weights("OIHW")
    target = tmp_path / "out.caffemodel"
    for changes, words in (
        ({"fc7": (np.zeros((12, 13), np.float32), arrays["fc7"][1])}, "of another net: fc7 has 12 x 13, 12, VGG16"),
        ({"conv2_1": (arrays["conv2_1"][0] * np.float32("nan"), arrays["conv2_1"][1])}, "conv2_1 are not finite"),
    ):
        with pytest.raises(SelfieError, match=words):
            vgg16_forms.convert(torch_file(tmp_path / "x.pth", {**arrays, **changes}), target, described=NARROW)
    with pytest.raises(SelfieError, match=r"of another net: conv1_1 has 2 x 3 x 3 x 3, 2, VGG16 in this form 64 x 3"):
        vgg16_forms.convert(torch_file(tmp_path / "x.pth", arrays), target)
    (tmp_path / "x.pth").write_bytes(b"no weights at all")
    with pytest.raises(SelfieError, match="neither Keras' HDF5 nor"):
        vgg16_forms.convert(tmp_path / "x.pth", target, described=NARROW)
    assert not target.exists()


def test_a_net_with_counters_is_another_net_and_not_called_harmful(tmp_path):
    """vgg16_bn counts its batches in integers."""
    count = (
        text("features.1.num_batches_tracked") + pickled_tensor("0", (1,), False, 1).replace(b"Float", b"Long") + b"s"
    )
    arrays = {**random_weights("OIHW"), "conv2_1": (np.zeros((9, 9), np.float32), np.zeros(9, np.float32))}
    with pytest.raises(SelfieError, match="is of another net"):
        vgg16_forms.convert(torch_file(tmp_path / "x.pth", arrays, extra=count), tmp_path / "out", described=NARROW)


def test_keras_numbers_in_other_files_are_not_read(tmp_path):
    """External storage, virtual datasets, links: HDF5 would read any file of the user's."""
    h5py = needed("h5py")
    arrays = random_weights("HWIO")
    (tmp_path / "secret").write_bytes(bytes(10000))
    source = keras_file(tmp_path / "x.h5", "2", arrays)
    keras_file(tmp_path / "other.h5", "2", arrays)
    shape = arrays["conv1_1"][0].shape
    with h5py.File(source, "a") as file:
        del file["block1_conv1/block1_conv1/kernel:0"]
        file.create_dataset(
            "block1_conv1/block1_conv1/kernel:0", shape, "f4", external=[(str(tmp_path / "secret"), 0, 432)]
        )
    with pytest.raises(SelfieError, match="stand in another file"):
        vgg16_forms.convert(source, tmp_path / "out.caffemodel", described=NARROW)
    with h5py.File(source, "a") as file:
        del file["block1_conv1"]
        file["block1_conv1"] = h5py.ExternalLink("other.h5", "block1_conv1")
    with pytest.raises(SelfieError, match="has no layer block1_conv1"):
        vgg16_forms.convert(source, tmp_path / "out.caffemodel", described=NARROW)


# --- as weights ------------------------------------------------------------------------------------------------------


@pytest.fixture()
def narrow_weights(tmp_path, monkeypatch) -> Path:
    """weights/ in a temporary folder, for the narrow net."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(vgg16_forms, "layers", lambda: NARROW)
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    return tmp_path / "weights"


def test_a_file_becomes_weights_under_its_own_name_only(tmp_path, narrow_weights):
    """Unknown files need a checksum or a word; torchvision's are never called the original's; run.json can say it."""
    file = torch_file(tmp_path / "mine.pth", random_weights("OIHW"))
    checksum = "sha256:" + paths.sha256(file)
    for name, options, words in (
        ("vgg16_torchvision", {}, "is not the file that was published as vgg16_torchvision"),
        ("vgg16_torchvision", {"checksum": "sha256:" + 64 * "0"}, "does not have that checksum"),
        ("vgg16", {"unverified": True}, "is torchvision's, .* convert it as vgg16_torchvision"),
        ("squeezenet", {"unverified": True}, "not made of a file of another framework"),
    ):
        with pytest.raises(SelfieError, match=words):
            weights.convert(name, file, **options)
        assert not list(narrow_weights.rglob("*.caffemodel"))
    folder = weights.convert("vgg16_torchvision", file, checksum)
    model = weights.caffemodel("vgg16_torchvision")
    assert model.parent == folder and weights.verified_by(model) == "given"
    assert weights.made_from(model) == {"file": "mine.pth", "sha256": checksum[7:], "form": "torchvision"}
    assert prepare.starting_weights(variants.get("vgg16_torchvision"), None) == model
    assert prepare.starting_weights(variants.get("vgg16"), "vgg16_torchvision") == model, "by its name"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(SelfieError, match="is damaged"):
        weights.caffemodel("vgg16_torchvision")


def test_keras_weights_are_the_originals(tmp_path, narrow_weights):
    """They take the place of vgg16, and a file that cannot be used leaves what is there."""
    file = keras_file(tmp_path / "mine.h5", "2", random_weights("HWIO"))
    weights.convert("vgg16", file, unverified=True)
    model = weights.caffemodel("vgg16")
    assert model.name == "VGG_ILSVRC_16_layers.caffemodel" and weights.verified_by(model) == "unverified"
    assert weights.obtain("vgg16") == model.parent, "nothing is downloaded"
    before = model.read_bytes()
    (tmp_path / "half.h5").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SelfieError):
        weights.convert("vgg16", tmp_path / "half.h5", unverified=True)
    assert weights.caffemodel("vgg16").read_bytes() == before


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"nonsense")
    for arguments, words in (
        (["vgg16", "--from", tmp_path / "x.pth"], "is not the file that was published as vgg16"),
        (["vgg16", "--from", tmp_path / "none.h5"], "no such file"),
        (["mtcnn", "--from", tmp_path / "x.pth"], "not made of a file of another framework"),
    ):
        testlib.assert_one_line_error(testlib.command("tools/fetch_weights.py", *arguments), words)


def test_the_means_of_torchvision_are_one():
    """255 times the normalisation's, in BGR: a padded pixel is a zero in both."""
    np.testing.assert_allclose(variants.TORCHVISION_MEAN, 255 * np.array(vgg16_forms.TORCH_MEAN[::-1]))


def test_a_caffemodel_written_in_pieces_is_one_of_protobufs(tmp_path, prototxt):
    """The same net, layer by layer, as Caffe's own net.save writes."""
    generator = np.random.default_rng(4)
    arrays = {layer.name: [generator.random(layer.shape, np.float32), np.zeros(0, np.float32)] for layer in NARROW}
    arrays = {name: [first, generator.random(first.shape[0], np.float32)] for name, (first, _) in arrays.items()}
    caffemodel.write(tmp_path / "a.caffemodel", "VGG16", [(one.name, one.kind, arrays[one.name]) for one in NARROW])
    net = caffe_net.load(prototxt, tmp_path / "a.caffemodel")
    for name, pair in arrays.items():
        for blob, array in zip(net.params[name], pair):
            np.testing.assert_array_equal(blob.data, array)
    assert vgg16_forms.layers()[13].shape == (4096, 25088) and len(vgg16_forms.layers()) == 16
    assert io.BytesIO(caffemodel._varint(300)).read() == b"\xac\x02"
