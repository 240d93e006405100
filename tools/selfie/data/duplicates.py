"""Repeated selfies: one row per id and one per picture are kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.data import frequent

BATCH = 256  # files per message to a worker process


def unique(
    table: pl.DataFrame, images: str | os.PathLike | None, jobs: int | None
) -> tuple[pl.DataFrame, dict[str, int], str]:
    """Keep one row per id and per picture; returns those, {reason: rows removed}, and how pictures were compared.

    Of an id the row with the most likes is kept, of a picture the earliest post. With `images` (the folder that paths
    are relative to) pictures are compared by their files' content, hashed by `jobs` processes; else by the column
    `content` if there is one; else by path.
    """
    removed = {}
    by_age = [name for name in ("posted_at",) if name in table.columns]
    score = "popularity" if "popularity" in table.columns else "likes"
    # Every column takes part in the order, so that equal rows are the only ones left to chance.
    rest = [name for name in ("followers", *by_age, "path", "user", "tags", "content") if name in table.columns]
    table, removed["same id"] = _first(table, "id", [score, "likes", *rest], [True, True, *[False] * len(rest)])
    if images is not None:
        compared = "file content (blake2b)"
        table = table.with_columns(content=contents(table["path"], images, jobs))
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
    repeated = _repeated(table[key])  # the others need not be sorted
    if not repeated.any():
        return table, 0
    kept = (
        table.filter(repeated)
        .sort(order, descending=descending, nulls_last=True)
        .unique(key, keep="first", maintain_order=True)
    )
    result = pl.concat([table.filter(~repeated), kept])
    return result, table.height - result.height


def _repeated(keys: pl.Series) -> pl.Series:
    """Mark the keys that occur more than once. Only the few whose hash repeats are compared themselves."""
    suspects = frequent.marked(keys.hash().to_numpy(), 2)
    repeated = suspects.copy()
    repeated[suspects] = keys.filter(pl.Series(suspects)).is_duplicated().to_numpy()
    return pl.Series(repeated)


def contents(names: pl.Series, images: str | os.PathLike, jobs: int | None = None) -> pl.Series:
    """Hash (blake2b, 128 bits, hex) of the bytes of each file, null where it cannot be read.

    names: relative to the folder `images`; SelfieError if there is no such folder.
    """
    folder = paths.existing(images, "folder of images")
    if not folder.is_dir():
        raise SelfieError(f"{folder} is not a folder of images")
    batches = ((str(folder), names[start : start + BATCH].to_list()) for start in range(0, len(names), BATCH))
    digests: list[str | None] = []
    if len(names) <= BATCH:
        jobs = 1  # starting processes would take longer
    with tqdm(total=len(names), desc="hashing pictures", unit="file", leave=False, disable=None) as bar:
        for batch in parallel.imap(_digests, batches, jobs):
            digests += batch
            bar.update(len(batch))
    return pl.Series("content", digests, dtype=pl.String)


def _digests(task: tuple[str, list[str]]) -> list[str | None]:
    """In a worker: hashes of the files of one batch (folder, names)."""
    return list(_each_digest(*task))


def _each_digest(folder: str, names: list[str]) -> Iterator[str | None]:
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                yield hashlib.blake2b(file.read(), digest_size=16).hexdigest()
        except (OSError, ValueError):  # ValueError: a name with a NUL byte
            yield None
