"""The face filter: how many faces a selfie shows, and where the largest is.

Two detectors. MTCNN runs on our own Caffe (selfie.mtcnn); it finds small, turned and dark faces. The LBP cascade that
comes with scikit-image needs nothing else and takes 10 ms a picture, but finds only faces that look straight at the
camera and are at least a fifth of the picture's longer side.
"""

from __future__ import annotations

import json
import logging
import os
from functools import cache
from pathlib import Path

import cv2
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.data import image
from selfie.data.image import BadImage
from selfie.faces import detectors
from selfie.faces.face import Detector

log = logging.getLogger(__name__)
BOX = ("face_x", "face_y", "face_w", "face_h")
COLUMNS = ("face_count", *BOX, "face_error")
BATCH = 32  # pictures per message to a worker, and per line of the file that a resumed run reads


# --- a whole manifest ------------------------------------------------------------------------------------------------


def annotate(
    manifest: pl.DataFrame,
    images: str | os.PathLike,
    detector_name: str = "auto",
    jobs: int | None = None,
    partial: str | os.PathLike | None = None,
) -> pl.DataFrame:
    """The manifest (columns id, path) with the columns face_count, face_x, face_y, face_w, face_h, face_error.

    The box is the largest face's, relative: 0 to 1 of the upright picture's width and height; null where there is none.
    A picture that cannot be read has a null face_count and the reason in face_error. All rows stay, in their order, and
    a picture named twice is looked at once. Paths are relative to `images`.

    `partial` names a file that keeps finished pictures, so that a run after SIGKILL goes on where it stopped; it is
    used only if it was made by the same detector on the same folder, and is the caller's to remove at the end.
    The result does not depend on `jobs`.
    """
    images = paths.existing(images, "folder of images")
    name = detectors.choose(detector_name)
    wanted = list(dict.fromkeys(path for path in manifest["path"] if path is not None))
    found: dict[str, list] = {}
    journal = _Journal(partial, {"detector": name, "images": str(images.resolve())}) if partial else None
    if journal:
        found = {path: journal.rows[path] for path in wanted if path in journal.rows}
        if found:
            log.info("%d pictures are known from an interrupted run", len(found))
    todo = [path for path in wanted if path not in found]
    batches = [(name, str(images), todo[start : start + BATCH]) for start in range(0, len(todo), BATCH)]
    with tqdm(total=len(wanted), initial=len(found), desc="faces", unit="picture", disable=None) as bar:
        for rows in parallel.imap(_look_at, batches, min(jobs or parallel.cores(), max(1, len(batches)))):
            found.update(rows)
            if journal:
                journal.add(rows)
            bar.update(len(rows))
    rows = [found[path] if path is not None else [None] * 5 + ["no path"] for path in manifest["path"]]
    table = pl.DataFrame(
        rows, orient="row", schema={"face_count": pl.Int64, **dict.fromkeys(BOX, pl.Float64), "face_error": pl.String}
    )
    return manifest.drop(COLUMNS, strict=False).hstack(table)


def _look_at(batch: tuple[str, str, list[str]]) -> dict[str, list]:
    """path -> values of COLUMNS, for one batch: (detector, folder, paths)."""
    name, folder, names = batch
    detect = _worker_detector(name)
    return {path: _row(Path(folder) / path, detect) for path in names}


@cache
def _worker_detector(name: str) -> Detector:
    """Loaded once per process. Each process has a core of its own: more threads would only be in each other's way."""
    cv2.setNumThreads(1)
    return detectors.load(name)


def _row(path: Path, detect: Detector) -> list:
    try:
        bgr = image.read(path)
    except BadImage as error:
        return [None, None, None, None, None, str(error)]
    faces = detect(bgr)
    if not faces:
        return [0, None, None, None, None, None]
    height, width = bgr.shape[:2]
    largest = max(faces, key=lambda face: face.w * face.h)  # of equals the surer one, which comes first
    box = (largest.x / width, largest.y / height, largest.w / width, largest.h / height)
    return [len(faces), *(round(min(max(value, 0.0), 1.0), 5) for value in box), None]


class _Journal:
    """Finished batches, one JSON line each, fsynced; the first line says what they belong to."""

    def __init__(self, path: str | os.PathLike, header: dict) -> None:
        self.path, self.rows, whole = Path(path), {}, 0
        if self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            for number, line in enumerate(lines):
                value = _json(line)
                if value is None or (number == 0 and value != header):
                    break
                whole += len(line)
                self.rows.update(value if number else {})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.truncate(whole)  # a line that was cut by a kill, and all of another job's
        if not whole:
            self.add(header)

    def add(self, value: dict) -> None:
        with open(self.path, "ab") as file:
            file.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _json(line: bytes) -> dict | None:
    """The object on a whole line, None for a torn one."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
