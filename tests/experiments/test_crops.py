"""Net surgery and the search for the best crop."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import testlib
from selfie.common import paths, stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.image import Preprocessing
from selfie.data.lmdb_reader import Database
from selfie.experiments import crop_plots, crop_space, crops
from selfie.faces import lbp
from selfie.net import caffe_net, surgery, variants
from selfie.net.caffe_net import ScoringNet
from selfie.runs import readings, score, trust
from selfie.runs.run_folder import Run


def randomized(loaded, seed: int = 0):
    """A caffe.Net with random weights that keep the size of what flows through; the head's are small."""
    generator = np.random.default_rng(seed)
    for blobs in loaded.params.values():
        weights = blobs[0].data
        weights[...] = generator.normal(0, np.sqrt(2 / weights[0].size), weights.shape)
        blobs[1].data[...] = generator.normal(0, 0.1, blobs[1].data.shape)
        if len(blobs) == 3:  # means, variances and their weight, of features
            blobs[1].data[...] = generator.uniform(0.5, 2, blobs[1].data.shape)
            blobs[2].data[...] = 1
    blobs[0].data[...] *= 0.05
    return loaded


@pytest.fixture(scope="module", params=["demo", "squeezenet", "squeezenet_frozen"])
def searcher(request, tmp_path_factory) -> crops.Searcher:
    """A searcher over a run of each small variant, with random weights: no property below needs a trained net."""
    folder = tmp_path_factory.mktemp(request.param)
    deploy = paths.PROTOTXT / request.param / "deploy.prototxt"
    (folder / "deploy.prototxt").write_text(deploy.read_text())
    randomized(caffe_net.load(deploy)).save(str(folder / "random.caffemodel"))
    preprocessing = dataclasses.asdict(variants.get(request.param).preprocessing)
    info = {"variant": request.param, "state": "finished", "caffemodel": "random.caffemodel"}
    info["preprocessing"] = preprocessing
    return crops.Searcher(Run(folder, info))


@pytest.fixture
def unpadded(tiny_run) -> crops.Searcher:
    """A searcher whose nets are the demo's without any padding, for an input of 200 pixels: there all sides are even
    before each pooling, so that no pooling window hangs over the edge either."""
    folder = paths.PROTOTXT / "demo"
    searcher = crops.Searcher(tiny_run)
    searcher.preprocessing = dataclasses.replace(tiny_run.preprocessing, crop=200)
    net, conv_net = (
        _from_text(
            (folder / f"{kind}.prototxt")
            .read_text()
            .replace("pad: 1 ", "")
            .replace("kernel_size: 7", "kernel_size: 3")
            .replace("224", "200")
        )
        for kind in ("deploy", "deploy_conv")
    )
    surgery.transplant(randomized(net), conv_net)
    searcher.net = ScoringNet(net, searcher.preprocessing)
    searcher._convolutional = conv_net, surgery.strides_per_side(conv_net, 200, 256)
    return searcher


def _from_text(text: str):
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text)
        file.flush()
        return caffe_net.load(file.name)


@pytest.fixture(scope="module")
def photo(skimage_data) -> np.ndarray:
    """A real photograph of 512 x 400 pixels: the upper part of the astronaut."""
    return image.read(skimage_data / "astronaut.png")[:400]


def all_passes(searcher: crops.Searcher, allowed: crop_space.Space, width: int, height: int) -> list[crop_space.Pass]:
    return crop_space.passes(allowed, width, height, searcher.convolutional()[1], searcher.preprocessing)


# --- surgery ---------------------------------------------------------------------------------------------------------


def test_the_convolutional_net_is_the_same_net(searcher):
    """For one window its probabilities are the deploy net's; its stride is what the architecture says."""
    pictures = np.random.default_rng(1).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    conv_net, steps = searcher.convolutional()
    difference = searcher.net.scores(pictures) - ScoringNet(conv_net, searcher.preprocessing).scores(pictures)
    assert np.abs(difference).max() < 1e-6
    assert steps == {"demo": 8, "squeezenet": 16, "squeezenet_frozen": 8}[searcher.run.variant.name]


