"""A run held against the published figures: the tests, the baselines, the crops, the protocol."""

from __future__ import annotations

import dataclasses
import json
import shutil

import cv2
import numpy as np
import polars as pl
import pytest
import scipy.stats

import testlib
from selfie.common import paths, stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.experiments import ablations, crops
from selfie.net import weights
from selfie.original import compare, crop_pairs, figures, protocol, reach
from selfie.runs import run_folder
from selfie.runs.run_folder import Run

# --- metrics ---------------------------------------------------------------------------------------------------------


def test_spearman_and_auc_are_those_of_scipy():
    """With ties, as published rows have them."""
    generator = np.random.default_rng(0)
    rows, values = generator.integers(0, 20, 240), generator.normal(size=240).round(1)
    assert stats.spearman(values, rows) == pytest.approx(scipy.stats.spearmanr(values, rows).statistic)
    labels = (rows > 12).astype(int)
    mann_whitney = scipy.stats.mannwhitneyu(values[labels == 1], values[labels == 0]).statistic
    assert stats.auc(values, labels) == pytest.approx(mann_whitney / labels.sum() / (1 - labels).sum())


def test_bootstrap_intervals_are_those_of_scipy():
    """As wide and where scipy's percentile bootstrap puts them, up to the luck of the draw."""
    generator = np.random.default_rng(1)
    first = generator.normal(size=150)
    second = first + generator.normal(size=150)
    expected = scipy.stats.bootstrap(
        (first, second),
        lambda a, b: scipy.stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=0,
    ).confidence_interval
    found = stats.spearman_report(first, second)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.02)
    labels = (second > 0).astype(int)
    report = stats.auc_report(first, labels)
    assert report["low"] < report["value"] < report["high"] < 1


def test_a_difference_of_equal_measures_is_nothing():
    """Paired resampling: the interval of score minus a copy of itself is exactly 0."""
    values = np.random.default_rng(2).normal(size=60)
    found = compare.ordered({"score": values, "probe": values.copy()}, np.arange(60.0))
    assert found["score_minus_probe"] == {"value": 0, "low": 0, "high": 0}
    assert compare.halved({"score": np.arange(10.0)}, np.repeat([0, 1], 5))["score"]["value"] == 1


# --- synthetic figures of the published geometry ---------------------------------------------------------------------


def sheet(name: str, light) -> np.ndarray:
    """A figure of the published geometry; tile (row, column) has the mean brightness light(row, column)."""
    figure = figures.FIGURES[name]
    generator = np.random.default_rng(len(name))
    picture = np.zeros((*figure.shape, 3), np.uint8)
    side = figure.pitch - 1
    for row in range(figure.rows):
        for column in range(figure.columns):
            y, x = figure.origin[0] + row * figure.pitch, figure.origin[1] + column * figure.pitch
            noise = generator.normal(light(row, column), 45, (6, 6, 3)).clip(0, 255).astype(np.uint8)
            picture[y : y + side, x : x + side] = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """A mirror with synthetic figures - bright is good - whose checksums are those expected; figures left to add."""
    lights = {
        "best": lambda row, column: 170,
        "worst": lambda row, column: 80,
        "continuum": lambda row, column: 180 - 5 * row,
        "celebs": lambda row, column: 180 - 6 * row,
    }
    monkeypatch.setenv("SELFIE_MIRROR", str(tmp_path))
    monkeypatch.setattr(paths, "DATA", tmp_path / "nothing")

    def add(*names: str) -> None:
        for name in names:
            if name == "posneg":
                picture = np.maximum(sheet("posneg_good", lambda *_: 150), sheet("posneg_bad", lambda *_: 100))
                keys = ["posneg_good", "posneg_bad"]
            else:
                picture, keys = sheet(name, lights[name]), [name]
            file = tmp_path / figures.FIGURES[keys[0]].file
            cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
            for key in keys:
                fields = {**figures.FIGURES[key].__dict__, "sha256": paths.sha256(file)}
                monkeypatch.setitem(figures.FIGURES, key, figures.Figure(**fields))

    return add


