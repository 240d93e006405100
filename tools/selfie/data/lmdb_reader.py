"""Read a finished database of labelled pictures; make and take apart its keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import lmdb
import numpy as np
import polars as pl

from selfie.common import shapes
from selfie.common.errors import SelfieError
from selfie.data import datum, lmdb_size

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
META = {  # what meta.json must have
    "count": int,
    "labels": {str: int},
    "content": str,
    "inputs": {"rows": str, "images": str, "size?": int, "preprocessing?": int},
}
LONGEST_KEY = 511  # bytes, LMDB's limit
_DIGITS = 8  # of the record's number at the start of a key
MOST_RECORDS = 10**_DIGITS  # with more, keys would not be in the order of their numbers


class Database:
    """A finished database, open for reading: `with Database("data/lmdb/val") as records: ...`

    len(records) is the number of records, records.meta the content of meta.json. Iteration yields (key, H x W x 3 uint8
    BGR, label) in order. SelfieError if there is no finished database at `path`, or a record is damaged.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not (self.path / "meta.json").is_file() or not (self.path / "data.mdb").is_file():
            raise SelfieError(
                f"{self.path} is not a finished database (no meta.json): run 'make lmdb', or "
                f"tools/make_lmdb.py until it ends"
            )
        self.meta = shapes.read(self.path / "meta.json", META, lmdb_size.AGAIN)
        if not self.meta["labels"] or not all(re.fullmatch("[0-9]{1,10}", label) for label in self.meta["labels"]):
            raise SelfieError(f"{self.path}/meta.json is damaged: its labels are no numbers; {lmdb_size.AGAIN}")
        lmdb_size.check_size(self.path)
        with self._damage_told():
            self._env = lmdb.open(str(self.path), readonly=True, lock=False)
            entries = self._env.stat()["entries"]
        if entries != self.meta["count"]:
            self._env.close()
            raise SelfieError(
                f"{self.path} holds {entries} records, but its meta.json says {self.meta['count']}: "
                f"build it again with --force"
            )

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def __len__(self) -> int:
        return self.meta["count"]

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, int]]:
        return self.decoded()

    def decoded(self, first: str | None = None, count: int | None = None) -> Iterator[tuple[str, np.ndarray, int]]:
        """Yield (key, H x W x 3 uint8 BGR, label) in order: of all records, or of `count` from the key `first` on."""
        for key, value in islice(self.items(first), count):
            try:
                bgr, label = datum.decode(value)
            except ValueError as error:
                raise SelfieError(f"{self.path}: record {key} is damaged ({error}); {lmdb_size.AGAIN}") from error
            yield key, bgr, label

    def items(self, first: str | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield (key, Datum as bytes) in order, from the key `first` on."""
        with self._damage_told(), self._env.begin() as transaction:
            cursor = transaction.cursor()
            if first is not None and not cursor.set_range(first.encode()):
                return
            for key, value in cursor:
                yield key.decode(), value

    def keys(self) -> list[str]:
        """All keys in order."""
        with self._damage_told(), self._env.begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """Turn what LMDB says of a damaged file, and a key that is no text, into a SelfieError."""
        try:
            yield
        except (lmdb.Error, UnicodeDecodeError) as error:
            raise SelfieError(f"{self.path}/data.mdb is damaged ({error}); {lmdb_size.AGAIN}") from error


# --- keys: `%08d_<id>` -----------------------------------------------------------------------------------------------


def make_key(number: int, row_id: str) -> bytes:
    """Key of a record: its number in the database (LMDB's order is that of keys) and the selfie's id, UTF-8.

    Control characters become '_' (list.txt has one line per record, with tabs), and what exceeds LMDB's 511 bytes is
    cut off; keys differ by their number anyway.
    """
    clean = CONTROL_CHARACTER.sub("_", row_id)
    return f"{number:0{_DIGITS}d}_{clean}".encode()[:LONGEST_KEY].decode(errors="ignore").encode()


def id_of(key: str) -> str:
    """The selfie's id in a database's key."""
    return key[_DIGITS + 1 :]


def id_column(keys: str) -> pl.Expr:
    """Expression for the selfies' ids, from the column of keys called `keys`."""
    return pl.col(keys).str.slice(_DIGITS + 1)
