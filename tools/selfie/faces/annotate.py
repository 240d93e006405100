"""The face filter: annotate a manifest with the number of faces in each picture and the box of the largest."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths, places
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal
from selfie.common.work import Row, Work, Workers
from selfie.data import image
from selfie.data.image import BadImage
from selfie.faces import detectors
from selfie.faces.face import Face, ManyDetector

log = logging.getLogger(__name__)
BOX = ("face_x", "face_y", "face_w", "face_h")
COLUMNS = ("face_count", *BOX, "face_error")
BATCH = 32  # pictures per message to a worker process, per record of the journal, and that MTCNN looks at together
MIN_FACE = (
    1 / 13
)  # of the picture's longer side: at arm's length a head measures a fifth, on a stick or in a mirror less

MEMORY = 700_000_000  # bytes of a process that looks at pictures
SCHEMA = {"path": pl.String, "face_count": pl.Int64, **dict.fromkeys(BOX, pl.Float64), "face_error": pl.String}

NoneType = type(None)
Values = Sequence  # of COLUMNS, for one picture


def annotate(
    manifest: pl.DataFrame,
    images: str | os.PathLike,
    detector_name: str = "auto",
    jobs: int | None = None,
    partial: str | os.PathLike | None = None,
    min_face: float = MIN_FACE,
    workers: Workers | None = None,
) -> pl.DataFrame:
    """Add the columns face_count, face_x, face_y, face_w, face_h and face_error to a manifest (columns id, path).

    The box is that of the largest face, relative to the upright picture's width and height (0 to 1); null where there
    is none. A picture that cannot be read has a null face_count and the reason in face_error. All rows stay, in their
    order; a picture named twice is looked at once. Paths are relative to `images`.

    min_face: of the picture's longer side, the smallest face that MTCNN looks for.
    With `workers` they look at the pictures, in shards; `images` may be an address then (common/places). Without,
    `partial` names the journal of finished pictures, from which a run after SIGKILL resumes; it is used only if it was
    made by the same detector on the same folder, with pictures read the same way; the caller removes it at the end. The
    result does not depend on `jobs`. SelfieError if there is no such folder, the detector cannot run here, or min_face
    is out of range.
    """
    if not places.is_address(images):
        images = paths.resolved(paths.existing(images, "folder of images"))
    if not 0 <= min_face <= 1:
        raise SelfieError(f"--min-face is {min_face:g}: it must be a share of the picture, from 0 to 1")
    name = detectors.choose(detector_name)
    if workers is not None:
        return _joined(manifest, _by_workers(manifest["path"], str(images), name, min_face, workers))
    wanted = list(dict.fromkeys(path for path in manifest["path"] if path is not None))
    rows: dict[str, Values] = {}
    header = _looking(name, str(images), min_face)
    with Journal(partial, header, _is_record) if partial else nullcontext() as journal:
        if journal is not None:
            known = {path: row for record in journal for path, row in record.items()}
            rows = {path: known[path] for path in wanted if path in known}
        if rows:
            log.info("%d pictures are known from an interrupted run", len(rows))
        batches = [
            (name, min_face, str(images), batch)
            for batch in parallel.batches((p for p in wanted if p not in rows), BATCH)
        ]
        with tqdm(total=len(wanted), initial=len(rows), desc="faces", unit="picture", disable=None) as bar:
            for done in parallel.imap(_look_at, batches, min(jobs or parallel.cores(), max(1, len(batches)))):
                rows.update(done)
                if journal is not None:
                    journal.append(done)
                bar.update(len(done))
    return _joined(manifest, [pl.DataFrame([(path, *row) for path, row in rows.items()], schema=SCHEMA, orient="row")])


def _looking(detector: str, images: str, min_face: float) -> dict:
    """Say how pictures are looked at: what was found in another way is not taken up."""
    said = {"detector": detector, "images": images, "preprocessing": image.PREPROCESSING}
    return {**said, "min_face": min_face} if detector == "mtcnn" else said


def _joined(manifest: pl.DataFrame, tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add the columns of tables of path and COLUMNS to a manifest."""
    found = pl.concat([pl.DataFrame(schema=SCHEMA), *tables])
    table = manifest.drop(COLUMNS, strict=False).join(found, on="path", how="left", maintain_order="left")
    return table.with_columns(
        pl.when(pl.col("path").is_null()).then(pl.lit("no path")).otherwise("face_error").alias("face_error")
    )


