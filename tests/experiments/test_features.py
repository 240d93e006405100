"""Features and the map, with a net that real Caffe trained."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.lmdb_reader import id_of
from selfie.experiments.features import Features, Files, Records, _is_line, export, load
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

EXPORT = "pycaffe_scripts/export_fc7.py"


@pytest.fixture(scope="module")
def features(tiny_run, tmp_path_factory) -> Features:
    """Exported features of tiny_run's training selfies."""
    return export(tiny_run, Records(tiny_run.database("train")), tmp_path_factory.mktemp("features"))


# --- features --------------------------------------------------------------------------------------------------------


def test_a_row_is_what_the_net_says_of_that_picture(tiny_run, tiny_lmdb, features):
    """Looked up by name: fc7 of a plain forward pass of the file; its score is the one of evaluation."""
    scored = dict(evaluate.score_database(tiny_run, tiny_lmdb / "train").select("key", "score").iter_rows())
    assert features.matrix.shape == (testlib.SPLITS["train"], 128) and features.matrix.dtype == np.float32
    for name, stored in features.table.iter_rows():
        assert stored == pytest.approx(scored[name], abs=1e-6)
    name = features.table["name"][7]
    picture = image.square(image.read(tiny_lmdb.parent / "images" / f"{name[9:]}.png"))
    (expected,) = tiny_run.net().forward(picture[None], ("fc7",))
    np.testing.assert_allclose(features[name], expected[0], atol=1e-5)


def test_files_and_database_give_the_same_features(tiny_run, tiny_lmdb, features, tmp_path):
    """A list on standard input, relative names, a broken file in the middle: it is named, the rest is exported."""
    names = [f"images/{id_of(key)}.png" for key in features.table["name"]]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    listed = "\n".join([*names[:20], str(tmp_path / "broken.jpg"), *names[20:], names[0]])
    result = subprocess.run(
        [sys.executable, paths.ROOT / EXPORT, "--run", tiny_run.folder, "-", "--out", tmp_path / "out", "--json"],
        input=listed,
        cwd=tiny_lmdb.parent,
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr
    printed, exported = json.loads(result.stdout), load(tmp_path / "out")
    assert (printed["rows"], printed["rejects"]) == (len(names), {"broken or truncated": 1})
    assert exported.table["name"].to_list() == names, "once each, in the list's order"
    np.testing.assert_allclose(exported.matrix, features.matrix, atol=1e-5)
    for picture, expected in zip(exported.pictures(), features.pictures()):
        np.testing.assert_array_equal(picture, expected)


def test_a_blob_with_space_is_averaged_over_it(tiny_run, tiny_lmdb, tmp_path):
    """conv3_2 is a map per channel: one number per channel is exported."""
    exported = export(tiny_run, Records(tiny_lmdb / "val"), tmp_path / "out", "conv3_2")
    pictures = np.stack(list(exported.pictures()))
    (expected,) = tiny_run.net().forward(pictures, ("conv3_2",))
    assert expected.ndim == 4
    np.testing.assert_allclose(exported.matrix, expected.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)


def test_a_killed_export_ends_as_an_uninterrupted_one(tiny_run, tiny_lmdb, tmp_path):
    """SIGKILL at any moment, again and again, and cut or excess bytes at the ends: the same files, byte for byte."""
    arguments = [EXPORT, "--run", tiny_run.folder, tiny_lmdb.parent / "images", "--batch", 2, "--out"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert testlib.command(*arguments, whole).returncode == 0
    generator, kills = random.Random(1), 0
    while kills < 5:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments), out],
            cwd=paths.ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        begun = _lines(out)
        while process.poll() is None and _lines(out) == begun:
            time.sleep(0.001)
        time.sleep(generator.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "meta.json").exists():
            break
        kills += 1
        for name in ("journal.jsonl", "features.npy"):  # a kill between write and sync may leave a torn end
            with open(out / name, "ab") as file:
                file.write(b'["torn')
    assert kills > 2
    assert testlib.command(*arguments, out).returncode == 0
    for name in ("features.npy", "features.csv", "rejects.csv", "meta.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (out / "journal.jsonl").exists() and not (out / "inputs.json").exists()


def _lines(out: Path) -> int:
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_finished_features_are_left_alone_and_others_need_force(tiny_run, tiny_lmdb, tmp_path):
    """The same again does nothing; another list or blob is refused in one line, and replaced with --force."""
    source = Records(tiny_lmdb / "val")
    export(tiny_run, source, tmp_path / "out")
    before = os.stat(tmp_path / "out" / "features.npy").st_mtime_ns
    export(tiny_run, source, tmp_path / "out")
    assert os.stat(tmp_path / "out" / "features.npy").st_mtime_ns == before
    with pytest.raises(SelfieError, match=r"other inputs \(blob\)"):
        export(tiny_run, source, tmp_path / "out", "fc6")
    assert export(tiny_run, source, tmp_path / "out", "fc6", force=True).meta["inputs"]["blob"] == "fc6"


def test_bad_requests_are_one_line(tiny_run, tiny_lmdb, tmp_path):
    """No such blob (the net's are listed), nothing readable, an empty list, unfinished features, an unfinished run."""
    folder = tiny_lmdb.parent / "images"
    result = testlib.command(EXPORT, "--run", tiny_run.folder, folder, "--out", tmp_path / "a", "--blob", "fc9")
    testlib.assert_one_line_error(result, "no blob 'fc9'", "fc7")
    assert not (tmp_path / "a").exists()
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = testlib.command(EXPORT, "--run", tiny_run.folder, tmp_path / "broken.jpg", "--out", tmp_path / "b")
    testlib.assert_one_line_error(result, "none of 1 pictures", "unknown format")
    with pytest.raises(SelfieError, match="no finished features"):
        load(tmp_path / "b")
    (tmp_path / "empty").mkdir()
    result = testlib.command(EXPORT, "--run", tiny_run.folder, tmp_path / "empty", "--out", tmp_path / "c")
    testlib.assert_one_line_error(result, "empty")
    result = testlib.command(EXPORT, "--run", tiny_run.folder, "-", "--out", tmp_path / "c", stdin=subprocess.DEVNULL)
    testlib.assert_one_line_error(result, "standard input is empty")
    unfinished = Run(tmp_path / "run", {**tiny_run.info, "state": "started"})
    with pytest.raises(SelfieError, match="not finished"):
        export(unfinished, Files([str(folder)], tmp_path), tmp_path / "d")


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"inputs": "x"}', '{"inputs": {"source": {}}}', "{"])
def test_a_broken_meta_json_is_one_line(features, tmp_path, text):
    folder = shutil.copytree(features.folder, tmp_path / "features")
    (folder / "meta.json").write_text(text)
    with pytest.raises(SelfieError, match=r"meta\.json"):
        load(folder)


