"""The inputs of a database: options and labels, checked, and the rows of each split in their final order."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import polars as pl

from selfie.common import paths, places
from selfie.common.errors import SelfieError
from selfie.common.splits import SPLITS
from selfie.data import columns as column_names
from selfie.data import datum, image, lmdb_posts, lmdb_reader, tables

MAX_SIZE = 4096  # pixels of a side of a stored picture
ROW = ("id", "path", "label")  # what a record is made from


def check_options(images: str | os.PathLike, size: int, quality: int, seed: int, detail: int = 0) -> None:
    """Raise SelfieError for a folder that does not exist and for values out of range."""
    if not places.is_folder(images):
        raise SelfieError(f"no such folder of images: {images}")
    if not 1 <= size <= MAX_SIZE:
        raise SelfieError(f"--size is {size}: it must be in 1 ... {MAX_SIZE}")
    if not 0 <= detail <= size:
        raise SelfieError(f"--detail is {detail}: it must be in 1 ... {size}, the size, or 0 for all that there is")
    if not 1 <= quality <= 100:
        raise SelfieError(f"--quality is {quality}: it must be in 1 ... 100")
    if seed < 0:
        raise SelfieError(f"--seed is {seed}: it must not be negative")


def ordered_splits(labels_csv: str | os.PathLike, seed: int) -> dict[str, pl.DataFrame]:
    """Read {split: its rows (ROW, and user and place as of lmdb_posts)}; no empty splits.

    A split is sorted by id, then shuffled once with the seed. SelfieError for a labels file that cannot be used.
    """
    rows = lmdb_posts.known(_read_labels(labels_csv))
    ordered = {}
    for number, split in enumerate(SPLITS):
        part = rows.filter(pl.col("split") == split).drop("split").sort("id")
        if len(part) > lmdb_reader.MOST_RECORDS:
            raise SelfieError(
                f"{labels_csv}: split {split} has {len(part)} rows, and a database holds at most "
                f"{lmdb_reader.MOST_RECORDS}: label fewer"
            )
        if len(part):
            ordered[split] = part[np.random.default_rng([seed, number]).permutation(len(part))]
    return ordered


def _read_labels(labels_csv: str | os.PathLike) -> pl.DataFrame:
    """Columns id, path, split (strings), label (integer in 0 ... 2^31 - 1), and those of lmdb_posts.READS that it has.

    SelfieError for what cannot be used.
    """
    columns = ("id", "path", "label", "split")
    file = paths.existing(labels_csv, "labels file")
    wanted = (*columns, *lmdb_posts.READS)
    table = tables.load(file, lambda names: list(column_names.find(names, wanted).values()), "labels file")
    tables.tell(file, table.notes)
    found = column_names.find(table.names, wanted)
    if missing := ", ".join(column for column in columns if column not in found):
        raise SelfieError(
            f"{labels_csv} has no column {missing}: labels need id, path, label, split; tools/label.py makes them of a "
            "table of selfies"
        )
    rows = table.frame.select(pl.col(theirs).cast(pl.String).alias(ours) for ours, theirs in found.items())
    for column in columns:
        if empty := rows.filter(pl.col(column).fill_null("") == "").height:
            raise SelfieError(f"{labels_csv}: {empty} of {len(rows)} rows have no {column}")
    labels = rows["label"].cast(pl.Int64, strict=False)
    if not (labels.is_between(0, datum.MAX_LABEL).fill_null(False)).all():
        bad = rows.filter(~labels.is_between(0, datum.MAX_LABEL).fill_null(False))["label"][0]
        raise SelfieError(f"{labels_csv}: label {bad!r} is not an integer from 0 on")
    if other := set(rows["split"].unique()) - set(SPLITS):
        raise SelfieError(f"{labels_csv}: split {min(other)!r} is none of {', '.join(SPLITS)}")
    if rows["id"].is_duplicated().any():
        twice = rows.filter(rows["id"].is_duplicated())["id"].min()
        raise SelfieError(f"{labels_csv}: id {twice!r} occurs more than once; every selfie needs its own")
    if not len(rows):
        raise SelfieError(f"{labels_csv} has no rows: nothing to build")
    return rows.with_columns(label=labels)


def describe(
    splits: dict[str, pl.DataFrame],
    images: str | os.PathLike,
    size: int,
    quality: int | None,
    seed: int,
    detail: int = 0,
) -> dict[str, str | int | None]:
    """Describe, JSON-ready, all that a database is made from: equal inputs, equal databases. `quality` None: raw."""
    return {
        "rows": rows_hash(splits),
        "images": os.fspath(images) if places.is_address(images) else str(paths.resolved(images)),
        "size": size,
        "encoding": "raw" if quality is None else "jpeg",
        "quality": quality,
        "seed": seed,
        "preprocessing": image.PREPROCESSING,
        **({"detail": detail} if detail else {}),  # so that databases without it stay what they were
    }


def rows_hash(splits: dict[str, pl.DataFrame]) -> str:
    """Hash of all rows in their final order: equal for the same labels in another order or with other columns."""
    state = hashlib.sha256()
    for split, rows in splits.items():
        state.update(split.encode())
        for part in rows.iter_slices(1 << 16):
            state.update(json.dumps(part.select(ROW).rows()).encode())
    return state.hexdigest()
