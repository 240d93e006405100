"""Prototxts: generated, checked in, and really nets."""

from __future__ import annotations

import difflib

import numpy as np
import pytest

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffe_net, generate, pycaffe, solver, variants
from selfie.net.prototxt import Token, dump
from selfie.runs import heads


def test_checked_in_prototxts_are_what_the_generator_writes():
    """Byte for byte, and no file stands there that nobody generates."""
    generated = generate.generate()
    for name, text in generated.items():
        assert (paths.PROTOTXT / name).read_text() == text, f"{name}: run 'make prototxt'"
    assert {str(path.relative_to(paths.PROTOTXT)) for path in paths.PROTOTXT.rglob("*.prototxt")} == set(generated)


@pytest.mark.parametrize("name, layers", [("vgg16", 2), ("demo", 2), ("squeezenet", 1)])
def test_the_dropout_ablation_differs_in_nothing_but_dropout(name, layers):
    """`diff` shows the dropout layers and the names; a reader can see that this is all."""
    plain, dropout = (
        (paths.PROTOTXT / folder / "train_val.prototxt").read_text().splitlines()
        for folder in (name, f"{name}_dropout")
    )
    changes = [line for line in difflib.ndiff(plain[3:], dropout[3:]) if line[0] in "+-"]
    assert [line for line in changes if line[0] == "-"] == [f'- name: "{name}"']
    added = " ".join(line[2:] for line in changes if line[0] == "+")
    assert added.count("dropout_param") == added.count("layer {") == layers
    message = parse(paths.PROTOTXT / f"{name}_dropout" / "train_val.prototxt")
    rest = [layer for layer in message.layer if layer.type != "Dropout"]
    assert rest == list(parse(paths.PROTOTXT / name / "train_val.prototxt").layer)


def parse(path):
    """A prototxt as a NetParameter."""
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(), pycaffe.caffe_pb2().NetParameter())


@pytest.mark.parametrize(
    "path", sorted(paths.PROTOTXT.glob("*/*.prototxt")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_file_instantiates_in_caffe(path, tiny_lmdb, tmp_path):
    """Both phases of a training net (its databases replaced by small ones); the rest as they are."""
    if path.stem != "train_val":
        assert caffe_net.load(path).params
        return
    readout = variants.get(path.parent.name).readout
    file = with_database(path, tmp_path if readout else tiny_lmdb, tmp_path)
    if readout:  # it reads targets and features
        for split in ("train", "val"):
            heads._write_records(tmp_path / split, np.zeros((3, readout.members)), np.ones((3, 7)), np.arange(3))
    for phase in (pycaffe.caffe().TRAIN, pycaffe.caffe().TEST):
        assert "loss" in pycaffe.caffe().Net(str(file), phase).blobs


def with_database(path, lmdb, folder):
    """A copy of a train_val.prototxt that reads the databases in `lmdb`."""
    source = variants.get(path.parent.name).data
    file = folder / "train_val.prototxt"
    file.write_text(path.read_text().replace(f'"{source}/', f'"{lmdb}/'))
    return file


@pytest.mark.parametrize("name, count", [("vgg16", 134_268_738), ("squeezenet", 736_450), ("demo", 488_066)])
def test_parameter_count(name, count):
    """VGG16 with a two-way head has 134 million parameters (the post says 140 million, which is the 1000-way net)."""
    loaded = caffe_net.load(paths.PROTOTXT / name / "deploy.prototxt")
    assert caffe_net.parameter_count(loaded) == count
    print(f"{name}: {count:,} parameters")


@pytest.mark.parametrize("path", sorted(paths.SOLVER.glob("*.prototxt")), ids=lambda path: path.stem)
def test_solvers_serve_cpu_and_gpu_alike(path):
    """Each solver parses, names a net that exists, has a seed, and leaves solver_mode to the command line."""
    parsed = solver.parse(path.read_text())
    assert (paths.ROOT / parsed.net).exists()
    assert not parsed.HasField("solver_mode") and parsed.random_seed >= 0
    assert parsed.max_iter and parsed.snapshot and parsed.snapshot_prefix.startswith("runs/")


def test_changing_a_solver_keeps_comments_and_quotes_strings():
    """solver.change edits in place, appends what is new, and the result parses."""
    text = 'net: "a"   # the net\nmax_iter: 5 # short\n'
    changed = solver.change(text, {"net": "b/c", "max_iter": 7, "type": "Adam", "iter_size": "2"})
    assert changed == 'net: "b/c"   # the net\nmax_iter: 7 # short\ntype: "Adam"\niter_size: 2\n'
    assert solver.parse(changed).type == "Adam"


@pytest.mark.parametrize("name", ["vgg16", "squeezenet", "demo"])
def test_the_convolutional_deploy_net_has_the_same_parameters(name):
    """deploy_conv is the deploy net with fully connected layers written as convolutions."""
    count, conv = (
        caffe_net.parameter_count(caffe_net.load(paths.PROTOTXT / name / f"{kind}.prototxt"))
        for kind in ("deploy", "deploy_conv")
    )
    assert count == conv


def test_emitter_quotes_and_nests():
    """Text format: strings quoted and escaped, enums bare, lists repeated, booleans lower case."""
    text = dump({"name": 'a"b', "layer": [{"phase": Token("TEST"), "on": True}, {"dim": [1, 2], "k": {"x": 0.5}}]})
    assert text == ('name: "a\\"b"\nlayer { phase: TEST on: true }\nlayer {\n  dim: 1\n  dim: 2\n  k { x: 0.5 }\n}\n')


@pytest.mark.parametrize(
    "layer",
    [
        b'name: "d\xff" type: "Input" top: "data" input_param { shape { dim: 1 } }',
        b'name: "data" type: "Input" top: "d\xff" input_param { shape { dim: 1 } }',
        b'name: "data" type: "d\xff" top: "data"',
    ],
)
def test_a_name_that_is_no_text_is_named(tmp_path, layer):
    """Caffe takes any bytes; Python would end in a traceback at the first look at them."""
    (tmp_path / "deploy.prototxt").write_bytes(b"layer { " + layer + b" }")
    with pytest.raises(SelfieError, match=r"d\\xff"):
        caffe_net.load(tmp_path / "deploy.prototxt")


def test_deploy_scores_are_probabilities(tiny_run):
    """prob is (bad, good) and sums to one, for any number of pictures."""
    loaded = tiny_run.net()
    for count in (1, 3):
        pictures = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)
        [prob] = loaded.forward(pictures)
        assert prob.shape == (count, 2)
        np.testing.assert_allclose(prob.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "name, first, below", [("squeezenet_half_top", "fire6", "fire5"), ("squeezenet_half_head", "conv10", "fire9")]
)
def test_frozen_layers_have_no_learning_rate_and_the_rest_do(name, first, below):
    """Learning begins with one layer and stops for none above it; nothing else differs from squeezenet_half."""
    frozen, whole = (parse(paths.PROTOTXT / one / "train_val.prototxt") for one in (name, "squeezenet_half"))
    learned = [layer for layer in frozen.layer if layer.param]
    start = next(place for place, layer in enumerate(learned) if layer.name.startswith(first))
    assert learned[start - 1].name.startswith(below)
    for place, layer in enumerate(learned):
        assert all((param.lr_mult > 0) == (place >= start) for param in layer.param)
    for ours, theirs in zip(frozen.layer, whole.layer):
        del ours.param[:], theirs.param[:]
        assert ours == theirs
