"""The face filter for files: a manifest in, a manifest of the selfies with a face out, and the list of the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import polars as pl

from selfie.common import locks, paths, places
from selfie.common.errors import SelfieError
from selfie.common.work import Workers
from selfie.data import manifest
from selfie.faces import annotate


class Filtered(NamedTuple):
    """The outcome of the face filter.

    rows           of the manifest that was written
    without_face   pictures without a face
    unreadable     pictures that cannot be read
    removed_list   file that lists those that were removed; None where all were kept
    """

    rows: int
    without_face: int
    unreadable: int
    removed_list: Path | None


def filter_file(
    source: str | os.PathLike,
    images: str | os.PathLike,
    out: Path,
    detector: str = "auto",
    keep_all: bool = False,
    jobs: int | None = None,
    reading: manifest.Reading = manifest.AS_IT_IS,
    min_face: float = annotate.MIN_FACE,
    workers: Workers | None = None,
) -> Filtered:
    """Write to `out` the rows of the manifest `source` whose picture shows a face, with the columns of `annotate`.

    Rows without a face, or with a picture that cannot be read, are removed and listed with the reason in
    <out without its suffix>.removed.csv; with `keep_all` they stay, and an older list is deleted. A run that was killed
    resumes. The pictures are looked at by `jobs` processes, or by `workers`. Paths lead out of `images` only if
    reading.outside is set. min_face: see `annotate`. SelfieError if they do, if there is no such folder of images, or
    if not one picture can be read.
    """
    if not places.is_folder(images):
        raise SelfieError(f"no such folder of images: {images}")
    with locks.file(out):  # also tells at once that it cannot be written
        return _filter(source, images, out, detector, keep_all, jobs, reading, min_face, workers)


def _filter(
    source: str | os.PathLike,
    images: str | os.PathLike,
    out: Path,
    detector: str,
    keep_all: bool,
    jobs: int | None,
    reading: manifest.Reading,
    min_face: float,
    workers: Workers | None,
) -> Filtered:
    """Filter a manifest into `out`, whose lock is held."""
    partial, removed_list = out.with_name(f".{out.name}.partial"), out.with_name(f"{out.stem}.removed.csv")
    table = manifest.read(source, None, reading, ("id", "path"))
    paths.check_inside(table["path"], source, reading.outside)
    table = annotate.annotate(table, images, detector, jobs, partial, min_face, workers)
    if len(table) and table["face_count"].null_count() == len(table):
        partial.unlink(missing_ok=True)  # workers have none
        raise SelfieError(
            f"none of the {len(table)} pictures can be read ({table['face_error'][0]}): is --images right?"
        )

    reason = pl.coalesce("face_error", pl.when(pl.col("face_count") == 0).then(pl.lit("no face")))
    removed = table.select("id", "path", reason=reason).drop_nulls("reason")
    if keep_all:
        removed_list.unlink(missing_ok=True)
    else:
        table = table.filter(reason.is_null())
        paths.write_csv(removed_list, removed)
    manifest.write(table, out)
    partial.unlink(missing_ok=True)
    without_face = int((removed["reason"] == "no face").sum())
    return Filtered(len(table), without_face, len(removed) - without_face, None if keep_all else removed_list)
