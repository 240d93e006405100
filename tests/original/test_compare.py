"""A run compared with the published figures: the tests, the baselines, what the run has seen, the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import compare_paper
import testlib
from browser import Browser
from selfie.common import paths, stats, times
from selfie.common.errors import SelfieError
from selfie.data import image, lmdb_writer
from selfie.experiments import crops
from selfie.net import variants
from selfie.original import agreement, baselines, compare, crop_pairs, page, protocol, tile_labels
from selfie.original.tiles import Tiles
from selfie.runs import run_folder
from selfie.runs.run_folder import Run

# --- agreement -------------------------------------------------------------------------------------------------------


def test_a_difference_of_equal_measures_is_nothing():
    """Paired resampling: the interval of score minus a copy of itself is exactly 0."""
    values = np.random.default_rng(2).normal(size=60)
    report = agreement.ordered({"score": values, "probe": values.copy()}, np.arange(60.0))
    assert report["score_minus_probe"] == {"value": 0, "low": 0, "high": 0}


def test_a_better_measure_is_ahead_by_its_correlation():
    """A score in the published order beats one in the reverse order by the whole range of Spearman's correlation."""
    order = np.arange(60.0)
    report = agreement.ordered({"score": order, "brightness": -order}, order)
    assert report["score_minus_brightness"] == pytest.approx({"value": 2, "low": 2, "high": 2})


def test_halves_are_cut_at_the_median_of_each_measure():
    """Right for an ordered measure, wrong for its reverse, whatever its scale; the interval is Wilson's of 10."""
    labels = np.repeat([0, 1], 5)
    report = agreement.halved({"score": np.arange(10.0), "probe": -1000 - np.arange(10.0)}, labels)
    assert (report["score"]["value"], report["probe"]["value"]) == (1, 0)
    assert (report["score"]["low"], report["probe"]["high"]) == pytest.approx((0.7225, 0.2775), abs=1e-4)


# --- synthetic figures -----------------------------------------------------------------------------------------------


def test_every_figure_is_a_test_and_a_missing_one_is_named(drawn, tiny_run):
    """A net that likes light agrees with figures made of light; what is not here says how to get it."""
    drawn("continuum", "celebs", "posneg")
    comparison = compare.Comparison(tiny_run)
    result = {test: getattr(comparison, test)() for test in ("continuum", "celebs", "posneg")}
    assert (result["continuum"]["tiles"], result["celebs"]["tiles"], result["posneg"]["tiles"]) == (240, 160, 128)
    for test in ("continuum", "celebs"):
        spearman = result[test]["spearman"]
        assert set(spearman) == {"score", "brightness", "score_minus_brightness"}
        assert spearman["brightness"]["value"] > 0.8 and spearman["score"]["value"] > 0.5
    assert result["posneg"]["accuracy"]["brightness"]["value"] > 0.9 and result["posneg"]["majority_class"] == 0.5
    assert set(comparison.tiles.missing) == {"best", "worst"}
    for word in ("grid_render_best.jpg", "SELFIE_MIRROR"):
        assert word in comparison.tiles.missing["best"]


def test_the_baselines_of_tiles_are_those_of_the_same_tiles(drawn):
    """In the order asked for; without best and worst there is no probe."""
    drawn("continuum")
    tiles = Tiles().figures["continuum"]
    forwards, backwards = (baselines.of_tiles(some) for some in (tiles, tiles[::-1]))
    assert set(forwards) == {"brightness"} and (forwards["brightness"] == backwards["brightness"][::-1]).all()
    assert stats.spearman(forwards["brightness"], -np.repeat(np.arange(20), 12)) > 0.9


def test_tiles_that_a_run_was_trained_on_are_left_out_with_their_twins(drawn):
    """The same selfie in another figure is as little of a test as the tile itself."""
    drawn("best", "worst", "continuum")
    tiles = Tiles()
    assert tiles.duplicates == []
    tiles.duplicates = [("best_00_00", "continuum_00_00")]
    assert tiles.showing({"best_00_00"}) == {"best_00_00", "continuum_00_00"}
    seen = {"best_00_00", "worst_00_01"}
    assert len(tiles.fresh(seen, "continuum")) == 239 and len(tiles.fresh(seen, "best", "worst")) == 398