def test_weights_of_another_net_are_refused(searcher):
    """A layer without a partner, or of another size, is an error and not silently left random."""
    other = "vgg16" if searcher.run.variant.name == "demo" else "demo"
    with pytest.raises(SelfieError, match="do not match"):
        surgery.transplant(searcher.net.net, caffe_net.load(paths.PROTOTXT / other / "deploy_conv.prototxt"))


def test_a_net_without_scores_is_refused(tiny_run):
    """The demo's pretraining has 21 classes and no deploy net."""
    with pytest.raises(SelfieError, match="demo_pretrain"):
        _ = Run(tiny_run.folder, {**tiny_run.info, "variant": "demo_pretrain"}).deploy_conv


# --- geometry --------------------------------------------------------------------------------------------------------

SPACES = [
    crop_space.Space(1000, 700),
    crop_space.Space(301, 900, aspect=0.8, min_scale=0.3),
    crop_space.Space(640, 640, aspect=1.5, min_scale=0.2, keep=crop_space.Window(400, 300, 180, 150)),
    crop_space.Space(512, 700, min_scale=0.5, keep=crop_space.Window(0, 650, 50, 50)),
]


@pytest.mark.parametrize("allowed", SPACES)
def test_crops_stay_in_their_space(allowed):
    """Inside the picture, of the aspect (to a pixel), not too small, with all that must be kept: whichever way they
    are made."""
    generator = np.random.default_rng(0)
    windows = crop_space.random(allowed, 300, seed=1) + crop_space.grid(allowed, 5)
    windows += [allowed.near(window, *generator.normal(0, 0.5, 2), generator.uniform(0.3, 3)) for window in windows]
    for window in windows:
        x1, y1, x2, y2 = window.corners
        assert 0 <= x1 < x2 <= allowed.width and 0 <= y1 < y2 <= allowed.height
        assert abs(window.width - window.height * allowed.aspect) <= 0.5 + 0.5 * allowed.aspect
        assert window.width >= allowed.min_scale * allowed.largest[0] - 0.5
        if allowed.keep:
            kept = allowed.keep.corners
            assert x1 <= kept[0] and y1 <= kept[1] and x2 >= kept[2] and y2 >= kept[3]


