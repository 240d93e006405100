"""Shards: some thousand items of a work, named by what their rows depend on, and what a worker does with one.

Nothing here knows Dask. A shard may be done twice, at the same time too: its rows are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Callable

from selfie.cluster.store import Store
from selfie.common import parallel, times
from selfie.common.errors import SelfieError
from selfie.common.work import ENDED, Items, Row, Work

LEAST, MOST, SHARDS = 128, 2048, 32  # rows of a shard, unless it is told: so many that there are SHARDS
PARTS = 8  # into which a shard is cut when it ends its worker
LIBRARY = Path(__file__).resolve().parents[1]


class Problem(Exception):
    """A shard cannot be done by this process, but perhaps by another: no folder, a full disk, an older library."""


@dataclass(frozen=True)
class Shard:
    """Items of a work that one task works on."""

    work: Work
    items: list[Any]

    @cached_property
    def name(self) -> str:
        """The kind of work, and a hash of all that the rows depend on."""
        state = hashlib.sha256(
            json.dumps([self.work.name, dict(self.work.parameters), list(self.work.columns)]).encode()
        )
        state.update(json.dumps(self.items).encode())
        return f"{self.work.name}-{state.hexdigest()[:40]}"

    def parts(self) -> list[Shard]:
        """Cut a shard into up to PARTS shorter ones, which begin at multiples of `together`; a batch into its items."""
        if self.is_batch:
            return [Shard(self.work, [item]) for item in self.items]
        size, together = -(-len(self.items) // PARTS), self.work.together
        return [Shard(self.work, part) for part in parallel.batches(self.items, -(-size // together) * together)]

    @property
    def is_batch(self) -> bool:
        """Tell whether the items are worked on at once, so that in parts they could have other last digits."""
        return len(self.items) <= self.work.together


@dataclass(frozen=True)
class Cut:
    """A work's items, cut into shards of about `rows`; None: of as many as their number, and nothing else, suggests."""

    work: Work
    items: Items
    rows: int | None = None

    @property
    def size(self) -> int:
        """Items of a shard: a multiple of those that are worked on together."""
        rows = self.rows or max(LEAST, min(MOST, len(self.items) // SHARDS))
        return -(-rows // self.work.together) * self.work.together

    def __len__(self) -> int:
        """Number of shards."""
        return -(-len(self.items) // self.size)

    def __getitem__(self, number: int) -> Shard:
        """Return a shard; only then its items are taken out of `items`."""
        return Shard(self.work, list(self.items[number * self.size : (number + 1) * self.size]))

    def start(self, number: int) -> int:
        """Items before a shard, or in all where there is no such shard."""
        return min(number * self.size, len(self.items))


# --- in a worker -----------------------------------------------------------------------------------------------------


def compute(shard: Shard, store: Store, library: str, tell: Callable[[int], None]) -> dict[str, Any]:
    """Do a shard, unless that is done already, and return its receipt. tell(rows): called whenever some are written.

    library: the hash of the library that the rows are to be made with. Problem where they cannot be made here.
    """
    if library != hash_of_library():
        raise Problem("it has another version of this library")
    if shard.work.probe is not None and not os.path.exists(shard.work.probe):
        raise Problem(f"it does not see {shard.work.probe}: are the same disks there, under the same paths?")
    try:
        receipt = store.receipt(shard.name)
        return receipt or store.sign(shard.name, _written(shard, store, tell))
    except (SelfieError, OSError) as error:
        raise Problem(str(error)) from error


def _written(shard: Shard, store: Store, tell: Callable[[int], None]) -> dict[str, Any]:
    """Write a shard's rows; what its receipt says."""
    os.environ.setdefault(parallel.CORES, os.environ.get("OMP_NUM_THREADS", "1"))
    began, clock, processor = times.now(), time.monotonic(), time.process_time()
    rows = failed = 0
    with parallel.opencv_threads(1):
        made = shard.work.function(dict(shard.work.parameters), shard.items)
        for count, reasons in store.write(shard.name, shard.work, made):
            rows, failed = rows + count, failed + reasons
            tell(rows)
    if rows != len(shard.items):
        raise ValueError(f"{shard.work.name} made {rows} rows of {len(shard.items)} items")
    return {
        **{"rows": rows, "failed": failed, "bytes": store.size(shard.name)},
        **{"began": began, "ended": times.now(), "seconds": round(time.monotonic() - clock, 3)},
        "cpu_seconds": round(time.process_time() - processor, 3),
        **{"host": socket.gethostname(), "process": os.getpid()},
    }


@cache
def hash_of_library() -> str:
    """Hash of the library's code: workers with other code could give other rows."""
    state = hashlib.sha256()
    for path in sorted(LIBRARY.rglob("*.py")):
        state.update(str(path.relative_to(LIBRARY)).encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


# --- in the driver ---------------------------------------------------------------------------------------------------


def sign_parts(shard: Shard, parts: list[Shard], store: Store) -> None:
    """Write the receipt of a shard that was cut: it says of which shards it consists."""
    receipts = [store.receipt(part.name) or {} for part in parts]
    failed = sum(receipt.get("failed", 0) for receipt in receipts)
    names = [part.name for part in parts]
    store.sign(shard.name, {"rows": len(shard.items), "failed": failed, "parts": names})


def give_up(shard: Shard, store: Store) -> None:
    """Write a shard of one item that ended its worker each time: its row says so."""
    rows = iter([shard.work.failed(ENDED)])
    for _ in store.write(shard.name, shard.work, rows):
        pass
    store.sign(shard.name, {"rows": 1, "failed": 1, "bytes": store.size(shard.name), "ended": times.now()})


def read(name: str, store: Store) -> Iterator[list[Row]]:
    """Yield a shard's rows in blocks, those of its parts where it was cut. Damaged where one is gone or broken."""
    for one in whole(name, store):
        yield from store.read(one)


def whole(name: str, store: Store) -> Iterator[str]:
    """Yield the names of the shards that hold a shard's rows: its own, or those of its parts."""
    parts = (store.receipt(name) or {}).get("parts")
    if parts is None:
        yield name
        return
    for part in parts:
        yield from whole(part, store)


def remove(name: str, store: Store) -> None:
    """Remove a shard and its parts."""
    parts = (store.receipt(name) or {}).get("parts", [])
    store.remove(name)
    for part in parts:
        remove(part, store)
