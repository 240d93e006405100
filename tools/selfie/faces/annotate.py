"""The face filter: annotate a manifest with the number of faces in each picture and the box of the largest."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.journal import Journal
from selfie.data import image
from selfie.data.image import BadImage
from selfie.faces import detectors
from selfie.faces.face import Detector

log = logging.getLogger(__name__)
BOX = ("face_x", "face_y", "face_w", "face_h")
COLUMNS = ("face_count", *BOX, "face_error")
BATCH = 32  # pictures per message to a worker process, and per record of the journal

NoneType = type(None)
Row = list  # the values of COLUMNS for one picture


def annotate(
    manifest: pl.DataFrame,
    images: str | os.PathLike,
    detector_name: str = "auto",
    jobs: int | None = None,
    partial: str | os.PathLike | None = None,
) -> pl.DataFrame:
    """Add the columns face_count, face_x, face_y, face_w, face_h and face_error to a manifest (columns id, path).

    The box is that of the largest face, relative to the upright picture's width and height (0 to 1); null where there
    is none. A picture that cannot be read has a null face_count and the reason in face_error. All rows stay, in their
    order; a picture named twice is looked at once. Paths are relative to `images`.

    `partial` names the journal of finished pictures, from which a run after SIGKILL resumes; it is used only if it was
    made by the same detector on the same folder, with pictures read the same way; the caller removes it at the end. The
    result does not depend on `jobs`. SelfieError if there is no such folder, or the detector cannot run here.
    """
    images = paths.existing(images, "folder of images")
    name = detectors.choose(detector_name)
    wanted = list(dict.fromkeys(path for path in manifest["path"] if path is not None))
    rows: dict[str, Row] = {}
    header = {"detector": name, "images": str(images.resolve()), "preprocessing": image.PREPROCESSING}
    with Journal(partial, header, _is_record) if partial else nullcontext() as journal:
        if journal is not None:
            known = {path: row for record in journal for path, row in record.items()}
            rows = {path: known[path] for path in wanted if path in known}
        if rows:
            log.info("%d pictures are known from an interrupted run", len(rows))
        batches = [
            (name, str(images), batch) for batch in parallel.batches((p for p in wanted if p not in rows), BATCH)
        ]
        with tqdm(total=len(wanted), initial=len(rows), desc="faces", unit="picture", disable=None) as bar:
            for done in parallel.imap(_look_at, batches, min(jobs or parallel.cores(), max(1, len(batches)))):
                rows.update(done)
                if journal is not None:
                    journal.append(done)
                bar.update(len(done))
    table = pl.DataFrame(
        [rows[path] if path is not None else _unreadable("no path") for path in manifest["path"]],
        orient="row",
        schema={"face_count": pl.Int64, **dict.fromkeys(BOX, pl.Float64), "face_error": pl.String},
    )
    return manifest.drop(COLUMNS, strict=False).hstack(table)


def _is_record(record: object) -> bool:
    """Whether a value can be a record of the journal: path -> row."""
    return isinstance(record, dict) and all(
        isinstance(row, list)
        and len(row) == len(COLUMNS)
        and type(row[0]) in (int, NoneType)
        and all(type(number) in (float, int, NoneType) for number in row[1:-1])
        and type(row[-1]) in (str, NoneType)
        for row in record.values()
    )


def _look_at(batch: tuple[str, str, list[str]]) -> dict[str, Row]:
    """In a worker: path -> row, for one batch (detector, folder, paths)."""
    name, folder, names = batch
    detect = _worker_detector(name)
    return {path: _row(Path(folder) / path, detect) for path in names}


@cache
def _worker_detector(name: str) -> Detector:
    """The detector, loaded once per process."""
    return detectors.load(name)


def _row(path: Path, detect: Detector) -> Row:
    try:
        bgr = image.read(path)
    except BadImage as error:
        return _unreadable(str(error))
    faces = detect(bgr)
    if not faces:
        return [0, None, None, None, None, None]
    height, width = bgr.shape[:2]
    largest = max(faces, key=lambda face: face.w * face.h)  # of equals the surer one, which comes first
    box = (largest.x / width, largest.y / height, largest.w / width, largest.h / height)
    return [len(faces), *(round(min(max(value, 0.0), 1.0), 5) for value in box), None]


def _unreadable(reason: str) -> Row:
    return [None, None, None, None, None, reason]
