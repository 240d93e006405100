"""The spatial transformer in front of a net that real Caffe trained, and gradient ascent on where it looks."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

import testlib
from selfie.data import image
from selfie.data.image import Preprocessing
from selfie.experiments import crop_space, spatial_transformer

STEP = 1e-4  # of theta, in finite differences: a few hundredths of a pixel


@pytest.fixture(scope="module")
def astronaut(skimage_data):
    """A photograph that is not square."""
    return image.read(skimage_data / "astronaut.png")[:, 40:480]


@pytest.fixture(scope="module")
def glimpses(tiny_run, astronaut):
    """The demo net, which likes bright pictures, looking at it."""
    return spatial_transformer.Glimpses(tiny_run, astronaut)


def theta_of(window: crop_space.Window, width: int, height: int) -> np.ndarray:
    """The transformation that shows a window of a width x height picture, from the definition of a glimpse."""
    x1, y1, x2, y2 = window.corners
    return np.array([window.width / width, 0, (x1 + x2) / width - 1, 0, window.height / height, (y1 + y2) / height - 1])


WINDOWS = [
    crop_space.Window(0, 0, 440, 512),
    crop_space.Window(31, 57, 300, 256),
    crop_space.Window(200, 10, 113, 331),
    crop_space.Window(390, 462, 50, 50),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_glimpse_at_a_crop_is_the_crop(glimpses, tiny_run, astronaut, window):
    """The net sees the pixels that it sees when the crop is a file, but for their rounding; enlarged and reduced, with
    the centre crop. So the log-odds agree."""
    theta = theta_of(window, 440, 512)[None]
    odds = glimpses.look(theta)
    picture = image.square(window.cut(astronaut))[None]
    expected = image.prepare(picture, tiny_run.variant.crop, tiny_run.variant.mean)
    assert np.abs(glimpses.net.blobs["data"].data - expected).max() < 1
    bad, good = tiny_run.net().forward(picture, (glimpses.odds,))[0].reshape(2)
    assert odds == pytest.approx(good - bad, rel=0.01, abs=0.05)


@pytest.mark.parametrize("crop", [224, 227])
def test_the_centre_is_that_of_the_preprocessing(crop):
    """Pixel centres of the net's input, put through the matrix, are those that image.prepare keeps of 256."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    kept = image.prepare(ramp[None], crop, (0, 0, 0))[0, 0, 0]
    unit = (2 * np.arange(crop) + 1) / crop - 1
    there = spatial_transformer.centre(Preprocessing((0, 0, 0), crop)) @ np.stack([unit, unit, np.ones(crop)])
    np.testing.assert_allclose(((there[0] + 1) * 256 - 1) / 2, kept, atol=1e-9)
    np.testing.assert_allclose(there[0], there[1])


def test_the_slope_is_the_derivative(glimpses):
    """Each of the six parameters against finite differences, at a rotated and sheared glimpse."""
    theta = np.array([[0.62, 0.21, 0.05, -0.17, 0.55, -0.11]])
    odds, slope = glimpses.slope(theta)
    assert odds == pytest.approx(glimpses.look(theta))
    ahead, behind = (glimpses.look(theta + sign * STEP * np.eye(6)) for sign in (1, -1))
    measured = (ahead - behind) / (2 * STEP)
    assert np.linalg.norm(measured - slope[0]) < 0.1 * np.linalg.norm(slope)


def test_many_glimpses_are_as_many_single_ones(glimpses):
    """The batch does not matter, neither for log-odds nor for slopes."""
    thetas = spatial_transformer.starts(20, 0.4, seed=1) @ spatial_transformer.SCALE_AND_SHIFT
    odds, slopes = glimpses.slope(thetas)
    single = [glimpses.slope(theta[None]) for theta in thetas[:4]]
    np.testing.assert_allclose(odds[:4], [one[0][0] for one in single], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slopes[:4], [one[1][0] for one in single], rtol=1e-3, atol=1e-4)