def test_every_figure_is_a_test_and_a_missing_one_is_named(drawn, tiny_run):
    """A net that likes light agrees with figures made of light; what is not here says how to get it."""
    drawn("continuum", "celebs", "posneg")
    found = compare.Comparison(tiny_run)
    result = {test: getattr(found, test)() for test in ("continuum", "celebs", "posneg")}
    assert (result["continuum"]["tiles"], result["celebs"]["tiles"], result["posneg"]["tiles"]) == (240, 160, 128)
    for test in ("continuum", "celebs"):
        told = result[test]["spearman"]
        assert set(told) == {"score", "brightness", "score_minus_brightness"}
        assert told["brightness"]["value"] > 0.8 and told["score"]["value"] > 0.5
    assert result["posneg"]["accuracy"]["brightness"]["value"] > 0.9 and result["posneg"]["paper"] == 0.6
    assert set(found.tiles.missing) == {"best", "worst"}
    assert "grid_render_best.jpg" in found.tiles.missing["best"] and "SELFIE_MIRROR" in found.tiles.missing["best"]


def test_tiles_that_a_run_was_trained_on_are_left_out_with_their_twins(drawn):
    """The same selfie in another figure is as little of a test as the tile itself."""
    drawn("best", "worst", "continuum")
    tiles = compare.Tiles()
    assert tiles.duplicates == []
    tiles.duplicates = [("best_00_00", "continuum_00_00")]
    assert tiles.showing({"best_00_00"}) == {"best_00_00", "continuum_00_00"}
    seen = {"best_00_00", "worst_00_01"}
    assert len(tiles.fresh(seen, "continuum")) == 239 and len(tiles.fresh(seen, "best", "worst")) == 398


def test_without_any_figure_one_line_says_how_to_get_them(tiny_run, tmp_path):
    """Exit code 1, nothing written."""
    result = testlib.command(
        "tools/compare_paper.py", "--run", tiny_run.folder, env={"SELFIE_MIRROR": str(tmp_path), "PATH": ""}
    )
    figures = paths.DATA / "figures"
    if not list(figures.glob("*.jpg")):
        testlib.assert_one_line_error(result, "karpathy.github.io", "SELFIE_MIRROR")
    assert not (tiny_run.folder / "compare.json").exists()


# --- the published figures -------------------------------------------------------------------------------------------


@pytest.fixture
def published(mirror):
    """Skips unless grids, crops and the probe's weights are here."""
    for name in ("best", "worst", "continuum", "crops1", "crop2"):
        mirror(figures.FIGURES[name].file)
    mirror("compressed_SqueezeNet.net")
    weights.obtain("squeezenet")


def test_the_probe_is_tested_on_no_selfie_that_it_knows(published, monkeypatch):
    """The 24 selfies that the continuum shares are not among the probe's training tiles, and it beats brightness."""
    tiles = compare.Tiles()
    assert len(tiles.duplicates) == 24
    probe = compare.Probe(tiles)
    places, fitted = tiles.of("continuum"), []
    monkeypatch.setattr(compare, "probe", lambda original=compare.probe: fitted.append(original()) or fitted[-1])
    values = probe.on(places)
    assert len(fitted) == 1 and fitted[0].best_estimator_[0].n_samples_seen_ == 376
    published_row = -np.array([tiles.all[place].row for place in places])
    assert stats.spearman(values, published_row) > stats.spearman(
        compare.brightness(tiles.reduced)[places], published_row
    )


def test_compare_makes_a_page_and_says_what_is_missing(published, tiny_run, tmp_path):
    """On a run of the demo net: every figure is a number or a reason; the page needs nothing beside it."""
    shutil.copytree(tiny_run.folder, folder := tmp_path / "tiny")
    result = testlib.command("tools/compare_paper.py", "--run", folder, "--crops", "dense")
    assert result.returncode == 0, result.stderr
    told = json.loads((folder / "compare.json").read_text())
    assert told["continuum"]["tiles"] == 240 and told["trained_on_tiles"] == 0
    assert told["best_worst"]["tiles"] == 400 and len(told["crops"]) == 6
    for name, test in (("celebs", "celebs_grid_render.jpg"), ("posneg", "grid_render_posneg.jpg")):
        assert "spearman" in told[name] or "auc" in told[name] or test in told[name]["why_not"]
    page = (folder / "compare.html").read_text()
    assert page.count("data:image/") == 2 and 'src="h' not in page and "different" in page
    assert run_folder.load(folder).finished


