"""How the net sees: receptive fields, gradients, the strongest patches and feature maps, with real Caffe."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import testlib
from selfie.common import paths
from selfie.experiments import feature_maps, filters, grids
from selfie.net import gradient, pycaffe, receptive_field, variants
from selfie.net.builder import NetBuilder
from selfie.net.caffe_net import ScoringNet
from selfie.net.prototxt import dump
from selfie.net.receptive_field import Box
from selfie.runs import evaluate, run_folder
from selfie.runs.run_folder import Run

STEP = 0.002  # of pixels, in finite differences: small, because a ReLU or a maximum may change on the way


def deploy(name, blob):
    """A variant's deploy net up to `blob`."""
    return gradient.up_to(pycaffe.read_net(paths.PROTOTXT / name / "deploy.prototxt"), blob)


def small(build, side, channels=3):
    """A net of layers that `build` adds to a nets.Net, as NetParameter."""
    made = NetBuilder("small", trained=False)
    made.message["layer"].append(
        {"name": "data", "type": "Input", "top": "data", "input_param": {"shape": {"dim": [1, channels, side, side]}}}
    )
    build(made)
    return text_format.Parse(dump(made.message), pycaffe.caffe_pb2().NetParameter())


def random_weights(scorer, seed=0):
    """He initialisation: activations keep their size through any number of layers."""
    generator = np.random.default_rng(seed)
    for blobs in scorer.params.values():
        fan_in = blobs[0].count / blobs[0].shape[0]
        blobs[0].data[...] = generator.normal(0, np.sqrt(2 / fan_in), blobs[0].data.shape)
        blobs[1].data[...] = generator.normal(0, 0.1, blobs[1].data.shape)
    return scorer


def run_on(scorer, data, blob):
    """The blob's values for `data`."""
    scorer.blobs["data"].reshape(*data.shape)
    scorer.reshape()
    scorer.blobs["data"].data[...] = data
    scorer.forward()
    return scorer.blobs[blob].data.copy()


def awkward(made):
    """Overhanging ceil-mode pooling, padding, stride, dilation, and branches of different reach."""
    made.conv("a", 4, 3, pad=1, stride=2)
    made.pool("b", 3, 2)
    made.conv("c", 4, 3, pad=2)
    made.message["layer"][-1]["convolution_param"]["dilation"] = 2
    made.top = "b"
    made.conv("d", 4, 1)
    made.layer("e", "Concat", bottom=["c", "d"])
    made.pool("f", 2, 2, "AVE")


NETS = {
    "demo": lambda: deploy("demo", "pool3"),
    "squeezenet": lambda: deploy("squeezenet", "fire5/concat"),
    "vgg16": lambda: deploy("vgg16", "conv2_1"),
    "overhang": lambda: small(awkward, 37),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_unit_depends_on_its_receptive_field_and_on_nothing_else(name, place):
    """The pixels with a gradient, over some random pictures, span exactly the box, at the borders, too; and new noise
    everywhere outside of the box changes nothing (but how Winograd's convolution rounds in tiles that reach beyond)."""
    message = NETS[name]()
    blob = message.layer[-1].top[0]
    scorer = random_weights(gradient.load(message))
    row = column = round(place * (scorer.blobs[blob].shape[2] - 1))
    box = receptive_field.field(message, filters.blob_sizes(scorer), blob, row, column)
    generator = np.random.default_rng(1)
    data = generator.normal(0, 50, (6, *scorer.blobs["data"].shape[1:])).astype(np.float32)
    before = run_on(scorer, data, blob)
    diff = np.zeros_like(before)
    diff[:, :, row, column] = generator.normal(size=diff.shape[:2])
    touched = np.abs(gradient.backward(scorer, blob, diff)).sum(axis=(0, 1)) > 0
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    assert Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) == box
    other = generator.normal(0, 50, data.shape).astype(np.float32)
    inside = np.s_[:, :, box.top : box.bottom, box.left : box.right]
    other[inside] = data[inside]
    after = run_on(scorer, other, blob)[:, :, row, column]
    np.testing.assert_allclose(after, before[:, :, row, column], rtol=1e-5, atol=1e-5 * before.max())


@pytest.mark.parametrize(
    "blob, side", [("conv1_2", 5), ("pool2", 16), ("conv3_3", 40), ("conv5_3", 196), ("pool5", 212)]
)
def test_receptive_fields_of_vgg16_are_those_of_the_literature(blob, side):
    """Full size, also for a unit in the corner, whose field reaches into the padding."""
    message = deploy("vgg16", "pool5")
    sizes = filters.blob_sizes(gradient.load(message))
    for place in (0, sizes[blob][0] - 1):
        box = receptive_field.field(message, sizes, blob, place, place, clip=False)
        assert (box.bottom - box.top, box.right - box.left) == (side, side)


