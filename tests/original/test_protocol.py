"""The post's protocol beside a run's, and its arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from selfie.common import paths
from selfie.net import caffe_net
from selfie.original import protocol
from selfie.runs.run_folder import Run


def test_the_arithmetic_is_that_of_the_net():
    """VGG16's MACs are those of the generated prototxt in Caffe; the post's two statements exclude each other."""
    net = caffe_net.load(paths.PROTOTXT / "vgg16" / "deploy.prototxt")
    total = sum(kernel.count * int(np.prod(net.blobs[name].shape[2:])) for name, (kernel, _) in net.params.items())
    assert protocol.vgg16_macs() == total
    sums = protocol.arithmetic()
    assert sums["k40_tflops"] == pytest.approx(4.29, abs=0.01) and sums["passes_per_night"] < 2
    assert sums["days_for_tens_of_passes"] > 7


def marks(run: Run, tiles: int = 0) -> dict[str, str]:
    """What each statement is marked with."""
    return {row.what: row.mark for row in protocol.table(run, tiles)}


def test_a_mark_follows_the_run(tiny_run):
    """The demo net from random weights differs where the post's net, with its weights and labels, is the same."""
    pretrained = {"path": "weights/vgg16/VGG_ILSVRC_16_layers.caffemodel"}
    post = Run(tiny_run.folder, {**tiny_run.info, "variant": "vgg16", "weights": pretrained})
    ablation = Run(tiny_run.folder, {**post.info, "variant": "vgg16_dropout"})
    ours, theirs = marks(tiny_run), marks(post)
    assert {what for what in ours if ours[what] != theirs[what]} == {"net", "parameters", "initialisation"}
    assert {theirs[what] for what in ("net", "parameters", "initialisation", "dropout", "framework")} == {"same"}
    assert {what for what in theirs if theirs[what] != marks(ablation)[what]} == {"dropout"}
    assert marks(ablation)["dropout"] == "different"


@pytest.mark.parametrize(
    ("recorded", "mark", "words"),
    [
        (None, "different", "not from weights that are known"),
        ({"path": "/home/me/random.caffemodel", "verified_by": None}, "different", "not from weights that are known"),
        ({"path": "runs/demo_pretrain/snapshots/x.caffemodel"}, "different", "not from weights that are known"),
        ({"path": "vgg16/x.caffemodel"}, "different", "not from weights that are known"),
        ({"path": "weights/vgg16/x.caffemodel", "verified_by": "published"}, "same", "ImageNet weights"),
        ({"path": "weights/vgg16/x.caffemodel", "verified_by": "unverified"}, "reconstructed", "not the file that was"),
        ({"path": "weights/vgg16/x.caffemodel", "verified_by": "given"}, "reconstructed", "not the file that was"),
        ({"path": "weights/vgg16_notop/x.caffemodel", "verified_by": "published"}, "same", "ImageNet weights"),
        ({"path": "weights/vgg16_torchvision/x", "verified_by": "published"}, "reconstructed", "torchvision's"),
        ({"path": "weights/vgg_face/x.caffemodel", "verified_by": "given"}, "different", "from faces"),
    ],
)
def test_the_start_is_judged_by_the_weights_and_not_by_the_variant(tiny_run, recorded, mark, words):
    """Whoever gives vgg16 a file of his own has not started from ImageNet, and torchvision's weights are ImageNet's."""
    for variant in ("vgg16", "vgg16_torchvision"):
        run = Run(tiny_run.folder, {**tiny_run.info, "variant": variant, "weights": recorded})
        [row] = [row for row in protocol.table(run) if row.what == "initialisation"]
        assert row.mark == mark and words in row.why


def test_heads_on_a_frozen_net_are_not_the_posts_training(heads_run):
    """Even on VGG16: what learns is another thing, and so is the number of parameters."""
    run = Run(heads_run.folder, {**heads_run.info, "variant": "vgg16_frozen"})
    assert {marks(run)[what] for what in ("net", "parameters")} == {"different"}
    assert "linear heads" in next(row.why for row in protocol.table(run) if row.what == "net")


def test_a_run_on_published_tiles_has_another_label_rule(tiny_run):
    """Extremes instead of halves: different, not reconstructed."""
    assert (marks(tiny_run)["label rule"], marks(tiny_run, 340)["label rule"]) == ("reconstructed", "different")


def test_the_table_says_what_the_run_folder_says(own_run):
    """Counts, epochs and, once it is evaluated, the accuracy with its interval."""
    text = {row.what: row.ours for row in protocol.table(own_run)}
    assert text["data volume"] == "64 to train on, 24 to validate" and text["accuracy"].startswith("not evaluated")
    epochs = own_run.info["iterations"] * own_run.variant.batch / 64
    solver = own_run.folder / "solver.prototxt"
    solver.write_text(solver.read_text() + "iter_size: 2\n")
    doubled = {row.what: row.ours for row in protocol.table(Run(own_run.folder, {**own_run.info, "gpu": "0,1"}))}
    assert doubled["time"].endswith(f"{4 * epochs:.1f} passes"), "two GPUs read a batch each, and iter_size batches"
    assert text["time"].endswith(f"{epochs:.1f} passes") and own_run.info["started"] in text["time"]
    paths.write_json(
        own_run.folder / "test_evaluation.json",
        {"accuracy": 0.75, "accuracy_95": [0.5, 0.9], "auc": 0.8, "selfies": 1234},
    )
    text = {row.what: row.ours for row in protocol.table(own_run)}
    assert text["accuracy"] == "75.0% (50.0% to 90.0%) on 1,234 test selfies"