def trained_as(lmdb: Path, folder: Path) -> Run:
    """Make the run.json of a demo run on these databases, without training."""
    info = {
        "variant": "demo",
        "preprocessing": asdict(variants.get("demo").preprocessing),
        "lmdb": {
            "path": str(lmdb),
            **{split: paths.read_json(lmdb / split / "meta.json") for split in ("train", "val")},
        },
    }
    folder.mkdir()
    return Run(folder, info).save()


def test_a_run_whose_tiles_were_split_anew_is_not_compared(drawn, tmp_path):
    """After a rebuild with another seed nobody knows which tiles it was trained on: none may count as unseen."""
    drawn("best", "worst", "continuum")
    lmdb, labels = tmp_path / "lmdb", tmp_path / "labels.csv"
    tile_labels.write(tmp_path, split := tile_labels.labelled(seed=0))
    lmdb_writer.build(labels, tmp_path / "tiles", lmdb, raw=True, jobs=1)
    run = trained_as(lmdb, tmp_path / "run")
    learned = split.labels.filter(split.labels["split"] != "test")["id"]
    assert compare.trained_on(run, Tiles()) == set(learned) and len(learned) == 340

    paths.write_csv(labels, relabelled := tile_labels.labelled(seed=1).labels)
    assert set(relabelled.filter(relabelled["split"] == "test")["id"]) & set(learned)
    lmdb_writer.build(labels, tmp_path / "tiles", lmdb, raw=True, jobs=1, force=True)
    with pytest.raises(SelfieError, match="built from other labels"):
        compare.Comparison(run)


def test_without_any_figure_one_line_says_how_to_get_them(own_run, monkeypatch, tmp_path):
    """Nothing is written."""
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    monkeypatch.setattr(paths, "DATA", tmp_path)
    before = sorted(own_run.folder.iterdir())
    with pytest.raises(SelfieError, match=r"karpathy\.github\.io.*SELFIE_MIRROR"):
        compare_paper.main(["--run", str(own_run.folder)])
    assert sorted(own_run.folder.iterdir()) == before


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(tiny_run, tmp_path) -> Path:
    """The page of a run in a folder with a hostile name, with results and pictures of the usual sizes."""
    run = Run(tmp_path / "a <b> & c", tiny_run.info)
    for name, shape in (("compare.jpg", (980, 1200, 3)), ("compare_rows.png", (540, 960, 3))):
        image.write(run.folder / name, np.full(shape, 200, np.uint8))
    shutil.copy(tiny_run.folder / "solver.prototxt", run.folder)
    value = {"value": 0.5, "low": -0.25, "high": 0.75}
    measures = {"score": value, "brightness": value, "score_minus_brightness": value}
    result = {
        "trained_on_tiles": 340,
        "tile_size": 32,
        "duplicates": [["a", "b"]] * 24,
        "continuum": {"tiles": 217, "left_out": 23, "spearman": measures},
        "posneg": {"tiles": 128, "left_out": 0, "paper": 0.6, "majority_class": 0.5, "accuracy": measures},
        **{test: {"why_not": "the figure grid_render.jpg is <missing>: get it"} for test in ("best_worst", "celebs")},
        "crops": [{"figure": "crops1", "why_not": "the figure is <missing>"}],
        "tsne": compare.TSNE,
        "protocol": [asdict(row) for row in protocol.table(run)],
    }
    return page.write(run, result, {"The continuum.": "compare.jpg", "Mean ranks.": "compare_rows.png"})