# --- crops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "window", [crops.Window(12, 30, 120, 120), crops.Window(0, 0, 90, 90), crops.Window(60, 41, 131, 125)]
)
def test_a_planted_crop_is_found_again(skimage_data, window):
    """Enlarged to the size of the original, as a JPEG, at other quality: to within two pixels on each side."""
    photo = cv2.resize(image.read(skimage_data / "astronaut.png"), (200, 200), interpolation=cv2.INTER_AREA)
    crop = cv2.resize(window.cut(photo), (200, 200), interpolation=cv2.INTER_CUBIC)
    crop = cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    found, correlation = crop_pairs.recover(photo, crop)
    assert correlation > 0.97 and crop_pairs.overlap(found, window) > 0.93
    assert np.abs(np.subtract(found.corners, window.corners)).max() <= 2


def test_a_crop_of_another_picture_is_refused(skimage_data):
    """Better no rectangle than an invented one."""
    photo, other = (cv2.resize(image.read(skimage_data / name), (200, 200)) for name in ("astronaut.png", "coffee.png"))
    with pytest.raises(SelfieError, match="not found"):
        crop_pairs.recover(photo, other)


def test_overlap_is_intersection_over_union():
    """1 for the same, 0 for none, and a hand-computed one in between."""
    one = crops.Window(0, 0, 10, 10)
    assert crop_pairs.overlap(one, one) == 1 and crop_pairs.overlap(one, crops.Window(10, 0, 5, 5)) == 0
    assert crop_pairs.overlap(one, crops.Window(5, 0, 10, 10)) == pytest.approx(50 / 150)


def test_all_published_crops_are_found_in_their_originals(published):
    """Six pairs; each crop matches its original nearly perfectly, and is smaller than it."""
    for pair in crop_pairs.PAIRS:
        original, crop = crop_pairs.pictures(pair)
        window, correlation = crop_pairs.recover(original, crop)
        assert correlation > 0.98 and window.width < 0.85 * original.shape[1]


# --- protocol --------------------------------------------------------------------------------------------------------


def test_the_arithmetic_is_that_of_the_net():
    """VGG16's multiplications are those of the generated prototxt; the post's two statements exclude each other."""
    from selfie.net import architectures, caffe_net

    loaded = caffe_net.load(paths.PROTOTXT / "vgg16" / "deploy.prototxt")
    total = 0
    for name, (kernel, _) in loaded.params.items():
        total += kernel.count * int(np.prod(loaded.blobs[name].shape[2:]))
    assert protocol.vgg16_macs() == total
    sums = protocol.arithmetic()
    assert sums["k40_tflops"] == pytest.approx(4.29, abs=0.01) and sums["passes_per_night"] < 2
    assert sums["days_for_tens_of_passes"] > 7 and architectures.VGG16_STAGES


def test_the_protocol_marks_every_statement(tiny_run):
    """Each row has one of three marks and a reason."""
    rows = protocol.table(Run(tiny_run.folder, tiny_run.info))
    assert len(rows) >= 10 and all(row.why and row.mark in ("same", "reconstructed", "different") for row in rows)


# --- reach -----------------------------------------------------------------------------------------------------------


def test_folds_are_stratified_and_know_no_order():
    """Each fold has a third of each label; reversing the table reverses the folds."""
    labels = pl.DataFrame({"id": [f"t{number}" for number in range(90)], "label": [int(n < 30) for n in range(90)]})
    found = reach.folds(labels)
    for fold in range(reach.FOLDS):
        assert (labels["label"].to_numpy()[found == fold].sum(), (found == fold).sum()) == (10, 30)
    assert (reach.folds(labels.reverse()) == found[::-1]).all()


