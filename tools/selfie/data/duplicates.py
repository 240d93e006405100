"""Repeated selfies: one row per id and one per picture are kept."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from typing import Callable

import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths, places
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.common.work import Row, Work, Workers
from selfie.data import frequent, lean

log = logging.getLogger(__name__)
HASHED = {"content": str, "unreadable": str}  # columns of the work of a cluster
BATCH = 256  # files per message to a worker process
MIDDLE = 4096  # bytes from the middle of a file, where pictures of equal size differ (their beginnings are alike)


def unique(
    table: pl.DataFrame, images: str | os.PathLike | None, jobs: int | None, workers: Workers | None = None
) -> tuple[pl.DataFrame, dict[str, int], str]:
    """Keep one row per id and per picture; returns those, {reason: rows removed}, and how pictures were compared.

    Of an id the row with the most likes is kept, of a picture the earliest post. With `images` (the folder that paths
    are relative to) pictures are compared by their files' content (`contents`), read by `jobs` processes or by
    `workers`; else by the column `content` if there is one; else by path. The table is used up, or returned.
    """
    removed = {}
    by_age = [name for name in ("posted_at",) if name in table.columns]
    score = "popularity" if "popularity" in table.columns else "likes"
    # Every column takes part in the order, so that equal rows are the only ones left to chance.
    rest = [name for name in ("followers", *by_age, "path", "user", "tags", "content") if name in table.columns]
    table, removed["same id"] = _first(table, "id", [score, "likes", *rest], [True, True, *[False] * len(rest)])
    if images is not None:
        compared = "file content (blake2b)"
        lean.put(table, contents(table["path"], images, jobs, workers).alias("content"))
        _tell_missing(table, images)
        missing = table["content"].is_null()
        removed["image file missing or unreadable"] = int(missing.sum())
        table = lean.take(table, ~missing) if missing.any() else table
    elif "content" in table.columns:
        compared = "column 'content'"
        lean.put(table, table.select(pl.coalesce("content", "path").alias("content")).to_series())
    else:
        compared = "path only: the content of the files was not checked (--images)"
        lean.put(table, table["path"].alias("content"))
    table, removed["same picture"] = _first(table, "content", [*by_age, "id"], [False] * (len(by_age) + 1))
    table.drop_in_place("content")
    return table, removed, compared


def _tell_missing(table: pl.DataFrame, images: str | os.PathLike) -> None:
    """Name one of the pictures that cannot be read, in a line: most often the folder is another one."""
    missing = table["path"].filter(table["content"].is_null())
    if len(missing):
        windows = r" (its \ separates folders on Windows: write /)" if "\\" in missing[0] else ""
        log.info(
            "%d of %d pictures are not in %s, or cannot be read, such as %s%s",
            *(len(missing), table.height, shown(images), shown(missing[0]), windows),
        )


def _first(table: pl.DataFrame, key: str, order: list[str], descending: list[bool]) -> tuple[pl.DataFrame, int]:
    """Keep the first row of each `key` in the given order; returns the rest of the table, and the number removed."""
    repeated = _repeated(table[key])  # the others need not be sorted
    if not repeated.any():
        return table, 0
    kept = (
        table.filter(repeated)
        .sort(order, descending=descending, nulls_last=True)
        .unique(key, keep="first", maintain_order=True)
    )
    before, result = table.height, pl.concat([lean.take(table, ~repeated), kept])
    return result, before - result.height


def _repeated(keys: pl.Series) -> pl.Series:
    """Mark the keys that occur more than once. Only the few whose hash repeats are compared themselves."""
    suspects = frequent.marked(keys.hash().to_numpy(), 2)
    repeated = suspects.copy()
    repeated[suspects] = keys.filter(pl.Series(suspects)).is_duplicated().to_numpy()
    return pl.Series(repeated)


def contents(
    names: pl.Series, images: str | os.PathLike, jobs: int | None = None, workers: Workers | None = None
) -> pl.Series:
    """Give each file a key: equal keys, equal bytes; null where there is no file that can be read.

    Files of equal size are compared by MIDDLE bytes from their middle, and only those that agree in both are read and
    hashed (blake2b, 128 bits) whole. So nearly all are left to who needs their pixels, and are read once altogether.
    Those at an address, and those that `workers` read, are all hashed: there a file is opened once or not at all.
    names: relative to the folder or address `images`; SelfieError if there is no such folder. `jobs`: processes that
    hash.
    """
    if not places.is_address(images):
        paths.existing(images, "folder of images")
    if not places.is_folder(images):
        raise SelfieError(f"{images} is not a folder of images")
    folder = places.absolute(images)
    if workers is not None:
        work = Work("hashes", rows_of, {"images": folder}, HASHED, "unreadable", probe=places.seen(names, folder))
        return pl.Series("content", (digest for digest, _ in workers(work, names)), dtype=pl.String)
    table = names.to_frame("name").with_row_index("row")
    if places.is_address(images):
        return _keys(_digests, table, folder, jobs, "hashing pictures")["key"].alias("content")
    keys = _keys(_sizes, table, folder, 1, "sizes of pictures")
    for stage, processes, title in ((_middles, 1, "comparing pictures"), (_digests, jobs, "hashing pictures")):
        alike = keys.filter(_repeated(keys["key"]) & keys["key"].is_not_null()).select("row")
        found = _keys(stage, table.join(alike, on="row", maintain_order="left"), folder, processes, title)
        keys = keys.update(found, on="row", include_nulls=True)
    return keys["key"].alias("content")


def _keys(
    function: Callable[[tuple[str, list[str]]], list[str | None]],
    table: pl.DataFrame,
    folder: str,
    jobs: int | None,
    title: str,
) -> pl.DataFrame:
    """Columns row and key: what the function gives for the files of a table (row, name), asked batch by batch."""
    names = table["name"]
    batches = ((folder, names[start : start + BATCH].to_list()) for start in range(0, len(names), BATCH))
    keys: list[str | None] = []
    if len(names) <= BATCH:
        jobs = 1  # starting processes would take longer
    with tqdm(total=len(names), desc=title, unit="file", leave=False, disable=None) as bar:
        for batch in parallel.imap(function, batches, jobs):
            keys += batch
            bar.update(len(batch))
    return table.select("row", key=pl.Series(keys, dtype=pl.String))


def _sizes(task: tuple[str, list[str]]) -> list[str | None]:
    return _each(task, _size)


def _middles(task: tuple[str, list[str]]) -> list[str | None]:
    return _each(task, _middle)


def rows_of(parameters: dict, names: list[str]) -> Iterator[Row]:
    """In a worker of a cluster: the hash of each file. SelfieError where there is no such folder."""
    if not places.is_folder(parameters["images"]):
        raise SelfieError(f"no such folder of images: {parameters['images']}")
    for digest in _digests((parameters["images"], names)):
        yield digest, None if digest else "cannot be read"


def _digests(task: tuple[str, list[str]]) -> list[str | None]:
    return _each(task, _digest)


def _each(task: tuple[str, list[str]], key: Callable[[str], str | None]) -> list[str | None]:
    """Keys of the files of one batch (folder, names); None where a file cannot be read."""
    folder, names = task
    keys: list[str | None] = []
    for name in names:
        try:
            keys.append(key(places.join(folder, name)))
        except (OSError, ValueError):  # ValueError: a name with a NUL byte
            keys.append(None)
    return keys


def _size(path: str) -> str | None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return None
    return f"{status.st_size} bytes"


def _middle(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, (size - MIDDLE) // 2))
        return f"{size} bytes, {hashlib.blake2b(file.read(MIDDLE), digest_size=16).hexdigest()} in the middle"


def _digest(path: str) -> str:
    if places.is_address(path):
        data = places.read(path)
    else:
        with open(path, "rb") as file:
            data = file.read()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