def _npy(matrix: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, matrix)
    return file.getvalue()


@pytest.mark.parametrize(
    "name, damage",
    [
        ("features.npy", lambda data: data[:-1]),
        ("features.npy", lambda data: b"no features"),
        ("features.npy", lambda data: data[:10] + b"{'descr': object," + data[27:]),
        ("features.npy", lambda data: _npy(np.zeros((64, 3), np.float32))),
        ("features.npy", lambda data: _npy(np.zeros((64, 512), np.float64))),
        ("features.csv", lambda data: data[: len(data) // 2]),
        ("features.csv", lambda data: data + data.split(b"\n")[1] + b"\n"),
        ("features.csv", lambda data: re.sub(rb",\d.*", b",", data)),
    ],
)
def test_features_that_are_not_those_of_their_meta_json_are_one_line(features, tmp_path, name, damage):
    """Cut off, of another shape or type, with a row too few or too many: named, with what to do, before use."""
    folder = shutil.copytree(features.folder, tmp_path / "features")
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(SelfieError, match=f"{name} does not hold the 64 x .* delete .*, and export again"):
        _ = load(folder).matrix, load(folder).table


def test_a_line_of_a_journal_that_no_table_holds_is_none():
    assert _is_line(["a", 0.5]) and _is_line(["a", None, "broken"])
    for wrong in (["\ud800", 0.5], ["a", None, "\ud800"], ["a"], ["a", 1], {}, None):
        assert not _is_line(wrong)