def _is_record(record: object) -> bool:
    """Whether a value can be a record of the journal: path -> row."""
    return isinstance(record, dict) and all(
        isinstance(row, list)
        and paths.is_text(row)
        and len(row) == len(COLUMNS)
        and type(row[0]) in (int, NoneType)
        and all(type(number) in (float, int, NoneType) for number in row[1:-1])
        and all(abs(number) < 1 << 31 for number in row[:-1] if type(number) is int)
        and type(row[-1]) in (str, NoneType)
        for row in record.values()
    )


# --- workers of a cluster --------------------------------------------------------------------------------------------


def _by_workers(
    names: pl.Series, images: str, detector: str, min_face: float, workers: Workers
) -> Iterator[pl.DataFrame]:
    """Let workers look at pictures: tables of path and COLUMNS, one after the other."""
    wanted = names.drop_nulls().unique(maintain_order=True)
    work = Work(
        "faces",
        rows_of,
        _looking(detector, images, min_face),
        {"face_count": int, **dict.fromkeys(BOX, float), "face_error": str},
        "face_error",
        together=BATCH,
        memory=MEMORY,
        probe=places.seen(wanted, images),
    )
    rows = zip(wanted, workers(work, wanted))
    for batch in parallel.batches(((path, *row) for path, row in rows), 1 << 16):
        yield pl.DataFrame(batch, schema=SCHEMA, orient="row")


def rows_of(parameters: dict, names: list[str]) -> Iterator[Row]:
    """In a worker: the row of each picture. SelfieError if it cannot look at pictures."""
    if not places.is_folder(parameters["images"]):
        raise SelfieError(f"no such folder of images: {parameters['images']}")
    for batch in parallel.batches(names, BATCH):
        rows = _look_at((parameters["detector"], parameters.get("min_face", 0), parameters["images"], batch))
        yield from (tuple(rows[name]) for name in batch)


# --- pictures --------------------------------------------------------------------------------------------------------


def _look_at(batch: tuple[str, float, str, list[str]]) -> dict[str, Values]:
    """In a worker: path -> row, for one batch (detector, smallest face, folder, paths)."""
    name, min_face, folder, names = batch
    rows: dict[str, Values] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def pictures() -> Iterator[np.ndarray]:
        for path in names:
            try:
                bgr = image.read(_place(folder, path))
            except BadImage as error:
                rows[path] = _unreadable(str(error))
                continue
            shapes[path] = bgr.shape
            yield bgr

    found = _worker_detector(name, min_face)(pictures())
    rows.update((path, _row(faces, shape)) for (path, shape), faces in zip(shapes.items(), found))
    return {path: rows[path] for path in names}


def _place(folder: str, name: str) -> Path | str:
    return places.join(folder, name) if places.is_address(folder) else Path(folder) / name


@cache
def _worker_detector(name: str, min_face: float) -> ManyDetector:
    """The detector, loaded once per process."""
    return detectors.load_many(name, min_face)


def _row(faces: list[Face], shape: tuple[int, ...]) -> Values:
    if not faces:
        return [0, None, None, None, None, None]
    height, width = shape[:2]
    largest = max(faces, key=lambda face: face.w * face.h)  # of equals the surer one, which comes first
    box = (largest.x / width, largest.y / height, largest.w / width, largest.h / height)
    return [len(faces), *(round(min(max(value, 0.0), 1.0), 5) for value in box), None]


def _unreadable(reason: str) -> Values:
    return [None, None, None, None, None, reason]
