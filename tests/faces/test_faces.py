"""The face filter: what the detectors find, and how a manifest is annotated."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import skimage

import testlib
from selfie.common import parallel, paths
from selfie.common.boxes import iou
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.faces import annotate, detectors, mtcnn
from selfie.faces.face import Face
from selfie.net import mtcnn_nets
from selfie.original import figures

BUNDLED = Path(skimage.__file__).parent / "data"
PEOPLE = {"astronaut.png", "camera.png", "no_time_for_that_tiny.gif"}  # the last two: no frontal face, but a person
FACE = np.array([180, 66, 88, 112])  # x, y, w, h of astronaut.png's, by hand


@pytest.fixture(scope="module")
def mtcnn_detector(mirror):
    """MTCNN, where its weights are."""
    for name in mtcnn_nets.FILES:
        mirror(f"{name}.caffemodel")
    return detectors.load("mtcnn")


@pytest.fixture(scope="module", params=["mtcnn", "lbp"])
def detect(request):
    """Each detector in turn."""
    return request.getfixturevalue("mtcnn_detector") if request.param == "mtcnn" else detectors.load("lbp")


def bundled() -> dict[str, np.ndarray]:
    """scikit-image's pictures, by name."""
    pictures = {}
    for path in sorted(BUNDLED.iterdir()):
        if path.suffix in (".png", ".jpg", ".gif", ".tif") and path.name != "multipage_rgb.tif":  # 64-bit floats
            pictures[path.name] = image.read(path)
    return pictures


def overlap(face: Face, box: np.ndarray) -> float:
    """Intersection over union of a face and a box (x, y, w, h)."""
    corners = [[x, y, x + w, y + h] for x, y, w, h in ((face.x, face.y, face.w, face.h), box)]
    return float(iou(np.array(corners[:1]), np.array(corners[1:]))[0, 0])


def test_no_face_is_seen_where_there_are_no_people(detect):
    """On all of scikit-image's pictures without people: cat, coffee, motorcycle, moon, coins with heads and so on."""
    seen = {file: detect(bgr) for file, bgr in bundled().items() if file not in PEOPLE}
    assert len(seen) > 20
    assert {file: faces for file, faces in seen.items() if faces} == {}


@pytest.mark.parametrize("size", [200, 512, 1400])
def test_the_one_face_of_the_portrait_is_found_at_any_size(detect, size):
    """The box is in the pixels of the picture that was given."""
    portrait = cv2.resize(bundled()["astronaut.png"], (size, size), interpolation=cv2.INTER_AREA)
    faces = detect(portrait)
    assert len(faces) == 1
    assert overlap(faces[0], FACE * size / 512) > 0.6


def test_many_pictures_have_the_faces_that_each_has_alone(mtcnn_detector):
    """Of any size, more than are looked at together, with none and with many faces; to a rounding error."""
    pictures = list(bundled().values()) * 2
    portrait = bundled()["astronaut.png"]
    pictures += [np.vstack([np.hstack([portrait] * 3)] * 2), cv2.resize(portrait, (300, 400)), portrait[:3, :3]]
    many = mtcnn_detector.many(iter(pictures))
    assert len(many) == len(pictures) > mtcnn.PICTURES and max(map(len, many)) == 6
    for bgr, faces in zip(pictures, many):
        alone = mtcnn_detector(bgr)
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces):
            np.testing.assert_allclose(
                [one.x, one.y, one.w, one.h, one.score], [other.x, other.y, other.w, other.h, other.score], atol=1e-3
            )


@pytest.mark.parametrize("part", [0.16, 0.12, 0.09])
def test_small_faces_are_looked_for_where_they_are_asked_for(mtcnn_detector, part):
    """With the default of the filter a face of 0.09 of the picture is still found; one of 0.05 only without it."""
    portrait = bundled()["astronaut.png"]
    edge = int(512 * (112 / 512 / part - 1) / 2)  # the face is 112 high
    large = cv2.copyMakeBorder(portrait, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(90, 120, 150))
    detector = mtcnn.Detector(annotate.MIN_FACE)
    (face,), (same,) = detector(large), mtcnn_detector(large)
    assert (
        overlap(face, FACE + np.array([edge, edge, 0, 0])) > 0.5
        and overlap(face, np.array([same.x, same.y, same.w, same.h])) > 0.7
    )
    assert mtcnn.Detector(0.5)(large) == []


