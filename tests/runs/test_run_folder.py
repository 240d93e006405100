"""What a run carries with it: its databases, its preprocessing, and when it counts as finished."""

from __future__ import annotations

import functools
import json
import operator
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.data.image import Preprocessing
from selfie.data.lmdb_reader import id_of
from selfie.experiments import filters, grids
from selfie.net import caffe_net, pycaffe, solver, variants
from selfie.runs import evaluate, prepare, run_folder, score, snapshots, train
from selfie.runs.run_folder import Run

Damaged = Callable[[str, str, Callable[[Path], object]], subprocess.CompletedProcess]


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


# --- what is damaged, or hostile --------------------------------------------------------------------------------------


READERS = pytest.mark.parametrize("split, command", [("train", "train"), ("test", "evaluate"), ("val", "score")])


@pytest.fixture
def damaged(own_run, tiny_lmdb, tmp_path) -> Damaged:
    """Run a command whose run or training has a database of its own, in which `damage` has changed a split's data.mdb.

    The training is of tmp_path/new.
    """

    def result(split: str, command: str, damage: Callable[[Path], object]) -> subprocess.CompletedProcess:
        shutil.copytree(tiny_lmdb, tmp_path / "lmdb")
        own_run.info["lmdb"]["path"] = str(tmp_path / "lmdb")
        own_run.save()
        (own_run.folder / "val_scores.csv").unlink()
        damage(tmp_path / "lmdb" / split / "data.mdb")
        arguments = {
            "train": ["--variant", "demo", "--weights", "none", "--lmdb", tmp_path / "lmdb", "--run", tmp_path / "new"],
            "evaluate": ["--run", own_run.folder],
            "score": ["--run", own_run.folder, next((tiny_lmdb.parent / "images").iterdir())],
        }
        return testlib.command(f"tools/{command}.py", *arguments[command])

    return result


