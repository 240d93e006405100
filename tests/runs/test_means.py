"""The mean that weights go with: known by place, by name, by run; and a net that is fed with another one is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import testlib
from selfie.common import cli, paths
from selfie.common.errors import SelfieError
from selfie.net import caffemodel, variants, weights
from selfie.runs import means
from selfie.runs.run_folder import Run


def named(path: Path, net: str) -> Path:
    """Write a caffemodel of a net of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    caffemodel.write(path, net, [("conv1_1", "Convolution", [np.zeros((1, 3, 1, 1), np.float32)])])
    return path


def test_every_variant_takes_the_mean_that_its_weights_go_with():
    """And all pretrained weights that a net can start from have one."""
    assert set(variants.MEANS) == set(weights.PRODUCTS)
    started = [variant for variant in variants.VARIANTS.values() if variant.weights in variants.MEANS]
    assert len(started) > 10
    assert all(variant.mean == variants.MEANS[variant.weights] for variant in started)


@pytest.mark.parametrize("name", weights.PRODUCTS)
def test_pretrained_weights_are_known_where_they_stand_and_as_copies(name, tmp_path, monkeypatch):
    """By place whatever their net is called; elsewhere by the name that our conversions, and VGG16's release, give."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    assert means.of(named(tmp_path / "weights" / name / weights.PRODUCTS[name], "x")) == variants.MEANS[name]
    assert means.of(named(tmp_path / "copy.caffemodel", name)) == variants.MEANS[name]
    assert means.of(named(tmp_path / "copy.caffemodel", "VGG_ILSVRC_16_layers")) == variants.IMAGENET_MEAN
    assert means.of(named(tmp_path / "copy.caffemodel", "mine")) is None


def test_nothing_is_said_of_unknown_weights(tmp_path):
    """No name, a long one, no caffemodel at all: each may go with any mean."""
    for number, content in enumerate(
        (b"", b"\n", b"\n\x05ab", b"\n\x80\x01" + b"a" * 128, b"\n\x02\xff\xfe", b"x" * 9)
    ):
        file = tmp_path / f"{number}.caffemodel"
        file.write_bytes(content)
        assert means.of(file) is None
        means.check(variants.get("vgg16"), file)


@pytest.mark.parametrize(
    ("variant", "net", "words"),
    [
        ("vgg16", "vgg16_torchvision", "give --variant=vgg16_torchvision"),
        ("vgg16", "vgg_face", "give --variant=vgg_face"),
        ("vgg16", "vgg16_torchvision_frozen", "give --variant=vgg16_torchvision"),
        ("vgg16_torchvision", "vgg16", "give --variant=vgg16"),
        ("vgg16_torchvision", "VGG_ILSVRC_16_layers", "give --variant=vgg16"),
        ("vgg16_torchvision", "vgg16_notop", "give --variant=vgg16"),
        ("vgg_face", "vgg16", "give --variant=vgg16"),
        ("vgg16_frozen", "vgg16_torchvision", "give --variant=vgg16_torchvision_frozen"),
        ("vgg16_torchvision_frozen", "vgg16", "give --variant=vgg16_frozen"),
        ("vgg16_frozen", "vgg_face", "give other weights"),
        ("vgg16_dropout", "vgg16_torchvision", "give other weights"),
    ],
)
def test_weights_of_another_mean_are_refused_with_what_to_type(variant, net, words, tmp_path):
    file = named(tmp_path / "x.caffemodel", net)
    with pytest.raises(SelfieError) as refused:
        means.check(variants.get(variant), file)
    mean = ", ".join(f"{value:g}" for value in means.of(file))
    assert str(refused.value).endswith(words) and f"the mean {mean}, but {variant} takes" in str(refused.value)
    assert cli.in_makes_words(words, "train") == words.replace("--variant", "VARIANT")


@pytest.mark.parametrize(
    ("variant", "net"),
    [("vgg16", "vgg16"), ("vgg16_dropout", "vgg16"), ("vgg16_frozen", "vgg16_notop"), ("vgg_face", "vgg_face")],
)
def test_weights_of_the_same_mean_are_taken(variant, net, tmp_path):
    means.check(variants.get(variant), named(tmp_path / "x.caffemodel", net))


def test_a_training_from_a_run_of_another_mean_is_refused_before_anything_is_written(own_run, tiny_lmdb, tmp_path):
    """A run's record counts, not its variant's; a snapshot that was copied out of it has its variant's."""
    snapshot = own_run.caffemodel
    begin = ["tools/train.py", "--variant", "demo", "--lmdb", tiny_lmdb, "--run", tmp_path / "new", "--weights"]
    assert means.of(snapshot) == variants.get("demo").mean
    prepared = {**own_run.info["preprocessing"], "mean": [90.0, 110.0, 120.0]}
    Run(own_run.folder, own_run.info).save(preprocessing=prepared)
    for words, environment in (("give other weights", {}), ("give other weights", {"SELFIE_MAKE": "1"})):
        result = testlib.command(*begin, snapshot, env={**os.environ, **environment})
        testlib.assert_one_line_error(result, "trained with the mean 90, 110, 120, but demo takes 103.939", words)
    assert not (tmp_path / "new").exists()
    assert means.of(Path(shutil.copy(snapshot, tmp_path / "copy.caffemodel"))) == variants.get("demo").mean
