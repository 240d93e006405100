"""A folder as it comes from a phone, through the commands: all its pictures count, upright, or are named."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import picture_files as files
import testlib
from selfie.common import names, paths
from selfie.data import datum, image, listing
from selfie.data.lmdb_reader import Database
from selfie.experiments import features
from selfie.runs import score
from selfie.runs.run_folder import Run

TURNED = files.exif(6)


@pytest.fixture(scope="module")
def portrait(skimage_data) -> np.ndarray:
    return image.square(image.read(skimage_data / "astronaut.png"), 384)[:, :300].copy()


@pytest.fixture
def phone(portrait, tmp_path):
    """One portrait in all kinds of files, each stored turned; and what else lies in such a folder."""
    folder = tmp_path / "DCIM"
    folder.mkdir()
    stored = files.pil(np.rot90(portrait))
    jpeg = files.jpeg_with(files.saved(stored, "JPEG", quality=95), TURNED)
    pictures = {
        "a.jpg": jpeg,
        "b.HEIC": files.saved(stored, "HEIC", quality=95, exif=TURNED),
        "c.avif": files.saved(stored, "AVIF", quality=95, exif=b"Exif\0\0" + TURNED),
        "d.jfif": jpeg,
        "e.jpe": jpeg,
        "f": jpeg,
        "g.webp": files.webp_with(files.saved(stored, "WEBP", quality=98), b"Exif\0\0" + TURNED, stored.size),
        "h.png": files.png_with(files.saved(stored, "PNG"), files.raw_profile(TURNED)),
        "i.tif": files.saved(stored, "TIFF", exif=TURNED),
    }
    others = {
        "clip.mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        "clip2.mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        "a.txt": b"text",
        ".nomedia": b"",
    }
    for name, content in {**pictures, **others}.items():
        (folder / name).write_bytes(content)
    return folder


PICTURES = 9
LEFT_OUT = "4 files not looked at: 2 QuickTime video, 1 TXT, 1 hidden"


def test_all_pictures_of_a_phone_score_alike(tiny_run, phone):
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, phone, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == PICTURES and result.returncode == 0, result.stderr
    scores = [float(row["score"]) for row in rows]
    assert max(scores) - min(scores) < 0.01, rows
    assert result.stderr.splitlines() == [f"{phone}: {LEFT_OUT}"]


def test_what_cannot_be_read_is_named_beside_them(tiny_run, phone):
    (phone / "j.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    shutil.copy(phone / "j.jxl", phone / "k.jpg")
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, phone)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 1 + PICTURES
    told = result.stderr.splitlines()
    assert LEFT_OUT in told[0] and len(told) == 3
    assert all("JPEG XL is not read: convert it" in line for line in told[1:])


def test_a_folder_without_pictures_says_what_it_holds(tiny_run, phone):
    for name in os.listdir(phone):
        if not name.startswith(("clip", ".")):
            (phone / name).unlink()
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, phone)
    testlib.assert_one_line_error(result, "no image file", "3 files not looked at: 2 QuickTime video, 1 hidden")


def test_databases_hold_them_upright(phone, portrait, tmp_path):
    pictures = listing.below(phone).pictures
    assert len(pictures) == PICTURES
    table = [{"id": name, "path": name, "label": 0, "split": "train"} for name in pictures]
    pl.DataFrame(table).write_csv(tmp_path / "labels.csv")
    options = ("--labels", tmp_path / "labels.csv", "--images", phone, "--out", tmp_path / "lmdb", "--raw")
    result = testlib.command("tools/make_lmdb.py", *options)
    assert result.returncode == 0 and "6 records" in result.stdout, result.stdout + result.stderr
    assert "3 x same image" in result.stdout  # of a, d, e and f
    with Database(tmp_path / "lmdb" / "train") as records:
        for _, value in records.items():
            stored = datum.decode(value)[0]
            assert np.abs(stored.astype(int) - image.square(portrait)).mean() < 8
    meta = paths.read_json(tmp_path / "lmdb" / "train" / "meta.json")
    assert meta["inputs"]["preprocessing"] == image.PREPROCESSING == 3


def test_databases_of_an_older_preprocessing_are_not_continued(phone, tmp_path):
    pl.DataFrame([{"id": "1", "path": "a.jpg", "label": 0, "split": "train"}]).write_csv(tmp_path / "labels.csv")
    options = ("--labels", tmp_path / "labels.csv", "--images", phone, "--out", tmp_path / "lmdb")
    assert testlib.command("tools/make_lmdb.py", *options).returncode == 0
    meta = tmp_path / "lmdb" / "train" / "meta.json"
    record = paths.read_json(meta)
    paths.write_json(meta, {**record, "inputs": {**record["inputs"], "preprocessing": 2}})
    testlib.assert_one_line_error(testlib.command("tools/make_lmdb.py", *options), "preprocessing 2 (not 3)", "--force")


@pytest.mark.parametrize(("number", "words"), [(1, "large pictures"), (2, "transparent")])
def test_a_run_of_an_older_preprocessing_says_what_is_different(tiny_run, phone, caplog, number, words):
    info = json.loads(json.dumps(tiny_run.info))
    info["lmdb"]["train"]["inputs"]["preprocessing"] = number
    list(score.score(Run(tiny_run.folder, info), [str(phone / "a.jpg")]))
    assert "older version" in caplog.text and words in caplog.text


def test_faces_are_found_in_them(phone, tmp_path):
    pictures = [{"id": name, "path": name} for name in ("a.jpg", "b.HEIC", "c.avif", "f", "g.webp", "h.png")]
    pl.DataFrame(pictures).write_csv(tmp_path / "posts.csv")
    options = ("--manifest", tmp_path / "posts.csv", "--images", phone, "--out", tmp_path / "faces.csv")
    result = testlib.command("tools/filter_faces.py", *options, "--detector", "lbp", "--jobs", 1)
    assert result.returncode == 0, result.stderr
    faces = pl.read_csv(tmp_path / "faces.csv")
    assert faces["id"].to_list() == [row["id"] for row in pictures]
    assert faces["face_x"].max() - faces["face_x"].min() < 0.05


def test_crops_are_cut_out_of_them(tiny_run, phone, tmp_path):
    one = phone / "b.HEIC"
    options = ("--run", tiny_run.folder, "--out", tmp_path / "crops", "--method", "grid", "--steps", 2)
    result = testlib.command("pycaffe_scripts/crops.py", *options, one)
    assert result.returncode == 0 and "b.HEIC" in result.stdout, result.stderr
    height, width = image.read(tmp_path / "crops" / "b_crop1.png").shape[:2]
    assert height == width <= 300


ODD = [b"caf\xe9.jpg", "a\u2028b.jpg".encode(), b"a\nb.jpg", b"\x1b[2J.jpg", b'"x".jpg']


@pytest.fixture
def oddly_named(phone):
    folder = phone.parent / "odd"
    folder.mkdir()
    for name in ODD:
        shutil.copy(phone / "a.jpg", folder / os.fsdecode(name))
    (folder / os.fsdecode(b"broken\xff\x1b\n.jpg")).write_bytes(b"\xff\xd8 no picture")
    return folder


def scored(run: Run, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Like testlib.command, but in bytes."""
    command = [sys.executable, "tools/score.py", "--run", run.folder, *arguments]
    return subprocess.run(list(map(str, command)), cwd=paths.ROOT, capture_output=True, timeout=300, **options)