@READERS
def test_a_database_that_was_cut_off_is_one_line_everywhere(damaged, tmp_path, split, command):
    """A copy that broke off: LMDB would map it, and the process end by SIGBUS."""
    result = damaged(split, command, lambda file: os.truncate(file, file.stat().st_size // 3))
    testlib.assert_one_line_error(result, f"{split}/data.mdb is damaged: it is cut off")
    assert not (tmp_path / "new").exists()


@READERS
def test_a_database_with_pages_that_were_lost_is_one_line_everywhere(damaged, split, command):
    """Of the right size, but with zeros where a disk lost what was written: read in Python, and in Caffe."""

    def lose(file: Path) -> None:
        data = file.read_bytes()
        kept = len(data) // 4 // 4096 * 4096
        file.write_bytes(data[:kept] + bytes(len(data) - kept))

    result = damaged(split, command, lose)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert len(errors) == 1 and "amaged" in errors[0] and f"lmdb/{split}" in errors[0], result.stderr


def test_weights_that_changed_since_the_training_do_not_score(own_run, tiny_lmdb):
    """One flipped bit, which the caffemodel's own format cannot show."""
    data = bytearray(own_run.caffemodel.read_bytes())
    data[len(data) // 2] ^= 1
    own_run.caffemodel.write_bytes(data)
    picture = next((tiny_lmdb.parent / "images").iterdir())
    for arguments in (["tools/score.py", picture], ["tools/evaluate.py"], ["pycaffe_scripts/filters.py"]):
        result = testlib.command(*arguments, "--run", own_run.folder)
        testlib.assert_one_line_error(result, "is not what the training wrote")
    del own_run.info["caffemodel_sha256"]  # a run of an older version, which recorded none
    assert own_run.caffemodel.exists()


@pytest.mark.parametrize("text", ["null", "[]", "3", "{}", '{"variant": "demo"}', "{", "", "\x00" * 9, "[" * 99999])
def test_a_broken_run_json_is_named_and_stops_no_other_run(own_run, tmp_path, monkeypatch, caplog, text):
    """Without --run the others are looked at; with --run it is one line."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text(text)
    assert run_folder.find().folder == own_run.folder
    assert "skipping a run" in caplog.text and "broken/run.json" in caplog.text
    with pytest.raises(SelfieError, match=r"run\.json"):
        run_folder.load(tmp_path / "broken")


WRONG = [None, True, 7, -1.5, 10**30, "", "x", [], [None], {}, {"a": 1}]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inside for found in [(*path, key), *places(one, (*path, key))]]


def test_no_change_of_run_json_ends_in_another_exception(own_run):
    """Every value of it in turn is gone, or of another type: the run is used or refused in one line."""
    original = json.loads((own_run.folder / "run.json").read_text())
    refused = 0
    for place in places(original):
        for wrong in [*WRONG, "missing"]:
            info = json.loads(json.dumps(original))
            *way, last = place
            holder = functools.reduce(operator.getitem, way, info)
            if wrong == "missing":
                del holder[last]
            else:
                holder[last] = wrong
            (own_run.folder / "run.json").write_text(json.dumps(info))
            try:
                run = run_folder.load(own_run.folder)
                _ = run.finished and (run.variant, run.batch, run.caffemodel, run.deploy, run.preprocessing)
                _ = run.database("val")
            except SelfieError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


@pytest.mark.parametrize("wrong", [{"crop": 225}, {"crop": 100}, {"crop": 0}, {"size": 10**12}, {"mean": []}])
def test_a_preprocessing_that_does_not_fit_the_net_is_one_line(own_run, tiny_lmdb, wrong):
    """Caffe would abort when the first picture comes."""
    own_run.info["preprocessing"].update(wrong)
    own_run.save()
    result = testlib.command("tools/score.py", "--run", own_run.folder, next((tiny_lmdb.parent / "images").iterdir()))
    testlib.assert_one_line_error(result, str(own_run.folder))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"data"', '"pictures"'),
        ('name: "prob"', 'name: "answer"'),
        ("dim: 1 dim: 3", "dim: 3 dim: 1"),
        ("dim: 3 dim: 227 dim: 227", "dim: 154587"),
    ],
)
def test_a_net_that_does_not_take_pictures_is_one_line(own_run, tiny_lmdb, old, new):
    """In a run of before version 0.3, which has no hash of it."""
    deploy = own_run.deploy
    text = re.sub(r"\s+", " ", deploy.read_text()).replace("} }", "}\n}")
    deploy.write_text(text.replace(old, new))
    del own_run.info["nets"]
    own_run.save()
    result = testlib.command("tools/score.py", "--run", own_run.folder, next((tiny_lmdb.parent / "images").iterdir()))
    testlib.assert_one_line_error(result)


@pytest.mark.parametrize("name", ["deploy.prototxt", "caffemodel", "run.json", "val_scores.csv"])
def test_a_pipe_in_a_run_is_not_waited_for(own_run, tiny_lmdb, name):
    """It gives nothing until somebody writes into it."""
    path = own_run.caffemodel if name == "caffemodel" else own_run.folder / name
    path.unlink()
    os.mkfifo(path)
    result = testlib.command("tools/score.py", "--run", own_run.folder, next((tiny_lmdb.parent / "images").iterdir()))
    testlib.assert_one_line_error(result, path.name)


def test_a_snapshot_that_is_a_link_to_itself_is_passed_over(own_run, caplog):
    """As the others here are, which are copies and belong to another folder."""
    newest = max((own_run.folder / "snapshots").glob("*.caffemodel"))
    newest.unlink()
    newest.symlink_to(newest.name)
    with pytest.raises(SelfieError, match="no intact snapshot"):
        snapshots.newest_intact(own_run)
    assert caplog.text.count("skipping") == len([*newest.parent.glob("*.solverstate")])


@pytest.mark.parametrize("damage", ["numbers", "axes", "shape"])
def test_a_caffemodel_that_caffe_would_abort_on_is_one_line(own_run, damage):
    """Fewer numbers than its shape says, axes of one too many, another shape: each parses as a caffemodel."""
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().NetParameter(), own_run.caffemodel)
    blob = next(layer for layer in message.layer if layer.blobs).blobs[0]
    if damage == "numbers":
        blob.data.pop()
    elif damage == "axes":
        blob.shape.dim.insert(0, 1)
    else:
        blob.shape.dim[:] = [blob.shape.dim[1], blob.shape.dim[0], *blob.shape.dim[2:]]
    path = own_run.folder / own_run.info["caffemodel"]
    path.write_bytes(message.SerializeToString())
    with pytest.raises(SelfieError, match=r"is damaged|of another net"):
        caffe_net.load(own_run.deploy, path)


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a#b'c", "\\", '"', "a\nb\tc", "\\n", "ä 日本 \u2028", '"#" # net: "x"']
)
def test_runs_and_databases_may_have_any_name(tiny_lmdb, tmp_path, name):
    """They stand in prototxts, in which a quote, a backslash or a newline would mean something else."""
    lmdb = tmp_path / name / f"lmdb {name}"
    lmdb.parent.mkdir()
    lmdb.symlink_to(tiny_lmdb)
    job = testlib.job(lmdb, tmp_path / name / "run", max_iter=2)
    run = prepare.prepare(job)
    settings = solver.parse((run.folder / "solver.prototxt").read_text())
    assert (settings.net, settings.max_iter) == (str(run.folder / "train_val.prototxt"), 2)
    assert settings.snapshot_prefix == str(run.folder / "snapshots" / "run")
    layers = pycaffe.read_net(run.folder / "train_val.prototxt").layer
    sources = {layer.data_param.source for layer in layers if layer.type == "Data"}
    assert sources == {str(lmdb / "train"), str(lmdb / "val")}
    job.solver, job.run = run.folder / "solver.prototxt", tmp_path / name / "again"
    again = solver.parse((prepare.prepare(job).folder / "solver.prototxt").read_text())
    assert again.net == str(job.run / "train_val.prototxt"), "a run's solver can be another's"


def test_a_run_with_a_strange_name_trains_and_resumes(tiny_lmdb, tmp_path):
    """Caffe reads the names as they were meant."""
    lmdb = tmp_path / "d\\b"
    lmdb.symlink_to(tiny_lmdb)
    run = train.train(testlib.job(lmdb, tmp_path / 'a"b#c' / "run"))
    for path in (run.folder / "snapshots").glob("*_iter_12.*"):
        path.unlink()
    assert train.resume(run.save(state="started").folder).finished


def test_a_name_that_is_no_text_is_refused(tiny_lmdb, tmp_path):
    name = os.fsdecode(b"no\xff")
    (tmp_path / name).symlink_to(tiny_lmdb)
    for job in (testlib.job(tiny_lmdb, tmp_path / name / "run"), testlib.job(tmp_path / name, tmp_path / "run")):
        with pytest.raises(SelfieError, match="not UTF-8"):
            prepare.prepare(job)


def test_scores_of_a_run_that_was_replaced_meanwhile_are_not_written(own_run, monkeypatch):
    """--replace beside an evaluation: the new run must not get the old one's scores."""
    before = {path.name for path in own_run.folder.iterdir()}
    scored = evaluate.score_database(own_run, own_run.database("test"))

    def replaced_meanwhile(*_: object):
        Run(own_run.folder, {**own_run.info, "started": "2026-11-28T03:00:00+00:00"}).save()
        return scored

    monkeypatch.setattr(evaluate, "score_database", replaced_meanwhile)
    with pytest.raises(SelfieError, match="trained anew meanwhile"):
        evaluate.evaluate(own_run)
    assert {path.name for path in own_run.folder.iterdir()} == before
