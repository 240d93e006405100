"""Repeated selfies: one row per id and one per picture are kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths, places
from selfie.common.errors import SelfieError
from selfie.common.work import Row, Work, Workers

HASHED = {"content": str, "unreadable": str}  # columns of the work of a cluster
BATCH = 256  # files per message to a worker process


def unique(
    table: pl.DataFrame, images: str | os.PathLike | None, jobs: int | None, workers: Workers | None = None
) -> tuple[pl.DataFrame, dict[str, int], str]:
    """Keep one row per id and per picture; returns those, {reason: rows removed}, and how pictures were compared.

    Of an id the row with the most likes is kept, of a picture the earliest post. With `images` (the folder that paths
    are relative to) pictures are compared by their files' content, hashed by `jobs` processes or by `workers`;
    else by the column `content` if there is one; else by path.
    """
    removed = {}
    by_age = [name for name in ("posted_at",) if name in table.columns]
    score = "popularity" if "popularity" in table.columns else "likes"
    # Every column takes part in the order, so that equal rows are the only ones left to chance.
    rest = [name for name in ("followers", *by_age, "path", "user", "tags", "content") if name in table.columns]
    table, removed["same id"] = _first(table, "id", [score, "likes", *rest], [True, True, *[False] * len(rest)])
    if images is not None:
        compared = "file content (blake2b)"
        table = table.with_columns(content=contents(table["path"], images, jobs, workers))
        before, table = table.height, table.filter(pl.col("content").is_not_null())
        removed["image file missing or unreadable"] = before - table.height
    elif "content" in table.columns:
        compared = "column 'content'"
        table = table.with_columns(pl.coalesce("content", "path").alias("content"))
    else:
        compared = "path only: the content of the files was not checked (--images)"
        table = table.with_columns(content=pl.col("path"))
    table, removed["same picture"] = _first(table, "content", [*by_age, "id"], [False] * (len(by_age) + 1))
    return table.drop("content"), removed, compared


def _first(table: pl.DataFrame, key: str, order: list[str], descending: list[bool]) -> tuple[pl.DataFrame, int]:
    """Keep the first row of each `key` in the given order; returns the table and the number of rows removed."""
    repeated = table[key].is_duplicated()  # the others need not be sorted
    if not repeated.any():
        return table, 0
    kept = (
        table.filter(repeated)
        .sort(order, descending=descending, nulls_last=True)
        .unique(key, keep="first", maintain_order=True)
    )
    result = pl.concat([table.filter(~repeated), kept])
    return result, table.height - result.height


def contents(
    names: pl.Series, images: str | os.PathLike, jobs: int | None = None, workers: Workers | None = None
) -> pl.Series:
    """Hash (blake2b, 128 bits, hex) of the bytes of each file, null where it cannot be read.

    names: relative to the folder or address `images`; SelfieError if there is no such folder. `jobs` processes read
    them, or `workers`.
    """
    if not places.is_address(images):
        paths.existing(images, "folder of images")
    if not places.is_folder(images):
        raise SelfieError(f"{images} is not a folder of images")
    folder = places.absolute(images)
    if workers is not None:
        work = Work("hashes", rows_of, {"images": folder}, HASHED, "unreadable", probe=places.seen(names, folder))
        return pl.Series("content", (digest for digest, _ in workers(work, names)), dtype=pl.String)
    batches = ((folder, names[start : start + BATCH].to_list()) for start in range(0, len(names), BATCH))
    digests: list[str | None] = []
    if len(names) <= BATCH:
        jobs = 1  # starting processes would take longer
    with tqdm(total=len(names), desc="hashing pictures", unit="file", leave=False, disable=None) as bar:
        for batch in parallel.imap(_digests, batches, jobs):
            digests += batch
            bar.update(len(batch))
    return pl.Series("content", digests, dtype=pl.String)


def rows_of(parameters: dict, names: list[str]) -> Iterator[Row]:
    """In a worker of a cluster: the hash of each file. SelfieError where there is no such folder."""
    if not places.is_folder(parameters["images"]):
        raise SelfieError(f"no such folder of images: {parameters['images']}")
    for digest in _each_digest(parameters["images"], names):
        yield digest, None if digest else "cannot be read"


def _digests(task: tuple[str, list[str]]) -> list[str | None]:
    """In a worker: hashes of the files of one batch (folder, names)."""
    return list(_each_digest(*task))


def _each_digest(folder: str, names: list[str]) -> Iterator[str | None]:
    for name in names:
        try:
            place = places.join(folder, name)
            if places.is_address(place):
                data = places.read(place)
            else:
                with open(place, "rb") as file:
                    data = file.read()
            yield hashlib.blake2b(data, digest_size=16).hexdigest()
        except (OSError, ValueError):  # ValueError: a name with a NUL byte
            yield None