def is_shown(text: bytes) -> bool:
    """Whether a text is UTF-8, and each line of it printable."""
    return all(line.isprintable() for line in text.decode().split("\n"))


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)], ids=str)
@pytest.mark.parametrize("listed", [False, True])
def test_any_name_is_scored_and_told_escaped(tiny_run, oddly_named, form, listed):
    wanted = {os.path.join(oddly_named, os.fsdecode(name)) for name in ODD}
    every = b"\0".join(os.fsencode(oddly_named / name) for name in os.listdir(oddly_named))
    source = {"input": every} if listed else {}
    result = scored(tiny_run, "-" if listed else oddly_named, *form, **source)
    assert result.returncode == 1
    assert is_shown(result.stderr) and b"Traceback" not in result.stderr
    if not form:
        assert is_shown(result.stdout)
        assert rb'odd/broken\xff\u001b\n.jpg": broken or truncated' in result.stderr
        shown = [line.split("%")[-1].strip() for line in result.stdout.decode().splitlines()[1:]]
        assert {names.unquoted(name) for name in shown} == wanted
    elif form == ("--csv",):
        assert is_shown(result.stdout.replace(b"\r", b""))
        rows = list(csv.DictReader(io.StringIO(result.stdout.decode())))
        assert {names.unquoted(row["path"]) for row in rows if row["score"]} == wanted
    else:
        assert is_shown(result.stdout)
        objects = [json.loads(line) for line in result.stdout.decode().split("\n")[:-1]]
        assert {one["path"] for one in objects if one["score"] is not None} == wanted