def test_a_fully_connected_unit_sees_everything():
    """So does global pooling."""
    for name, blob in (("demo", "fc7"), ("squeezenet", "pool10")):
        message = deploy(name, blob)
        sizes = filters.blob_sizes(gradient.load(message))
        assert receptive_field.field(message, sizes, blob, 0, 0) == (0, 0, *sizes["data"])


@pytest.mark.parametrize("name, blob", [("demo", "fc8_selfie"), ("squeezenet", "conv10_selfie")])
def test_the_gradient_is_the_derivative(name, blob):
    """Along random directions, against finite differences; through the in-place layers of the demo net as well."""
    scorer = random_weights(gradient.load(deploy(name, blob)))
    generator = np.random.default_rng(2)
    data = generator.normal(0, 50, scorer.blobs["data"].shape)
    diff = generator.normal(size=scorer.blobs[blob].shape)
    run_on(scorer, data, blob)
    slope = gradient.backward(scorer, blob, diff).astype(float)
    direction = slope / np.abs(slope).max()
    ahead, behind = (np.sum(diff * run_on(scorer, data + step * direction, blob)) for step in (STEP, -STEP))
    assert (ahead - behind) / (2 * STEP) == pytest.approx(np.sum(slope * direction), rel=0.02)


def test_guided_gradient_and_deconvolution_follow_their_definitions():
    """On a net of two matrices, against the formulas."""
    message = small(lambda made: [made.conv_relu(name, 6, 1, f"relu_{name}") for name in "ab"], 1)
    scorer = random_weights(gradient.load(message), seed=3)
    first, second = (scorer.params[name][0].data.reshape(6, -1) for name in "ab")
    scorer.params["b"][1].data[...] = 5  # the upper ReLUs are open
    data = np.random.default_rng(4).normal(size=(1, 3, 1, 1))
    run_on(scorer, data, "b")
    open_below = scorer.blobs["a"].data.ravel() > 0
    assert 0 < open_below.sum() < 6
    for filter_number in range(6):
        start = np.eye(6)[filter_number]
        down = second.T @ start
        expected = {
            "gradient": down * open_below,
            "guided": np.maximum(down, 0) * open_below,
            "deconvolution": np.maximum(down, 0),
        }
        for rule in gradient.RULES:
            computed = gradient.backward(scorer, "b", start.reshape(1, 6, 1, 1), rule)
            np.testing.assert_allclose(computed.ravel(), first.T @ expected[rule], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["demo", "squeezenet", "overhang"])
def test_where_no_relu_cuts_anything_all_rules_agree(name):
    """With positive weights and pixels every ReLU is open in both directions."""
    scorer = random_weights(gradient.load(NETS[name]()))
    for blobs in scorer.params.values():
        for blob in blobs:
            blob.data[...] = np.abs(blob.data)
    last = list(scorer.blobs)[-1]
    answer = run_on(scorer, np.random.default_rng(5).uniform(1, 100, scorer.blobs["data"].shape), last)
    plain, guided, deconvolution = (gradient.backward(scorer, last, answer, rule) for rule in gradient.RULES)
    assert plain.max() > 0
    np.testing.assert_array_equal(guided, plain)
    np.testing.assert_array_equal(deconvolution, plain)


def test_the_strongest_answers_are_those_of_looking_at_everything_at_once():
    """More pictures than a batch: the kept ones equal a sort of all, at most one per selfie."""
    scorer = random_weights(gradient.load(deploy("demo", "conv3_2")))
    pictures = np.random.default_rng(6).integers(0, 256, (2 * evaluate.BATCH + 3, 256, 256, 3), np.uint8)
    net = ScoringNet(scorer, variants.get("demo").preprocessing)
    peaks = filters.strongest(net, "conv3_2", iter(pictures), 5)
    maps = net.forward(pictures, ("conv3_2",))[0]
    highest = maps.max(axis=(2, 3)).T
    np.testing.assert_allclose(peaks.activations, -np.sort(-highest, axis=1)[:, :5], rtol=1e-5)
    for number in range(len(highest)):
        assert len(set(peaks.selfies[number])) == 5
        activations = maps[peaks.selfies[number], number, peaks.rows[number], peaks.columns[number]]
        np.testing.assert_allclose(activations, peaks.activations[number], rtol=1e-5)


def test_the_command_shows_patches_that_alone_make_the_activation(tiny_run, tiny_lmdb, tmp_path):
    """Blank everything outside of a written box: the filter's unit still answers with the written activation. The three
    pictures have the same layout."""
    result = testlib.command(
        "pycaffe_scripts/filters.py",
        "--run",
        tiny_run.folder,
        "--blob",
        "conv2_2",
        "--count",
        3,
        "--top",
        4,
        "--out",
        tmp_path,
        "--json",
    )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "patches.json").read_text())
    assert [len(patches) for patches in printed["filters"]] == [4, 4, 4]
    scorer = tiny_run.net()
    for patch in (patch for patches in printed["filters"] for patch in patches):
        picture = grids.pictures_of(tiny_lmdb / "test", [patch["key"]])[0]
        data = filters.inputs(picture[None], tiny_run.preprocessing.crop)[0]
        top, left, bottom, right = Box(*patch["box"]).within(*data.shape[:2])
        blank = np.zeros_like(picture)
        blank[16 + top : 16 + bottom, 16 + left : 16 + right] = data[top:bottom, left:right]
        answer = scorer.forward(blank[None], ("conv2_2",))[0]
        row, column = patch["unit"]
        assert answer[0, patch["filter"], row, column] == pytest.approx(patch["activation"], rel=1e-4)
    shapes = {cv2.imread(str(tmp_path / f"{name}.png")).shape for name in ("patches", "guided", "deconvolution")}
    assert len(shapes) == 1


