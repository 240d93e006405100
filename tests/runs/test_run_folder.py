"""What a run carries with it: its databases, its preprocessing, and when it counts as finished."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.data.image import Preprocessing
from selfie.data.lmdb_reader import id_of
from selfie.experiments import filters, grids
from selfie.net import variants
from selfie.runs import evaluate, prepare, run_folder, score, train
from selfie.runs.run_folder import Run


@pytest.fixture
def rebuilt(own_run, tmp_path) -> Run:
    """A run whose databases were built anew, from the same pictures split otherwise, since it was trained."""
    labels = testlib.pictures(tmp_path / "other", seed=0)
    text = labels.read_text().replace(",train", ",x").replace(",test", ",train").replace(",x", ",test")
    labels.write_text(text)
    lmdb_writer.build(labels, tmp_path / "other" / "images", tmp_path / "other" / "lmdb", raw=True, jobs=1)
    own_run.info["lmdb"]["path"] = str(tmp_path / "other" / "lmdb")
    return own_run


@pytest.mark.parametrize(
    "use",
    [
        lambda run: evaluate.evaluate(run),
        lambda run: filters.find(run, "conv2_2", count=1, top=1),
        lambda run: grids.draw(run.database("train"), grids.scored(run, "val"), grids.Layout(1, 1)),
    ],
    ids=["evaluate", "filters", "grids"],
)
def test_databases_of_other_labels_are_refused_wherever_they_are_used(rebuilt, use):
    """Their selfies may have been trained on."""
    (rebuilt.folder / "val_scores.csv").write_text("key,label,score\n00000000_x,1,0.5\n")
    with pytest.raises(SelfieError, match="built from other labels"):
        use(rebuilt)


@pytest.mark.parametrize("command", ["grids.py continuum --rows 1 --columns 2", "grids.py posneg --rows 1 --columns 2"])
def test_commands_refuse_them_too(rebuilt, command):
    rebuilt.save()
    (rebuilt.folder / "test_scores.csv").write_text("key,label,score\n00000000_x,1,0.5\n00000001_y,1,0.5\n")
    result = testlib.command(*f"tools/{command}".split(), "--run", rebuilt.folder)
    testlib.assert_one_line_error(result, "built from other labels")


def test_only_one_function_knows_where_a_runs_databases_are():
    """Every other way in would skip the check."""
    library = paths.ROOT / "tools"
    users = [path for path in library.rglob("*.py") if re.search(r"info\[.lmdb.\]\[.path.\] /", path.read_text())]
    assert [path.name for path in users] == ["run_folder.py"]


def test_a_run_is_scored_as_it_was_trained_whatever_the_table_says(tiny_run, tiny_lmdb, monkeypatch):
    """Another mean and crop in the table of variants change nothing for a run that is there."""
    names = [str(path) for path in sorted((tiny_lmdb.parent / "images").glob("test*"))[:6]]
    before = [one.score for one in score.score(tiny_run, names)]
    table = variants.get("demo")
    monkeypatch.setitem(variants.VARIANTS, "demo", replace(table, preprocessing=Preprocessing((0.0, 50.0, 200.0), 192)))
    loaded = run_folder.load(tiny_run.folder)
    assert [one.score for one in score.score(loaded, names)] == before
    assert loaded.variant.crop == 224 and loaded.variant.mean == table.mean


def test_an_older_run_tells_its_preprocessing_by_its_own_net(own_run, monkeypatch):
    """Runs made before version 0.2 recorded none."""
    expected = own_run.preprocessing
    del own_run.info["preprocessing"]
    text = (own_run.folder / "train_val.prototxt").read_text()
    assert Run(own_run.folder, own_run.info).preprocessing == expected
    (own_run.folder / "train_val.prototxt").write_text(
        text.replace("103.939", "93.594").replace("crop_size: 224", "crop_size: 192")
    )
    assert Run(own_run.folder, own_run.info).preprocessing == Preprocessing((93.594, 116.779, 123.68), 192)
    (own_run.folder / "train_val.prototxt").unlink()
    with pytest.raises(SelfieError, match="no such prototxt"):
        _ = Run(own_run.folder, own_run.info).preprocessing


def test_a_database_of_larger_pictures_is_scored_in_its_size(tmp_path):
    """Files are squashed to the size of the database that a run was trained on: the scores are those of its records."""
    labels = testlib.pictures(tmp_path)
    lmdb_writer.build(labels, tmp_path / "images", tmp_path / "lmdb", raw=True, jobs=1, size=320)
    run = train.train(testlib.job(tmp_path / "lmdb", tmp_path / "run"))
    assert run.preprocessing == replace(variants.get("demo").preprocessing, size=320)
    recorded = evaluate.score_database(run, run.database("val"))
    names = [str(tmp_path / "images" / f"{id_of(key)}.png") for key in recorded["key"]]
    np.testing.assert_allclose([one.score for one in score.score(run, names)], recorded["score"], atol=1e-6)


def test_a_net_changed_by_hand_does_not_silently_stay_out_of_a_run(tiny_lmdb, tmp_path, monkeypatch):
    """Runs are written by the generator; a checked-in file that differs from it would not reach them."""
    shutil.copytree(paths.PROTOTXT / "demo", tmp_path / "prototxt" / "demo")
    monkeypatch.setattr(paths, "PROTOTXT", tmp_path / "prototxt")
    file = tmp_path / "prototxt" / "demo" / "train_val.prototxt"
    file.write_text(file.read_text().replace("num_output: 128", "num_output: 64"))
    with pytest.raises(SelfieError, match="make prototxt"):
        prepare.prepare(testlib.job(tiny_lmdb, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_interrupted_in_its_final_scoring_is_not_finished(own_run, tmp_path, monkeypatch, caplog):
    """It is not the newest finished run, --resume finishes it, and then it is."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    scores = (own_run.folder / "val_scores.csv").read_bytes()
    (own_run.folder / "val_scores.csv").unlink()
    trained = own_run.save(state="trained")
    with pytest.raises(SelfieError, match="no finished run"):
        run_folder.find()
    assert train.resume(trained.folder).finished
    assert (own_run.folder / "val_scores.csv").read_bytes() == scores
    assert run_folder.find().folder == own_run.folder
    (own_run.folder / "val_scores.csv").unlink()  # as an older version left it, which called it finished too early
    with pytest.raises(SelfieError, match="no finished run"):
        run_folder.find()
