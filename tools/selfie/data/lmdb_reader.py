"""Read a finished database of labelled pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import datum


class Database:
    """A finished database, open for reading: `with Database("data/lmdb/val") as records: ...`

    len(records) is the number of records, records.meta the content of meta.json; iteration yields (key, H x W x 3 uint8
    BGR, label) in order. SelfieError when there is no finished database at `path`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not (self.path / "meta.json").is_file() or not (self.path / "data.mdb").is_file():
            raise SelfieError(
                f"{self.path} is not a finished database (no meta.json): run 'make lmdb', or "
                f"tools/make_lmdb.py until it ends"
            )
        self.meta = paths.read_json(self.path / "meta.json")
        try:
            self._env = lmdb.open(str(self.path), readonly=True, lock=False)
            found = self._env.stat()["entries"]
        except lmdb.Error as error:
            raise SelfieError(f"{self.path}/data.mdb cannot be read ({error}): build it again with --force") from error
        if found != self.meta.get("count"):
            self._env.close()
            raise SelfieError(
                f"{self.path} holds {found} records, but its meta.json says {self.meta.get('count')}: "
                f"build it again with --force"
            )

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def __len__(self) -> int:
        return self.meta["count"]

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, int]]:
        for key, value in self.items():
            try:
                bgr, label = datum.decode(value)
            except ValueError as error:
                raise SelfieError(
                    f"{self.path}: record {key} is damaged ({error}): build it again with --force"
                ) from error
            yield key, bgr, label

    def items(self) -> Iterator[tuple[str, bytes]]:
        """(key, Datum as bytes) in order."""
        with self._env.begin() as transaction:
            for key, value in transaction.cursor():
                yield key.decode(), value

    def keys(self) -> list[str]:
        """All keys in order."""
        with self._env.begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]


def id_of(column: str) -> pl.Expr:
    """The manifest's id inside a database's key, `%08d_<id>`."""
    return pl.col(column).str.slice(9)
