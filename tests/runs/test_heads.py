"""Heads on a frozen net: readings, folds, held-out scores, calibration, and one deploy net of it all. Real Caffe."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import calibration, paths
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.experiments import crops
from selfie.net import caffe_net, solver
from selfie.net.caffe_net import ScoringNet
from selfie.net.variants import Readout
from selfie.runs import evaluate, heads, readings, run_folder, train
from selfie.runs.readings import VIEWS
from selfie.runs.run_folder import HELD_OUT

READOUT = testlib.READOUT
job = testlib.heads_job


@pytest.fixture(scope="module")
def run(heads_run):
    return heads_run


def pictures(lmdb: Path, split: str) -> tuple[list[str], np.ndarray]:
    """Keys and pictures of a database."""
    with Database(lmdb / split) as records:
        keys, shown, _ = zip(*records)
    return list(keys), np.stack(shown)


def test_the_score_is_the_calibrated_mean_of_the_members(run, tiny_lmdb):
    """Plain Caffe's prob, from the blob `members`: sigmoid of the mean, drawn towards one half by the bound."""
    _, shown = pictures(tiny_lmdb, "test")
    members, prob = run.net().forward(shown, ("members", "prob"))
    bound = run.info["calibration"]["bound"]
    expected = bound + (1 - 2 * bound) * calibration.probability(members.mean(1))
    np.testing.assert_allclose(prob[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-6)
    assert members.shape == (len(shown), 6) and members.std(1).min() > 0


def test_each_held_out_score_is_of_heads_that_do_not_know_the_selfie(run, tiny_lmdb):
    """From the finished net's members, by the folds: those that left the selfie out, nothing else."""
    table = pl.read_csv(run.folder / HELD_OUT)
    keys, shown = map(np.concatenate, zip(*(pictures(tiny_lmdb, split) for split in ("train", "val"))))
    assert table["key"].to_list() == list(keys) and table["split"].to_list() == ["train"] * 64 + ["val"] * 24
    [members] = run.net().forward(shown, ("members",))
    labels = table["label"].to_numpy()
    odds = []
    for seed in range(READOUT.seeds):
        fold = heads.folds(np.arange(len(labels)), labels, READOUT.folds, seed)
        odds.append(members[np.arange(len(labels)), seed * READOUT.folds + fold])
    expected = run.info["calibration"]["bound"]
    expected += (1 - 2 * expected) * calibration.probability(np.mean(odds, axis=0))
    np.testing.assert_allclose(table["score"], expected, atol=1e-5)
    scores = evaluate.validation_scores(run)
    assert scores["key"].to_list() == pictures(tiny_lmdb, "val")[0]
    np.testing.assert_allclose(scores["score"], expected[64:], atol=1e-5)


def test_a_held_out_selfie_leaves_no_trace_in_its_heads(run, tiny_run, tiny_lmdb, tmp_path):
    """Were the label of one selfie the other one, the heads that left it out would be what they are."""
    source = heads._selfies(run, heads._readings(run))
    held_out = source.held_out_by(READOUT.folds)
    flipped = source.table.with_columns(label=pl.Series([1 - source.labels[0], *source.labels[1:]]))
    learned = [
        np.where(held_out, heads.IGNORED, table["label"].to_numpy()[:, None]) for table in (source.table, flipped)
    ]
    assert ((learned[0] != learned[1]) == (~held_out & (np.arange(len(held_out)) == 0)[:, None])).all()
    assert held_out[0].sum() == READOUT.seeds


def test_scores_are_bounded_by_what_the_number_of_selfies_can_tell(run, tiny_lmdb):
    """44 good and 44 bad: nothing above 45 / 46 nor below 1 / 46, however extreme the picture."""
    shown = np.stack([np.full((256, 256, 3), light, np.uint8) for light in (0, 255)])
    scores = run.net().scores(shown)
    assert run.info["calibration"]["bound"] == pytest.approx(1 / 46)
    assert scores.min() >= 1 / 46 - 1e-6 and scores.max() <= 45 / 46 + 1e-6 and scores[1] > 0.9 > 0.1 > scores[0]


def test_it_tells_good_from_bad_and_is_used_like_any_run(run, tiny_lmdb, tmp_path):
    """Accuracy on the test selfies; the convolutional net is the same net; run.json says what it is."""
    result = evaluate.summarise(evaluate.score_database(run, tiny_lmdb / "test"), evaluate.Posts.unknown(24))
    assert result["accuracy"] > 0.9 and result["calibration"]["ece"] < 0.5
    loaded = run_folder.load(run.folder)
    assert loaded.variant.readout == replace(READOUT, blobs=("pool3",)) and loaded.finished
    searcher = crops.Searcher(loaded)
    conv_net, steps = searcher.convolutional()
    noise = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    difference = searcher.net.scores(noise) - ScoringNet(conv_net, searcher.preprocessing).scores(noise)
    assert np.abs(difference).max() < 1e-5 and steps == 8
    assert (run.folder / "metrics.csv").read_text().count("\n") > 5 and not (run.folder / "heads").exists()


def test_readings_are_computed_once_and_serve_narrower_readouts(tiny_run, tiny_lmdb, tmp_path, monkeypatch):
    """Blobs, poolings and views are columns and rows of what is there; a view is the picture as it says."""
    wide = replace(READOUT, views=("centre", "mirror", "top_left", "light_120"))
    variant = job(tiny_run, tiny_lmdb, tmp_path, wide).variant
    read = readings.compute(variant, tiny_run.caffemodel, tiny_lmdb, tmp_path / "wide")
    narrow = Readout(("pool3",), ("MAX",), views=("light_120", "centre"))
    alone = readings.compute(replace(variant, readout=narrow), tiny_run.caffemodel, tiny_lmdb, tmp_path / "narrow")
    assert (read.of(narrow, "val") == alone.of(narrow, "val")).all() and read.of(narrow, "val").shape == (24, 2, 64)
    monkeypatch.setattr(readings._Computation, "run", None)
    again = readings.compute(replace(variant, readout=narrow), tiny_run.caffemodel, tiny_lmdb, tmp_path / "wide")
    assert again.meta == read.meta
    [maps] = tiny_run.net().forward(pictures(tiny_lmdb, "val")[1], ("pool3",))
    np.testing.assert_allclose(read.of(narrow, "val")[:, 1], maps.max((2, 3)), atol=1e-4)
    for name, use in (("val.f32", lambda: read.of(narrow, "val")), ("val.csv", lambda: read.keys("val"))):
        whole = (read.folder / name).read_bytes()
        (read.folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SelfieError, match=f"{name} is damaged, .*: delete its folder"):
            use()


def test_pooled_and_fully_connected_layers_are_read_in_one_forward_pass(tiny_run, tiny_lmdb, tmp_path, monkeypatch):
    """Readings of both serve heads on either, with the numbers that each would read alone; one net scores on both."""
    both = replace(READOUT, blobs=("pool3", "fc7"))
    variant = job(tiny_run, tiny_lmdb, tmp_path, both).variant
    read = readings.compute(variant, tiny_run.caffemodel, tiny_lmdb, tmp_path / "both")
    for blobs, pools in ((("pool3",), READOUT.pools), (("fc7",), ())):
        one = replace(READOUT, blobs=blobs, pools=pools)
        alone = readings.compute(replace(variant, readout=one), tiny_run.caffemodel, tiny_lmdb, tmp_path / blobs[0])
        np.testing.assert_allclose(read.of(one, "val"), alone.of(one, "val"), atol=1e-5)
    [values] = tiny_run.net().forward(pictures(tiny_lmdb, "val")[1], ("fc7",))
    np.testing.assert_allclose(read.of(one, "val")[:, 0], values, atol=1e-4)
    monkeypatch.setattr(readings._Computation, "run", None)
    run = train.train(job(tiny_run, tiny_lmdb, tmp_path / "run", both, readings=tmp_path / "both"))
    scores = run.net().scores(pictures(tiny_lmdb, "val")[1])
    held_out = pl.read_csv(run.folder / HELD_OUT).filter(pl.col("split") == "val")
    assert np.corrcoef(scores, held_out["score"].to_numpy())[0, 1] > 0.9


def test_a_view_is_what_its_name_says():
    """Corners, mirrored, lighter; the centre is the crop that scoring takes."""
    picture = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(1, 6, 6, 3)
    assert (VIEWS["centre"].of(picture, 4) == picture[:, 1:5, 1:5]).all()
    assert (VIEWS["mirror"].of(picture, 4) == picture[:, 1:5, 4:0:-1]).all()
    assert (VIEWS["bottom_right_mirror"].of(picture, 4) == picture[:, 2:, :1:-1]).all()
    assert VIEWS["light_140"].of(picture, 6)[0, 1, 0, 0] == round(1.4 * picture[0, 1, 0, 0])


def test_folds_keep_users_together_and_have_their_part_of_the_good():
    """Every user in one fold; other seeds cut otherwise; the order of selfies changes nothing."""
    users = np.repeat(np.arange(60), 5)
    labels = (users % 4 == 0).astype(int)
    first, second = (heads.folds(users, labels, 5, seed) for seed in (0, 1))
    assert all(len(set(first[users == user])) == 1 for user in range(60)) and (first != second).any()
    assert [labels[first == fold].sum() for fold in range(5)] == [15] * 5
    assert (heads.folds(users[::-1], labels[::-1], 5, 0) == first[::-1]).all()


def test_selfies_of_too_few_users_are_refused():
    """All good ones are of one user: the heads that leave it out would have nothing to learn."""
    with pytest.raises(SelfieError, match="two users"):
        heads.folds(np.arange(10), np.array([1] + [0] * 9), 5, 0)


def test_random_weights_are_refused(tiny_lmdb, tiny_run, tmp_path):
    """Nothing frozen at random says anything; nothing is written."""
    with pytest.raises(SelfieError, match="needs weights"):
        train.train(replace(job(tiny_run, tiny_lmdb, tmp_path / "run"), pretrained=None))
    assert not (tmp_path / "run").exists()


def test_killed_while_it_reads_it_goes_on_with_the_same_result(run, tiny_run, tiny_lmdb, tmp_path):
    """SIGKILL after two batches; --resume keeps them, and ends with the same weights, byte for byte."""
    code = f"""if True:
        import sys, time, pathlib
        sys.path[:0] = ["tests"]
        from selfie.runs import readings, run_folder, train
        from selfie.runs.run_folder import Run
        import runs.test_heads as here
        tiny = run_folder.load({str(tiny_run.folder)!r})
        read, calls = readings._Computation._read, []
        def slow(*arguments):
            calls.append(1)
            time.sleep(60 if len(calls) > 2 else 0)
            return read(*arguments)
        readings._Computation._read = slow
        readout = here.replace(here.READOUT, blobs=("pool3",))
        train.train(here.job(tiny, pathlib.Path({str(tiny_lmdb)!r}), pathlib.Path({str(tmp_path / "run")!r}), readout))
    """
    file = tmp_path / "run" / "readings" / "train.f32"
    whole = run.folder / "readings" / "train.f32"
    with testlib.started("-c", code, stderr=subprocess.DEVNULL) as process:
        testlib.wait_until(lambda: file.exists() and file.stat().st_size == whole.stat().st_size // 2)
        process.kill()
    with open(file, "ab") as torn:
        torn.write(b"half a record")
    stamp = file.stat().st_ino
    resumed = train.resume(tmp_path / "run")
    assert resumed.finished and file.stat().st_ino == stamp and file.read_bytes() == whole.read_bytes()
    assert paths.sha256(resumed.caffemodel) == paths.sha256(run.caffemodel)
    assert (resumed.folder / HELD_OUT).read_bytes() == (run.folder / HELD_OUT).read_bytes()


def test_every_head_is_what_it_would_be_alone(tiny_run, tiny_lmdb, tmp_path):
    """Rates and decay do not depend on how many heads there are: the heads of the first partition are the same."""
    weights = []
    for seeds in (1, 3):
        readout = replace(READOUT, blobs=("pool3",), seeds=seeds)
        trained = train.train(job(tiny_run, tiny_lmdb, tmp_path / str(seeds), readout, readings=tmp_path / "readings"))
        snapshot = next((trained.folder / "snapshots").glob("*.caffemodel"))
        weights.append(caffe_net.caffemodel_blobs(snapshot)["members"][0][: READOUT.folds])
    assert solver.parse((tmp_path / "1" / "solver.prototxt").read_text()).weight_decay == pytest.approx(0.1)
    np.testing.assert_allclose(weights[0], weights[1], atol=2e-3 * np.abs(weights[0]).max())