def test_patches_of_bad_selfies_stay_small(tiny_run, tiny_lmdb, tmp_path):
    """Below a score of 50 % no patch is larger than 48 pixels, in any of the pictures; the others fill their cell."""
    blob, selected = filters.find(tiny_run, count=4, top=4)
    files = filters.draw(tiny_run, blob, selected, tmp_path)
    selfies = grids.pictures_of(tiny_lmdb / "test", [patch.key for patches in selected for patch in patches])
    bad = tiny_run.net().scores(np.stack(selfies)) < 0.5
    assert 0 < bad.sum() < len(bad)
    for file in files:
        sheet, filled = cv2.imread(str(file)), []
        for number in range(len(bad)):
            block, place = divmod(number, 4)
            top = 12 + 20 + 97 * (place // 2)
            left = 12 + block * (194 + 12) + 97 * (place % 2)
            cell = sheet[top : top + 96, left : left + 96].astype(int)
            ring = np.delete(cell.reshape(-1, 3), np.ravel_multi_index(np.mgrid[24:72, 24:72], (96, 96)).ravel(), 0)
            filled.append(bool(np.abs(ring - filters.GRAY).max() > 0))
        assert filled == [not each for each in bad]


def test_chosen_filters_and_the_seed(tiny_run):
    """--filters are shown in the given order; the same seed chooses the same ones, and the default blob is the third
    stage's last."""
    blob, selected = filters.find(tiny_run, chosen=[5, 2], top=2)
    assert blob == "conv3_2" and [patches[0].filter for patches in selected] == [5, 2]
    picks = [
        [patches[0].filter for patches in filters.find(tiny_run, count=6, top=2, seed=seed)[1]] for seed in (1, 1, 2)
    ]
    assert picks[0] == picks[1] != picks[2]


@pytest.mark.parametrize("name, blob", [("vgg16", "conv3_3"), ("squeezenet", "fire8/concat"), ("demo", "conv3_2")])
def test_the_third_stage_of_each_variant(name, blob):
    """What the third max pooling reads."""
    assert filters.third_stage(pycaffe.read_net(paths.PROTOTXT / name / "deploy.prototxt")) == blob


def test_feature_maps_of_a_file(tiny_run, skimage_data, tmp_path):
    """An overview and one picture per blob, from the data on."""
    result = testlib.command(
        "pycaffe_scripts/filters.py",
        "--run",
        tiny_run.folder,
        "--maps",
        skimage_data / "astronaut.png",
        "--out",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    names = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert names[0] == "00_data" and names[-1] == "overview" and "09_pool3" in names
    assert result.stdout.split() and all(name in result.stdout for name in names)


def test_maps_are_the_nets_own_numbers(tiny_run, skimage_data):
    """Nothing between the net and the picture but a stretch from black to white."""
    picture = cv2.resize(cv2.imread(str(skimage_data / "astronaut.png")), (256, 256))
    maps = feature_maps.compute(tiny_run, picture)
    expected = tiny_run.net().forward(picture[None], ("pool2",))[0][0]
    np.testing.assert_array_equal(maps["pool2"], expected)
    shown = feature_maps.as_picture(np.array([[-1.0, 0], [1, 3]]))
    assert shown[..., 0].tolist() == [[0, 63], [127, 255]]
    assert not feature_maps.as_picture(np.full((2, 2), 7.0)).any()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--blob", "conv9_9"], "no blob 'conv9_9': choose one of data, pool0"),
        (["--blob", "conv3_2", "--filters", "64"], "has 64 filters: choose from 0 to 63"),
        (["--maps", "no_such.jpg"], "no_such.jpg: no such file"),
    ],
)
def test_mistakes_are_one_line(tiny_run, arguments, words):
    """What a user can mistype."""
    testlib.assert_one_line_error(
        testlib.command("pycaffe_scripts/filters.py", "--run", tiny_run.folder, *arguments), words
    )


def test_an_unfinished_run_has_no_filters(tiny_run, tmp_path):
    """It says how to finish it."""
    unfinished = Run(tiny_run.folder, {**tiny_run.info, "state": "started"})
    with pytest.raises(run_folder.SelfieError, match="not finished"):
        filters.find(unfinished)