def test_landmarks_are_where_they_belong(mtcnn_detector):
    """Left eye, right eye, nose, corners of the mouth of the portrait, in the order the docstring says."""
    (face,) = mtcnn_detector(bundled()["astronaut.png"])
    expected = [(203, 102), (247, 103), (226, 128), (203, 143), (246, 142)]
    assert np.abs(np.array(face.landmarks) - expected).max() < 7


def test_a_picture_that_is_not_square_has_its_face_in_place(detect):
    """x and y are not mixed up: the portrait beside, above and below empty ground."""
    portrait = bundled()["astronaut.png"][:400]
    for top, left in ((0, 70), (170, 0)):
        wide = cv2.copyMakeBorder(portrait, top, 0, left, 0, cv2.BORDER_CONSTANT, value=(90, 120, 150))
        assert overlap(detect(wide)[0], FACE + np.array([left, top, 0, 0])) > 0.6


def test_nine_of_ten_of_the_posts_best_selfies_have_a_face(mtcnn_detector, mirror):
    """At least 90 of 100 by MTCNN, at 128 x 128 pixels."""
    mirror(figures.FIGURES["best"].file)
    assert sum(bool(mtcnn_detector(tile.bgr)) for tile in figures.tiles("best")) >= 90


@pytest.mark.parametrize("shape", [(1, 1), (5, 400), (300, 12), (24, 24)])
def test_tiny_and_thin_pictures_have_no_face_and_no_error(detect, shape):
    """Smaller than a detector's window."""
    assert detect(np.full((*shape, 3), 128, np.uint8)) == []


# --- choice ----------------------------------------------------------------------------------------------------------


def test_auto_says_which_detector_it_takes_and_why(monkeypatch, tmp_path, caplog):
    """Without the weights it is lbp, and the reason names the command that fetches them."""
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    with caplog.at_level(logging.INFO):
        assert detectors.choose("auto") == "lbp"
    assert "make weights VARIANT=mtcnn" in caplog.text
    with pytest.raises(SelfieError, match="make weights VARIANT=mtcnn"):
        detectors.load("mtcnn")


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    """A caffemodel with another checksum is an error, not a detector that sees nothing."""
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    (tmp_path / "mtcnn").mkdir()
    for name in mtcnn_nets.FILES:
        (tmp_path / "mtcnn" / f"{name}.caffemodel").write_bytes(b"nonsense")
    with pytest.raises(SelfieError, match=r"damaged \(det1.caffemodel\)"):
        detectors.load("mtcnn")


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path):
    """A manifest of good, faceless and bad pictures, and its folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    pictures = bundled()
    cv2.imwrite(str(folder / "face.jpg"), pictures["astronaut.png"][:, :400])
    cv2.imwrite(str(folder / "coffee.png"), pictures["coffee.png"])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    names = ["face.jpg", "coffee.png", "empty.jpg", "text.jpg", "missing.jpg", "face.jpg", None]
    manifest = pl.DataFrame({"id": [f"00{n}" for n in range(7)], "path": names, "caption": ['x, "y"'] * 7})
    manifest.write_csv(tmp_path / "manifest.csv")
    return manifest, folder


def test_every_row_stays_with_a_count_or_a_reason(album):
    """Order and other columns untouched; null count for what could not be read, and only for that."""
    manifest, folder = album
    table = annotate.annotate(manifest, folder, "lbp", jobs=1)
    assert table.select(manifest.columns).equals(manifest)
    assert table["face_count"].to_list() == [1, 0, None, None, None, 1, None]
    assert table["face_error"].to_list() == [
        None,
        None,
        "empty file",
        "unknown format",
        "no such file",
        None,
        "no path",
    ]
    box = table.select(annotate.BOX).row(0)
    assert overlap(Face(*(box * np.array([400, 512, 400, 512])), 1.0), FACE) > 0.6
    assert all(value is None for value in table.select(annotate.BOX).row(1))


def test_the_box_is_of_the_upright_picture(tmp_path):
    """A camera's orientation flag is obeyed before anything is measured."""
    from PIL import Image

    upright = bundled()["astronaut.png"][:, :, ::-1]
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    lying.save(tmp_path / "lying.jpg", exif=exif, quality=95)
    Image.fromarray(upright).save(tmp_path / "upright.jpg", quality=95)
    table = annotate.annotate(
        pl.DataFrame({"id": ["a", "b"], "path": ["lying.jpg", "upright.jpg"]}), tmp_path, "lbp", 1
    )
    np.testing.assert_allclose(table.select(annotate.BOX).row(0), table.select(annotate.BOX).row(1), atol=0.03)


