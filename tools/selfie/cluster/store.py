"""Where the results of shards lie: a folder, or an address that fsspec knows, which driver and workers both reach.

    <shard>.zip    the rows, in order: arrays of MessagePack, 000000.msgpack and so on, some hundred rows each
    <shard>.json   its receipt: rows, bytes, counts, times, and who did it. Written last: without it there is no shard

A shard's name tells what is in it, so writing one twice does no harm: the second is the first again. In a folder files
get their names when they are whole and on the disk; stores of objects, such as S3, show a file when all of it is there.
"""

from __future__ import annotations

import io
import json
import posixpath
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from selfie.common import parallel, paths, places, temporaries
from selfie.common.errors import DAMAGED_ZIP
from selfie.common.work import Row, Work

BLOCK = 256  # rows in memory at a time


class Damaged(Exception):
    """A shard is not what its receipt says, or is gone."""


@dataclass(frozen=True)
class Store:
    """The shards below a place."""

    place: str

    def write(self, name: str, work: Work, rows: Iterable[Row]) -> Iterator[tuple[int, int]]:
        """Write a shard's rows while they come; yields (rows, rows with a reason) of each block that is written."""
        import msgpack

        reason = list(work.columns).index(work.reason)
        with self._writing(f"{name}.zip") as file, zipfile.ZipFile(file, "w") as archive:
            for number, block in enumerate(parallel.batches(rows, BLOCK)):
                archive.writestr(f"{number:06d}.msgpack", msgpack.packb(block, unicode_errors="surrogatepass"))
                yield len(block), sum(row[reason] is not None for row in block)

    def read(self, name: str) -> Iterator[list[Row]]:
        """Yield a shard's rows, a block at a time. Damaged where it is gone or broken."""
        import msgpack

        try:
            with self._reading(f"{name}.zip") as file, zipfile.ZipFile(file) as archive:
                for member in sorted(archive.namelist()):
                    content = archive.read(member)
                    yield list(msgpack.unpackb(content, use_list=False, unicode_errors="surrogatepass"))
        except (OSError, *DAMAGED_ZIP) as error:
            raise Damaged(str(error)) from error

    def size(self, name: str) -> int:
        """Bytes of a shard. OSError where there is none."""
        if not places.is_address(self.place):
            return (Path(self.place) / f"{name}.zip").stat().st_size
        system, folder = places.filesystem(self.place)
        with places.reached():
            return int(system.size(posixpath.join(folder, f"{name}.zip")))

    def receipts(self) -> set[str]:
        """Names of the shards that have a receipt."""
        if places.is_address(self.place):
            system, folder = places.filesystem(self.place)
            try:
                with places.reached():
                    found = [posixpath.basename(path) for path in system.ls(folder, detail=False)]
            except FileNotFoundError:
                found = []
        else:
            found = [path.name for path in Path(self.place).glob("*.json")]
        return {name[:-5] for name in found if name.endswith(".json")}

    def receipt(self, name: str) -> dict[str, Any] | None:
        """A shard's receipt; None where there is none, or the shard is not of the size that it says."""
        try:
            with self._reading(f"{name}.json") as file:
                receipt = json.loads(file.read())
            whole = "parts" in receipt or receipt["bytes"] == self.size(name)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return receipt if whole else None

    def sign(self, name: str, receipt: dict[str, Any]) -> dict[str, Any]:
        """Write a shard's receipt; return it."""
        with self._writing(f"{name}.json") as file:
            file.write(json.dumps(receipt).encode())
        return receipt

    def remove(self, name: str) -> None:
        """Remove a shard and its receipt, that one first."""
        for suffix in (".json", ".zip"):
            if places.is_address(self.place):
                system, folder = places.filesystem(self.place)
                with suppress(FileNotFoundError), places.reached():
                    system.rm_file(posixpath.join(folder, name + suffix))
            else:
                (Path(self.place) / (name + suffix)).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder if nothing is left in it but what killed workers had begun to write."""
        if not places.is_address(self.place):
            with suppress(OSError):
                temporaries.sweep(Path(self.place), again=True)
                Path(self.place).rmdir()

    @contextmanager
    def _writing(self, name: str) -> Iterator[IO[bytes]]:
        if not places.is_address(self.place):
            with paths.atomic_write(Path(self.place) / name, "wb") as file:
                yield file
            return
        system, folder = places.filesystem(self.place)
        # From memory: an error on the way leaves nothing there, where closing a file would complete a part of one.
        content = io.BytesIO()
        yield content
        with places.reached():
            system.pipe_file(posixpath.join(folder, name), content.getvalue())

    @contextmanager
    def _reading(self, name: str) -> Iterator[IO[bytes]]:
        if not places.is_address(self.place):
            with open(Path(self.place) / name, "rb") as file:
                yield file
            return
        system, folder = places.filesystem(self.place)
        with places.reached(), system.open(posixpath.join(folder, name), "rb") as file:
            yield file