def test_warnings_of_no_library_reach_the_terminal(tiny_run, phone, tmp_path):
    """A tag beyond the file, a profile that is none, a TIFF that libtiff warns of, a JPEG with bytes too many."""
    folder = tmp_path / "complaints"
    folder.mkdir()
    stored = files.pil(files.smooth())
    jpeg = files.saved(stored, "JPEG")
    png = files.saved(stored, "PNG")
    (folder / "a.jpg").write_bytes(files.jpeg_with(jpeg, files.exif(6, before=b"\x0f\1\2\0\0\1\0\0\0\0\0\1")))
    (folder / "b.png").write_bytes(files.png_with(png, files.png_chunk(b"iCCP", b"icc\0\0none")))
    (folder / "c.jpg").write_bytes(jpeg[:-2] + bytes(30) + jpeg[-2:])
    (folder / "d.tif").write_bytes(files.tiff(files.smooth()[:, :, ::-1], 8, 2, tag_65000=7))
    (folder / "e.tif").write_bytes(files.tiff(files.smooth(), 4, 5))
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, folder)
    assert len(result.stdout.splitlines()) == 5, result.stderr
    assert result.stderr.splitlines() == [f"error: {folder}/e.tif: broken or truncated"]


def test_features_are_exported_of_any_name(tiny_run, oddly_named, tmp_path):
    result = testlib.command(
        "pycaffe_scripts/export_fc7.py", "--run", tiny_run.folder, "--out", tmp_path / "out", oddly_named
    )
    assert result.returncode == 0, result.stderr
    table, rejects = (pl.read_csv(tmp_path / "out" / name) for name in ("features.csv", "rejects.csv"))
    wanted = {os.path.join(oddly_named, os.fsdecode(name)) for name in ODD}
    assert {names.unquoted(name) for name in table["name"]} == wanted
    assert rejects["reason"].to_list() == ["broken or truncated"]
    assert len(list(features.load(tmp_path / "out").pictures())) == len(ODD)


def test_crops_and_celebrities_have_any_name(tiny_run, oddly_named, tmp_path):
    options = ("--run", tiny_run.folder, "--method", "grid", "--steps", 2, "--out", tmp_path / "crops")
    result = subprocess.run(
        list(map(str, [sys.executable, "pycaffe_scripts/crops.py", *options, oddly_named])),
        cwd=paths.ROOT,
        capture_output=True,
        timeout=300,
    )
    assert result.returncode == 1 and b"Traceback" not in result.stderr, result.stderr
    assert is_shown(result.stdout) and is_shown(result.stderr)
    assert len(list((tmp_path / "crops").glob("*_crop1.png"))) == len(ODD)


def test_scoring_needs_no_standard_input(tiny_run, phone):
    """As under cron, where it may be closed; a list on it that is not there is one line."""
    closed = {"preexec_fn": lambda: os.close(0)}
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, phone / "a.jpg", **closed)
    assert result.returncode == 0 and "a.jpg" in result.stdout, result.stderr
    testlib.assert_one_line_error(
        testlib.command("tools/score.py", "--run", tiny_run.folder, "-", **closed), "no standard input"
    )