def test_where_the_score_is_smooth_ascent_finds_the_best_crop(tiny_run):
    """On a slope from dark to bright the net wants the bright end, and the bounded ascent gets its score from anywhere;
    at each step it stays inside the picture and at an allowed scale."""
    ramp = np.linspace(40, 220, 400)[None, :, None].repeat(400, axis=0).repeat(3, axis=2).astype(np.uint8)
    looking = spatial_transformer.Glimpses(tiny_run, ramp)
    begin = spatial_transformer.starts(5, 0.5, seed=3)
    ascent = spatial_transformer.ascend(looking, begin, steps=40, step=0.2, min_scale=0.5)
    assert (ascent.scores[-1] > ascent.scores[0]).all()
    brightest = spatial_transformer.score(looking.look(np.array([[0.5, 0, 0.5, 0, 0.5, 0]])))
    assert (ascent.scores[-1] > brightest - 0.02).all()
    for theta in ascent.thetas.reshape(-1, 6):
        assert theta[0] == theta[4] and 0.5 <= theta[0] <= 1 and theta[1] == theta[3] == 0
        assert (np.abs(spatial_transformer.corners(theta, 2, 2) - 1) <= 1 + 1e-9).all()


def test_a_free_ascent_leaves_the_bounds(glimpses):
    """All six parameters move; the starts are the crops that were asked for."""
    begin = spatial_transformer.starts(3, 0.4, seed=2)
    ascent = spatial_transformer.ascend(glimpses, begin, steps=5, step=0.1)
    np.testing.assert_allclose(ascent.thetas[0], begin @ spatial_transformer.SCALE_AND_SHIFT)
    assert (ascent.thetas[-1] != ascent.thetas[0]).all()
    lengths = np.linalg.norm(np.diff(ascent.thetas, axis=0), axis=2)
    assert lengths.max() == pytest.approx(0.1) and (np.diff(lengths, axis=0) <= 1e-9).all()


def test_starts_are_crops_of_the_picture_and_depend_on_the_seed_alone():
    """The whole picture first, the rest inside it."""
    starts = spatial_transformer.starts(50, 0.3, seed=7)
    assert starts[0].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(starts, spatial_transformer.starts(50, 0.3, seed=7))
    assert (starts[:10] == spatial_transformer.starts(10, 0.3, seed=7)).all() and (
        starts != spatial_transformer.starts(50, 0.3, 8)
    ).any()
    np.testing.assert_allclose(spatial_transformer.bounded(starts, 0.3), starts)


def test_how_much_of_a_glimpse_is_outside():
    """None of the whole picture, half of it moved by half, all of one far away."""
    assert spatial_transformer.outside(np.array([1, 0, 0, 0, 1, 0])) == 0
    assert spatial_transformer.outside(np.array([1, 0, 1, 0, 1, 0])) == pytest.approx(0.5)
    assert spatial_transformer.outside(np.array([1, 0, 9, 0, 1, 0])) == 1
    assert spatial_transformer.outside(np.array([2, 0, 0, 0, 2, 0])) == pytest.approx(0.75)


def test_a_window_becomes_a_transformation_and_back():
    """In pixels of a picture that is not square."""
    window = crop_space.Window(30, 20, 200, 100)
    around = spatial_transformer.corners(theta_of(window, 440, 512), 440, 512)
    np.testing.assert_allclose(around, [[30, 20], [230, 20], [230, 120], [30, 120], [30, 20]])


def test_the_command_compares_the_searches(tiny_run, skimage_data, tmp_path):
    """Numbers as JSON, and the paths drawn over the picture."""
    result = testlib.command(
        "pycaffe_scripts/spatial_transformer.py",
        skimage_data / "astronaut.png",
        "--run",
        tiny_run.folder,
        "--starts",
        3,
        "--steps",
        6,
        "--count",
        20,
        "--grid",
        3,
        "--json",
        "--out",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "astronaut.json").read_text())
    for ascent in printed["ascents"].values():
        assert np.shape(ascent["thetas"]) == (7, 3, 6)
        assert ascent["starts"][0] == pytest.approx(printed["original"], abs=2e-3)
    assert printed["searches"]["random"]["crops"] == 20 and printed["searches"]["grid"]["crops"] <= 27
    assert cv2.imread(str(tmp_path / "astronaut.png")).shape[0] > 500


def test_mistakes_are_one_line(tiny_run, tmp_path):
    """What a user can mistype, and a picture that is too small."""
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((100, 300, 3), np.uint8))
    for name, words in (("no_such.jpg", "no_such.jpg: no such"), (tmp_path / "small.png", "less than the net's input")):
        testlib.assert_one_line_error(
            testlib.command("pycaffe_scripts/spatial_transformer.py", name, "--run", tiny_run.folder), words
        )
