"""What is done to each picture of a database before it is written, by threads of one process or by a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import NamedTuple

import polars as pl

from selfie.common import parallel, places
from selfie.common.errors import SelfieError
from selfie.common.work import Row, Work
from selfie.data import datum, image, lmdb_reader
from selfie.data.image import BadImage

TASK_ROWS = 16  # rows per task of a thread: 3 MB of raw datums
MEMORY = 700_000_000  # bytes of a process that encodes pictures for a cluster
PARAMETERS = ("images", "size", "detail", "quality", "preprocessing")  # of a cluster's work, as of lmdb_inputs
COLUMNS = {"file_hash": bytes, "value": bytes, "reason": str}  # of a cluster's work


class Task(NamedTuple):
    """A few rows for a thread. `rows`: (path, label)."""

    images: str
    size: int
    detail: int
    quality: int | None  # None: raw
    rows: list[tuple[str, int]]


class Record(NamedTuple):
    """The result for a picture that can be used: blake2b hash of its file, and its Datum.

    For a picture that cannot be used the result is the reason, a string.
    """

    file_hash: bytes
    value: bytes


def tasks(rows: pl.DataFrame, options: dict) -> Iterator[Task]:
    """Cut rows (columns path, label) into tasks. options: images, size, detail and quality, as of lmdb_inputs."""
    for part in rows.select("path", "label").iter_slices(TASK_ROWS):
        yield Task(options["images"], options["size"], options.get("detail", 0), options["quality"], part.rows())


def encode(task: Task) -> list[Record | str]:
    """In a thread: the result of every picture of a task, in order."""
    return [_encode_one(task, path, label) for path, label in task.rows]


def _encode_one(task: Task, path: str, label: int) -> Record | str:
    if lmdb_reader.CONTROL_CHARACTER.search(path):
        return "control character in the path"  # it would break list.txt
    try:
        data = image.load(places.join(task.images, path))
        bgr = image.decode_square(data, task.size, task.detail)
    except BadImage as error:
        return str(error)
    value = datum.encode_raw(bgr, label) if task.quality is None else datum.encode_jpeg(bgr, label, task.quality)
    return Record(hashlib.blake2b(data, digest_size=16).digest(), value)


# --- a cluster's work ------------------------------------------------------------------------------------------------


class Rows:
    """(path, label) of the rows of all splits, one after the other: what a cluster works on."""

    def __init__(self, tables: list[pl.DataFrame]) -> None:
        """tables: of each split, with the columns path and label."""
        self._table = pl.concat([table.select("path", "label") for table in tables])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, part: slice) -> list[tuple[str, int]]:
        return self._table[part].rows()


def work(options: dict, probe: str | None) -> Work:
    """Describe the work of making records. options: as of `tasks`; probe: a picture that all must see."""
    parameters = {name: value for name, value in options.items() if name in PARAMETERS}
    return Work("records", rows_of, parameters, COLUMNS, "reason", TASK_ROWS, MEMORY, probe)


def rows_of(parameters: dict, rows: list[tuple[str, int]]) -> Iterator[Row]:
    """In a worker of a cluster: the COLUMNS of each (path, label). SelfieError where there is no folder of images."""
    if not places.is_folder(parameters["images"]):
        raise SelfieError(f"no such folder of images: {parameters['images']}")
    given = tasks(pl.DataFrame(rows, schema={"path": pl.String, "label": pl.Int64}, orient="row"), parameters)
    with closing(parallel.threads(encode, given)) as lists:
        for result in chain.from_iterable(lists):
            yield (None, None, result) if isinstance(result, str) else (*result, None)