def test_jobs_and_order_of_rows_do_not_change_the_result(album, tmp_path):
    """One process or two, forwards or backwards."""
    manifest, folder = album
    for number in range(60):
        os.link(folder / "face.jpg", folder / f"copy{number}.jpg")
    more = pl.DataFrame(
        {"id": [f"c{n}" for n in range(60)], "path": [f"copy{n}.jpg" for n in range(60)], "caption": [""] * 60}
    )
    manifest = pl.concat([manifest, more])
    alone = annotate.annotate(manifest, folder, "lbp", jobs=1)
    assert annotate.annotate(manifest, folder, "lbp", jobs=2).equals(alone)
    assert annotate.annotate(manifest.reverse(), folder, "lbp", jobs=1).reverse().equals(alone)


def test_annotating_twice_replaces_the_columns(album):
    """No face_count_right or the like."""
    manifest, folder = album
    once = annotate.annotate(manifest, folder, "lbp", jobs=1)
    assert annotate.annotate(once, folder, "lbp", jobs=1).equals(once)


def test_a_run_goes_on_where_it_was_killed(album, tmp_path, monkeypatch):
    """What the partial file knows is not looked at again; a torn last line, or another detector's file, is."""
    manifest, folder = album
    whole = annotate.annotate(manifest, folder, "lbp", jobs=1)
    partial = tmp_path / "partial"
    annotate.annotate(manifest, folder, "lbp", jobs=1, partial=partial)
    header, line = partial.read_bytes().splitlines(keepends=True)

    known = {path: row for path, row in json.loads(line).items() if path == "face.jpg"}
    partial.write_bytes(header + json.dumps(known).encode() + b"\n" + line[:30])
    seen = []
    read = image.read
    monkeypatch.setattr(annotate.image, "read", lambda path: seen.append(path.name) or read(path))
    assert annotate.annotate(manifest, folder, "lbp", jobs=1, partial=partial).equals(whole)
    assert "face.jpg" not in seen and len(seen) == 4

    for damaged in ([1], [1, 2, 3, 4, "5", None], 7, None):
        partial.write_bytes(header + json.dumps({"face.jpg": damaged}).encode() + b"\n")
        assert annotate.annotate(manifest, folder, "lbp", jobs=1, partial=partial).equals(whole)

    wrong = json.dumps({"face.jpg": [9, *[None] * 5]}).encode() + b"\n"
    partial.write_bytes(header.replace(b'"lbp"', b'"mtcnn"') + wrong)
    assert annotate.annotate(manifest, folder, "lbp", jobs=1, partial=partial).equals(whole)


def test_opencv_keeps_its_threads(album):
    """One process looks at faces with one OpenCV thread, and leaves the process as it was."""
    manifest, folder = album
    with parallel.opencv_threads(3):
        annotate.annotate(manifest, folder, "lbp", jobs=1)
        assert cv2.getNumThreads() == 3