@pytest.mark.parametrize("allowed", SPACES)
@pytest.mark.parametrize("steps, crop", [(8, 224), (16, 227)])
def test_dense_windows_leave_no_gap(allowed, steps, crop):
    """Each allowed position of a crop is at most half a step from a window of the map, in x and in y."""
    width, height = (int(0.8 * side) // steps * steps for side in allowed.largest)
    windows = [
        window
        for part in crop_space.passes(allowed, width, height, steps, Preprocessing((0, 0, 0), crop))
        for window in part.windows
    ]
    for axis, (first, last) in enumerate(allowed.room(width, height)):
        places = np.array([window.corners[axis] for window in windows])
        assert first <= places.min() and places.max() <= last
        gaps = np.abs(np.arange(first, last + 1)[:, None] - places).min(1)
        assert gaps.max() <= (width, height)[axis] / steps / 2 + 1


def test_large_levels_are_cut_into_passes(monkeypatch):
    """A limit on the network's input changes how windows are grouped, not which there are."""
    allowed = crop_space.Space(2000, 1000)
    whole = [
        window
        for part in crop_space.passes(allowed, 400, 400, 16, Preprocessing((0, 0, 0), 227))
        for window in part.windows
    ]
    monkeypatch.setattr(crop_space, "PASS_SIDE", 400)
    parts = crop_space.passes(allowed, 400, 400, 16, Preprocessing((0, 0, 0), 227))
    assert len(parts) > 4 and {window for part in parts for window in part.windows} == set(whole)
    assert max(227 + 16 * (max(part.rows, part.columns) - 1) for part in parts) <= 400


# --- scores ----------------------------------------------------------------------------------------------------------


def test_a_crop_scores_as_a_file_with_its_pixels(tiny_run, photo, tmp_path):
    """One preprocessing: score.py on the saved crop says what the search said."""
    searcher = crops.Searcher(tiny_run)
    windows = crop_space.random(crop_space.space(photo, searcher.preprocessing.crop, aspect=0.8), 5)
    names = [str(tmp_path / f"{number}.png") for number in range(5)]
    for name, window in zip(names, windows):
        image.write(name, window.cut(photo))
    expected = [one.score for one in score.score(tiny_run, names)]
    np.testing.assert_allclose(searcher.exact(photo, windows), expected, atol=1e-6)


@pytest.mark.parametrize("steps", [8, 16])
@pytest.mark.parametrize("wanted", [(321, 325), (208, 384), (400, 400), (1050, 1099)])
def test_a_level_holds_the_pixels_of_its_crops(photo, steps, wanted):
    """Bit for bit, shrunk (and halved before, if large) or enlarged, but for the outermost pixel, which the net does
    not see."""
    if max(wanted) > len(photo):
        photo = np.kron(photo, np.ones((3, 3, 1), np.uint8))
    size = crop_space.level_size(*wanted, steps, 256)
    assert all(0.95 * most < side <= most for side, most in zip(size, wanted))
    demo = variants.get("demo").preprocessing
    for part in crop_space.passes(crop_space.space(photo, demo.crop), *size, steps, demo):
        resized = crop_space.level(photo, part, steps, demo)
        for number, window in enumerate(part.windows):
            row, column = (256 // steps * place for place in divmod(number, part.columns))
            seen = resized[row : row + 256, column : column + 256]
            np.testing.assert_array_equal(seen[1:-1, 1:-1], image.square(window.cut(photo))[1:-1, 1:-1])


def test_without_padding_the_map_is_exact(unpadded, photo):
    """The same border treatment, the same scores: all windows of several levels, squashed ones too."""
    for size in ((400, 400), (320, 320), (256, 336)):
        for part in all_passes(unpadded, crop_space.space(photo, unpadded.preprocessing.crop), *size):
            exact = unpadded.exact(photo, part.windows)
            assert exact.std() > 0 and len(exact) > 1
            np.testing.assert_allclose(unpadded.map(photo, part).ravel(), exact, atol=1e-5)


def test_with_padding_a_single_window_is_exact(searcher, photo):
    """A level of one window has the border of a single crop: zeros."""
    single = crop_space.Space(512, 512)
    [part] = all_passes(searcher, single, 512, 512)
    assert part.rows == part.columns == 1
    np.testing.assert_allclose(searcher.map(photo, part).ravel(), searcher.exact(photo, part.windows), atol=1e-5)


def test_with_padding_the_map_proposes_well(tiny_run, photo):
    """Neighbours instead of zeros change the values of a trained net, but hardly their order."""
    searcher = crops.Searcher(tiny_run)
    windows, mapped = searcher.survey(photo, crop_space.space(photo, searcher.preprocessing.crop))
    exact = searcher.exact(photo, windows)
    print(
        f"map against exact: mean difference {np.abs(mapped - exact).mean():.4f}, "
        f"largest {np.abs(mapped - exact).max():.4f}, rank correlation {stats.spearman(mapped, exact):.3f}"
    )
    assert stats.spearman(mapped, exact) > 0.8


# --- searches --------------------------------------------------------------------------------------------------------


def test_dense_beats_random(tiny_run, photo):
    """At least as good in the mean over views as the best of 1000 random crops, with less than a tenth of the work."""
    searcher, allowed = crops.Searcher(tiny_run), crop_space.space(photo, tiny_run.preprocessing.crop)
    dense, many = (searcher.search(photo, allowed, method) for method in ("dense", "random"))
    _, (ours, theirs) = searcher.steady(photo, [dense.best[0][0], many.best[0][0]])
    assert ours >= theirs and dense.forwards < 100 < many.forwards == 1000
    for name, result in (("dense", dense), ("random", many)):
        print(f"{name}: {result.best[0][1]:.4f} in {result.seconds:.2f} s")


def test_one_lucky_window_does_not_win(tiny_run, photo, monkeypatch):
    """A crop that scores 1 only as it is, not mirrored or moved, loses to one that scores 0.7 in every view."""
    searcher = crops.Searcher(tiny_run)
    lucky, steady = crop_space.Window(0, 0, 300, 300), crop_space.Window(100, 50, 300, 300)
    first = readings.VIEWS[crops.VIEWS[0]].of(searched(searcher, photo, lucky), searcher.preprocessing.crop)

    def scores(pictures):
        shown = [searched(searcher, photo, window) for window in (lucky, steady)]
        views = [
            [readings.VIEWS[name].of(each, searcher.preprocessing.crop)[0] for name in crops.VIEWS] for each in shown
        ]
        value = {**{view.tobytes(): 0.1 for view in views[0]}, **{view.tobytes(): 0.7 for view in views[1]}}
        return np.array([{**value, first[0].tobytes(): 1.0}[picture.tobytes()] for picture in pictures])

    monkeypatch.setattr(searcher.net, "scores", scores)
    exact, mean = searcher.steady(photo, [lucky, steady])
    assert exact.tolist() == [1.0, 0.7] and mean[1] > mean[0]


def searched(searcher: crops.Searcher, bgr: np.ndarray, window: crop_space.Window) -> np.ndarray:
    """The 1 x size x size x 3 picture that a window is scored as."""
    return image.square(window.cut(bgr), searcher.preprocessing.size)[None]


def test_a_best_crop_says_whether_the_net_knows_it(heads_run, tiny_run, tiny_lmdb, photo):
    """Heads that learned from coloured noise: a piece of noise is known, one of a photograph is not, in every search;
    of a net without heads nobody can tell."""
    with Database(tiny_lmdb / "test") as records:
        noise = np.stack([picture for _, picture, _ in records])
    searcher, spaces = crops.Searcher(heads_run), crop_space.space(photo, heads_run.preprocessing.crop)
    unlike = trust.of(heads_run).judge(searcher.net, noise).unlike
    piece, whole = noise[int(np.argmin(unlike))], crop_space.Window(0, 0, 256, 256)
    assert searcher.unlike(piece, [whole]) == pytest.approx([unlike.min()]) and unlike.min() < trust.UNKNOWN
    for method in crops.METHODS:
        result = searcher.search(photo, spaces, method, top=2, count=4, steps=2)
        assert len(result.unlike) == len(result.best) and min(result.unlike) >= trust.UNKNOWN
        assert result.unlike == pytest.approx(searcher.unlike(photo, [window for window, _ in result.best]))
    assert crops.Searcher(tiny_run).search(photo, spaces, "random", count=2).unlike is None


@pytest.mark.parametrize("method", crops.METHODS)
def test_the_best_are_exact_sorted_different_and_repeatable(tiny_run, photo, method):
    """Top crops, best first (dense: in the mean over views), that overlap by at most SAME; the same again with the same
    seed."""
    searcher = crops.Searcher(tiny_run)
    allowed = crop_space.space(photo, searcher.preprocessing.crop, min_scale=0.5)
    result, again = (searcher.search(photo, allowed, method, top=3, count=60, steps=4, seed=5) for _ in range(2))
    windows, scores = zip(*result.best)
    ranked = searcher.steady(photo, list(windows))[1].tolist() if method == "dense" else list(scores)
    assert result.best == again.best and ranked == sorted(ranked, reverse=True)
    np.testing.assert_allclose(searcher.exact(photo, list(windows)), scores, atol=1e-5)
    for number, one in enumerate(windows):
        for other in windows[:number]:
            assert overlap(one, other) <= crops.SAME
    assert result.original == pytest.approx(float(searcher.net.squared_scores([photo])[0]), abs=1e-6)


def overlap(one: crop_space.Window, other: crop_space.Window) -> float:
    """Intersection over union, by counting pixels."""
    masks = np.zeros((2, 1000, 1000), bool)
    for mask, window in zip(masks, (one, other)):
        window.cut(mask)[...] = True
    return masks.all(0).sum() / masks.any(0).sum()


def test_the_face_is_kept(tiny_run, photo):
    """With `keep`, the best crop of every method holds the astronaut's face."""
    searcher, kept = crops.Searcher(tiny_run), crop_space.face(photo, lbp.detect)
    allowed = crop_space.space(photo, tiny_run.preprocessing.crop, keep=kept, min_scale=0.2)
    for method in crops.METHODS:
        [(window, _)] = searcher.search(photo, allowed, method, count=50, steps=4).best
        masked = np.zeros(photo.shape[:2], int)
        kept.cut(masked)[...] = 1
        assert window.cut(masked).sum() == kept.width * kept.height


def test_the_heat_map_is_a_correlation(tiny_run, photo):
    """Against numpy's, pixel by pixel."""
    searcher = crops.Searcher(tiny_run)
    allowed = crop_space.space(photo, searcher.preprocessing.crop)
    result = searcher.search(photo, allowed, "random", count=40)
    values = crop_plots.heat(result)
    masks = np.zeros((40, *photo.shape[:2]))
    for mask, window in zip(masks, result.windows):
        window.cut(mask)[...] = 1
    assert values.shape == photo.shape[:2]
    for y, x in ((0, 0), (100, 100), (200, 256), (300, 500), (399, 350), (200, 511)):
        if masks[:, y, x].std() > 0:
            assert values[y, x] == pytest.approx(np.corrcoef(masks[:, y, x], result.scores)[0, 1], abs=1e-6)
        else:
            assert np.isnan(values[y, x])


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_and_draws(tiny_run, photo, tmp_path):
    """JSON with pixels and shares; each crop's file scores what is printed; two pictures per input."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.write(tmp_path / name / "me.png", photo)
    result = testlib.command(
        "pycaffe_scripts/crops.py",
        tmp_path / "a",
        tmp_path / "b" / "me.png",
        "--run",
        tiny_run.folder,
        "--top",
        2,
        "--aspect",
        "4:5",
        "--json",
        "--out",
        tmp_path / "out",
    )
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["score"] for one in records] == [records[0]["score"]] * 2
    best = [crop for one in records for crop in one["best"]]
    rescored = [one.score for one in score.score(tiny_run, [crop["file"] for crop in best])]
    np.testing.assert_allclose([crop["score"] for crop in best], rescored, atol=1e-5)
    for crop in best:
        assert crop["left"] == pytest.approx(crop["x"] * 512)
        assert crop["width"] / crop["height"] == pytest.approx(0.8, abs=0.01)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "crops.png",
        *(f"{stem}_{what}.png" for stem in ("me", "me-2") for what in ("crop1", "crop2", "heat")),
    }


def test_mistakes_are_one_line(tiny_run, photo, tmp_path):
    """A picture that is too small, one without a face, none at all: named, exit code 1. Wrong usage: exit code 2."""
    image.write(tmp_path / "small.png", photo[:200, :300])
    image.write(tmp_path / "gray.png", np.full((300, 300, 3), 99, np.uint8))
    base = ("pycaffe_scripts/crops.py", "--run", tiny_run.folder, "--out", tmp_path / "out")
    testlib.assert_one_line_error(testlib.command(*base, tmp_path / "small.png"), "small.png", "300 x 200", "224")
    testlib.assert_one_line_error(
        testlib.command(*base, tmp_path / "gray.png", "--keep-face", "--detector", "lbp"),
        "gray.png",
        "no face",
        "--keep-face",
    )
    testlib.assert_one_line_error(testlib.command(*base, "no_such.png"), "no_such.png", "no such file")
    assert testlib.command(*base, "x.png", "--min-scale", 0).returncode == 2
    assert testlib.command(*base, "x.png", "--aspect", "wide").returncode == 2
    assert testlib.command(*base, "x.png", "--aspect", "1:0").returncode == 2


def test_a_face_too_large_for_the_aspect(photo):
    """No crop of 4:1 holds a face of half the picture's height."""
    with pytest.raises(SelfieError, match="too large"):
        crop_space.space(photo, variants.get("demo").crop, aspect=4, keep=crop_space.Window(100, 100, 200, 300))