def test_the_page_names_its_run_and_needs_nothing_beside_it(compared, tiny_run):
    """Pictures are inside; whatever stands in a name or message is text."""
    text = compared.read_text()
    assert text.count("data:image/") == 2 and "<missing>" not in text and "&lt;missing&gt;" in text
    assert "a &lt;b&gt; &amp; c beside the original" in text
    assert f"{times.date(tiny_run.info['started'])}, took " in text and "snapshots/<wbr>tiny_" in text
    assert "majority-class baseline" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_legible_on_a_phone(compared, width):
    """Tables scroll in their own boxes, the page does not; every picture is drawn; nothing is fetched."""
    with Browser(width, 900) as browser:
        browser.open(compared)
        browser.wait("document.images.length == 2 && [...document.images].every(img => img.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.run("document.querySelectorAll('.scroll > table').length") == 3
        assert browser.run("[...document.images].every(img => img.clientWidth >= 340)")
        assert {address.split(":")[0] for address in browser.requests()} <= {"file", "data"} and not browser.errors()


def test_lines_of_a_test_that_cannot_be_done_say_why():
    """In the table, and in the sentences about crops; a mean has gains, no scores."""
    pair = {
        "figure": "crop2",
        "iou": 0.5,
        "iou_of_random_crops": 0.4,
        "iou_of_our_size": 0.3,
        "their_scores": [45.0, 58.3],
        "their_gain": 13.3,
        "our_scores": [40.61, 97.3],
        "our_gain": 56.69,
        "our_score_of_their_crop": 50.0,
        "their_percentile": 71.4,
    }
    mean = crop_pairs.means([pair])
    result = {"crops": [pair, {"figure": "crops1", "why_not": "not here"}], "crops_mean": mean}
    assert page.crop_sentences(result) == [
        "best crop, crop2: IoU 0.50, random 0.40; 0.30; theirs 45.0 to 58.3 (+13.3), "
        "ours 40.6 to 97.3 (+56.7); our score of theirs 50.0 (71)",
        "best crop, crops1: not here",
        "best crop, mean of 1: IoU 0.50, random 0.40; 0.30; theirs +13.3, ours +56.7; our score of theirs "
        "above the original in 1 (71)",
    ]


# --- the published figures -------------------------------------------------------------------------------------------


def test_the_probe_is_tested_on_no_selfie_that_it_knows(published, monkeypatch):
    """The 24 selfies that the continuum shares are not among the probe's training tiles, and it beats brightness."""
    tiles = Tiles()
    assert len(tiles.duplicates) == 24
    probe = baselines.Probe(tiles)
    places, fitted = tiles.of("continuum"), []
    monkeypatch.setattr(baselines, "classifier", lambda make=baselines.classifier: fitted.append(make()) or fitted[-1])
    values = probe.on(places)
    assert len(fitted) == 1 and fitted[0].best_estimator_[0].n_samples_seen_ == 376
    published_row = -np.array([tile.row for tile in tiles.at(places)])
    brightness = baselines.brightness(tiles.reduced)[places]
    assert stats.spearman(values, published_row) > stats.spearman(brightness, published_row)


def test_compare_writes_every_figure_as_a_number_or_a_reason(published, own_run):
    """On a run of the demo net, by the command; the run stays a finished one."""
    result = testlib.command("tools/compare_paper.py", "--run", own_run.folder, "--crops", "dense")
    assert result.returncode == 0, result.stderr
    written = json.loads((own_run.folder / "compare.json").read_text())
    assert written["continuum"]["tiles"] == 240 and written["trained_on_tiles"] == 0
    assert written["best_worst"]["tiles"] == 400 and len(written["crops"]) == 6
    for name, file in (("celebs", "celebs_grid_render.jpg"), ("posneg", "grid_render_posneg.jpg")):
        assert "spearman" in written[name] or "auc" in written[name] or file in written[name]["why_not"]
    assert written["run"] == str(own_run.folder) and (own_run.folder / "compare.html").exists()
    assert run_folder.load(own_run.folder).finished


def test_the_commands_searches_are_those_of_the_library():
    """They stand in the command, too, since the library is slow to import."""
    assert compare_paper.METHODS == crops.METHODS
