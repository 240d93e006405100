"""Make manifests from foreign formats."""

from __future__ import annotations

import math
import os

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError

_UCF_ATTRIBUTES = """
    partial_faces is_female baby child teenager youth middle_age senior white black asian oval_face round_face
    heart_face smiling mouth_open frowning wearing_glasses wearing_sunglasses wearing_lipstick tongue_out duck_face
    black_hair blond_hair brown_hair red_hair curly_hair straight_hair braid_hair showing_cellphone using_earphone
    using_mirror braces wearing_hat harsh_lighting dim_lighting
"""
UCF_ATTRIBUTES = tuple(_UCF_ATTRIBUTES.split())


def from_ucf(path: str | os.PathLike) -> pl.DataFrame:
    """Read (id, path, popularity, 36 attributes) from the UCF Selfie data set's selfie_dataset.txt.

    (M. M. Kalayeh et al., "How to take a good selfie?", ACM Multimedia 2015.) The file has 38 fields a line, no header:
    image name without .jpg, popularity score, and the attributes as -1, 0 or 1 (Int8). It has neither likes nor
    users: label it with `tools/label.py --rule median`. SelfieError with the line's number for anything else.
    """
    path = paths.existing(path, "UCF selfie_dataset.txt")
    schema = {"id": pl.String, "path": pl.String, "popularity": pl.Float64, **dict.fromkeys(UCF_ATTRIBUTES, pl.Int8)}
    rows = []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if fields := line.split():
                    rows.append(_ucf_row(fields, f"{path}, line {number}"))
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise SelfieError(f"{path} is not UCF's selfie_dataset.txt: {error}") from error
    if not rows:
        raise SelfieError(f"{path} is empty")
    return pl.DataFrame(rows, schema=schema, orient="row")


def _ucf_row(fields: list[str], where: str) -> list:
    """Check and convert the fields of one line; `where` it stands is for the error message."""
    if len(fields) != 2 + len(UCF_ATTRIBUTES):
        raise SelfieError(f"{where}: {len(fields)} fields, expected {2 + len(UCF_ATTRIBUTES)}")
    name, score, *attributes = fields
    try:
        popularity = float(score)
    except ValueError:
        popularity = math.nan
    if not math.isfinite(popularity):
        raise SelfieError(f"{where}: the popularity score '{score}' is not a number")
    for column, value in zip(UCF_ATTRIBUTES, attributes):
        if value not in ("-1", "0", "1"):
            raise SelfieError(f"{where}: {column} is '{value}', expected -1, 0 or 1")
    return [name, f"{name}.jpg", popularity, *map(int, attributes)]