def test_the_most_constrained_recipe_within_one_standard_error_is_taken():
    """Not the lowest, and not the first that is worse than that."""
    results = [
        {"recipe": name, "log_loss": loss, "standard_error": error}
        for name, loss, error in (("a", 0.30, 0.2), ("b", 0.21, 0.05), ("c", 0.20, 0.02), ("d", 0.19, 0.02))
    ]
    assert reach.choose(results)["recipe"] == "b"


def test_variation_keeps_size_and_is_repeatable():
    """Crops and light change a tile, the same way for the same seed."""
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for recipe in (reach.Recipe("c", "", crops=True), reach.Recipe("l", "", light=True)):
        first, again, other = (reach.vary(tile, recipe, seed) for seed in ("a", "a", "b"))
        assert first.shape == tile.shape and (first == again).all() and (first != other).any()


def test_a_recipe_is_trained_on_tiles_of_no_test(published, tmp_path):
    """Two iterations of the head: held-out scores of all 376 tiles, none of the continuum; frozen layers stay."""
    recipe = reach.Recipe("tiny", reach.HEAD, iterations=2)
    where = reach.Place(tmp_path / "data", tmp_path / "runs")
    scored = reach.held_out(recipe, 1, where)
    assert len(scored) == 376 and scored["id"].n_unique() == 376
    assert not scored["id"].str.starts_with("continuum").any()
    assert 0 < reach.judge(scored)["log_loss"] < 5
    run = reach.trained(recipe, 0, 1, where)
    before = run.info["ended"]
    assert reach.trained(recipe, 0, 1, where).info["ended"] == before
    from selfie.net import caffe_net

    original = caffe_net.load(paths.PROTOTXT / "squeezenet" / "imagenet.prototxt", weights.caffemodel("squeezenet"))
    loaded = run.net().net
    for name, (kernel, _) in loaded.params.items():
        assert name == "conv10_selfie" or (kernel.data == original.params[name][0].data).all()
    tiles, values = reach.order(recipe, [1], where)
    assert len(tiles) == len(values) == 240


# --- ablations -------------------------------------------------------------------------------------------------------


def test_ablations_train_every_arm_and_go_on(tiny_lmdb, tmp_path):
    """Two seeds of each arm of the demo net from scratch; a second call trains nothing; another length is refused."""
    arms = (ablations.Arm("base", "demo", "none"), ablations.Arm("dropout", "demo_dropout", "none"))
    plan = ablations.Plan("demo", tiny_lmdb, (1, 2), tmp_path / "runs", epochs=4)
    answers = [ablations.right(plan, arm) for arm in arms]
    assert [one.shape for one in answers] == [(2, 24)] * 2
    ended = [run_folder.load(path.parent).info["ended"] for path in sorted((tmp_path / "runs").glob("*/run.json"))]
    assert len(ended) == 4 and (ablations.right(plan, arms[0]) == answers[0]).all()
    assert ended == [
        run_folder.load(path.parent).info["ended"] for path in sorted((tmp_path / "runs").glob("*/run.json"))
    ]
    ablations.agree(plan)
    with pytest.raises(SelfieError, match="another time"):
        ablations.agree(dataclasses.replace(plan, epochs=5))
    with pytest.raises(SelfieError, match="vgg16"):
        ablations.run(dataclasses.replace(plan, net="nothing"))


def test_a_planted_difference_shows_and_none_does_not():
    """5 points between arms on 2,000 selfies are seen; two samples of one arm hold 0; faces need only be no better."""
    generator = np.random.default_rng(0)
    base, worse, same = (generator.random((3, 2000)) < share for share in (0.75, 0.70, 0.75))
    apart = ablations.difference(worse, base)
    assert apart["low"] < apart["value"] < apart["high"] < 0 and ablations.verdict("dropout", apart) == "shows"
    assert ablations.verdict("dropout", ablations.difference(same, base)).startswith("does not show")
    assert ablations.verdict("face_init", apart) == "shows: not better"
    assert ablations.verdict("face_init", ablations.difference(base, worse)).startswith("contradicted")