def test_filter_faces_survives_sigkill(album, tmp_path):
    """Killed in the middle and started again, the command writes what an undisturbed run writes."""
    _, folder = album
    names = [f"copy{number}.jpg" for number in range(150)]
    for name in names:
        os.link(folder / "face.jpg", folder / name)
    pl.DataFrame({"id": names, "path": names}).write_csv(tmp_path / "manifest.csv")
    command = [
        sys.executable,
        "tools/filter_faces.py",
        "--manifest",
        tmp_path / "manifest.csv",
        "--images",
        folder,
        "--detector",
        "lbp",
        "--jobs",
        "1",
        "--out",
    ]
    partial = tmp_path / ".killed.csv.partial"
    victim = subprocess.Popen(
        [*command, tmp_path / "killed.csv"], cwd=paths.ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while (not partial.exists() or partial.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert partial.exists() and not (tmp_path / "killed.csv").exists()
    again = subprocess.run([*command, tmp_path / "killed.csv"], cwd=paths.ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "interrupted run" in again.stderr
    assert subprocess.run([*command, tmp_path / "whole.csv"], cwd=paths.ROOT, capture_output=True).returncode == 0
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not partial.exists()


def test_filter_faces_names_what_it_removes(album, tmp_path):
    """Rows without a face go, and are listed with the reason; ids keep their zeros; --keep-all keeps all."""
    arguments = (
        "tools/filter_faces.py",
        "--manifest",
        tmp_path / "manifest.csv",
        "--images",
        tmp_path / "images",
        "--detector",
        "lbp",
    )
    result = testlib.command(*arguments, "--out", tmp_path / "kept.csv")
    assert result.returncode == 0, result.stderr
    assert "without a face 1, unreadable 4" in result.stdout
    kept = pl.read_csv(tmp_path / "kept.csv", infer_schema=False)
    assert kept["id"].to_list() == ["000", "005"] and kept["face_count"].to_list() == ["1", "1"]
    removed = pl.read_csv(tmp_path / "kept.removed.csv", infer_schema=False)
    assert dict(removed.select("id", "reason").rows()) == {
        "001": "no face",
        "002": "empty file",
        "003": "unknown format",
        "004": "no such file",
        "006": "no path",
    }
    result = testlib.command(*arguments, "--out", tmp_path / "all.parquet", "--keep-all")
    assert result.returncode == 0 and len(pl.read_parquet(tmp_path / "all.parquet")) == 7


def test_filter_faces_refuses_what_it_cannot_use(album, tmp_path):
    """A missing manifest, folder or column is one line, and nothing is written."""
    arguments = ["tools/filter_faces.py", "--out", tmp_path / "out.csv", "--detector", "lbp"]
    (tmp_path / "bare.csv").write_text("id\n1\n")
    for manifest, folder, words in (
        ("none.csv", "images", "no such manifest"),
        ("bare.csv", "images", "'path'"),
        ("manifest.csv", "nowhere", "no such folder"),
    ):
        result = testlib.command(*arguments, "--manifest", tmp_path / manifest, "--images", tmp_path / folder)
        testlib.assert_one_line_error(result, words)
    for share in ("-0.1", "1.5", "nan"):
        result = testlib.command(
            *arguments, "--manifest", tmp_path / "manifest.csv", "--images", tmp_path / "images", f"--min-face={share}"
        )
        testlib.assert_one_line_error(result, "--min-face")
    assert not list(tmp_path.glob("*out*"))


def test_two_processes_run_mtcnn_alike(mtcnn_detector, album):
    """Caffe in spawned workers gives what Caffe in one process gives."""
    manifest, folder = album
    two = list(parallel.imap(annotate._look_at, [("mtcnn", 0, str(folder), names) for names in (["face.jpg"], [])], 2))
    (row,) = two[0].values()
    alone = annotate.annotate(manifest, folder, "mtcnn", jobs=1).select(annotate.COLUMNS).row(0)
    assert row[0] == alone[0] == 1
    np.testing.assert_allclose(row[1:5], alone[1:5], atol=1e-3)


@pytest.mark.parametrize("wrong", [[10**30, 1.0, None], [1, 10**30, None], [1, 1.0, "\ud800"], [True, 1.0, None]])
def test_a_record_of_a_journal_that_no_table_holds_is_none(wrong):
    """It would end the run that goes on from it."""
    count, side, error = wrong
    assert annotate._is_record({"a.jpg": [1, 0.5, 0.5, 0.5, 0.5, None]})
    assert not annotate._is_record({"a.jpg": [count, side, 0.5, 0.5, 0.5, error]})
