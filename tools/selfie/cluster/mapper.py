"""Work done by a cluster: shards given out in a window, their rows read back in order, whatever happens to workers.

The driver holds no rows: workers write shards into the store, the driver reads one after the other. What is done stands
in receipts, so a driver, a scheduler or a worker that is killed costs the shards that were under way. A shard that ends
its worker is cut into parts, and those into parts again, until the one item is found that does so.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from selfie.cluster import connection, shards
from selfie.cluster.connection import Cluster
from selfie.cluster.shards import Cut, Shard
from selfie.cluster.store import Damaged, Store
from selfie.common import places
from selfie.common.errors import SelfieError
from selfie.common.names import shown
from selfie.common.work import Items, Row, Work

WINDOW = 3  # shards under way or waiting, for each worker
DEATHS = 3  # of workers at a single item, until it is left out
ASK = 5  # seconds after which the workers are counted again
READINGS = 3  # of a shard that is damaged or vanishes, each made again

log = logging.getLogger(__name__)


@contextmanager
def workers(
    scheduler: str | None, count: int | None, place: str | os.PathLike, rows: int | None = None
) -> Iterator[Mapper | None]:
    """Provide what stages call `workers`, or None where neither a scheduler nor a count of local workers is given.

    place    folder or address of the shards, removed when the block ends well
    rows     of a shard
    SelfieError where Dask is not installed, or no scheduler answers.
    """
    if scheduler is None and count is None:
        yield None
        return
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise SelfieError(f"workers need Dask ({error}): .venv/bin/pip install -r requirements-cluster.txt") from error
    store = Store(places.absolute(place))
    with _reaching(store):
        store.receipts()  # before workers are started
    with connection.remote(scheduler) if scheduler is not None else connection.local(count or 1) as cluster:
        mapper = Mapper(cluster, store, rows)
        yield mapper
        mapper.clean()


@contextmanager
def _reaching(store: Store) -> Iterator[None]:
    """Turn the errors of a store at an address into a SelfieError; those of a folder have a file's name already."""
    try:
        yield
    except OSError as error:
        if not places.is_address(store.place):
            raise
        raise SelfieError(
            f"{store.place} cannot be reached: {error}; the same command goes on where it stopped"
        ) from error


@dataclass
class Mapper:
    """Does work on a cluster: the `Workers` of common/work."""

    cluster: Cluster
    store: Store
    rows: int | None = None
    used: list[str] = field(default_factory=list)  # shards whose rows were read

    def __call__(self, work: Work, items: Items, start: int = 0) -> Iterator[Row]:
        """Yield the rows of items[start:], in order. SelfieError where no worker can do the work."""
        with _reaching(self.store):
            job = _Job(self, work, items, start)
            try:
                yield from job.rows()
            finally:
                job.end()

    def clean(self) -> None:
        """Remove the shards that were read."""
        for name in self.used:
            shards.remove(name, self.store)
        self.store.close()


class _Job:
    """One work under way."""

    def __init__(self, mapper: Mapper, work: Work, items: Items, start: int) -> None:
        self.mapper, self.cluster, self.store = mapper, mapper.cluster, mapper.store
        self.cut, self.first = Cut(work, items, mapper.rows), start
        self.next = start // self.cut.size  # the first shard that was not looked at yet
        self.names: dict[int, str] = {}  # of shards that were, and are not read yet
        self.known = self.store.receipts()
        self.done: set[str] = set()
        self.todo: deque[Shard] = deque()  # again, or a part
        self.under_way: dict[Any, Shard] = {}  # by future
        self.cuts: list[_Parts] = []
        self.deaths: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.refusals: dict[str, str] = {}  # worker -> why it cannot work
        self.finished = self.cut.start(self.next)  # items
        self.window, self.asked = WINDOW * self.cluster.ready(), time.monotonic()
        self.bar = tqdm(total=len(items), initial=self.finished, desc=work.name, unit="picture", disable=None)

    # --- rows in order ---

    def rows(self) -> Iterator[Row]:
        skip, first = self.first - self.cut.start(self.next), self.next
        self.mapper.used.extend(self.cut[number].name for number in range(first))  # read by the run before
        for number in range(first, len(self.cut)):
            yield from self._rows_of(number, skip)
            skip = 0

    def _rows_of(self, number: int, skip: int) -> Iterator[Row]:
        """Yield the rows of a shard, but its first `skip`, when it is done; make it again where it is damaged."""
        for _ in range(READINGS):
            name = self._wait_for(number)
            self.mapper.used.append(name)
            try:
                for row in self._read(name, skip):
                    skip += 1
                    yield row
                self.done.discard(name)
                del self.names[number]
                return
            except Damaged as damage:
                log.warning("shard %s is damaged (%s): it is made again", name, damage)
                shards.remove(name, self.store)
                self.done.discard(name)
                self.known -= {name}
                shard = self.cut[number]
                self.finished -= len(shard.items)
                self.todo.append(shard)
        raise SelfieError(f"shard {name} in {self.store.place} is damaged each time that it is made: is the disk well?")

    def _read(self, name: str, skip: int) -> Iterator[Row]:
        for block in shards.read(name, self.store):
            yield from block[skip:]
            skip = max(0, skip - len(block))
            self._turn(0)  # workers shall not wait for whoever takes the rows

    def _wait_for(self, number: int) -> str:
        """Wait until a shard is done; return its name."""
        self._turn(0)
        while self.names.get(number) not in self.done:
            self._turn(1)
        return self.names[number]

    # --- shards under way ---

    def _turn(self, seconds: float) -> None:
        """Give out shards, and take what is done; wait up to `seconds` for something to be."""
        from distributed import TimeoutError, wait

        try:
            if time.monotonic() - self.asked > ASK:
                self.window, self.asked = WINDOW * self.cluster.ready(), time.monotonic()
            self._give_out()
            if seconds and self.under_way:
                wait(list(self.under_way), timeout=seconds, return_when="FIRST_COMPLETED")
        except (TimeoutError, CancelledError):
            pass
        except OSError:
            if self.cluster.alive:
                raise
        if not self.cluster.alive:
            self._start_over()
        for future in [future for future in self.under_way if future.done()]:
            self._take(future, self.under_way.pop(future))
        self._show()

    def _give_out(self) -> None:
        while len(self.under_way) < self.window and (self.todo or self.next < len(self.cut)):
            if not self.todo:
                self.todo.append(self.cut[self.next])
                self.names[self.next] = self.todo[0].name
                self.next += 1
            shard = self.todo[0]
            if shard.name not in self.done:
                if shard.name in self.known and self.store.receipt(shard.name):
                    self.finished += len(shard.items)
                    self._done(shard)
                else:
                    self.attempts[shard.name] += 1
                    future = self.cluster.submit(shard, self.store, self.attempts[shard.name], self.refusals)
                    self.under_way[future] = shard
            self.todo.remove(shard)

    def _take(self, future: Any, shard: Shard) -> None:
        """Take what came of a shard: its receipt, a problem of its worker's, the worker's death, or nothing."""
        from distributed import KilledWorker

        if self.store.receipt(shard.name):  # whatever Dask says: its worker may have ended since
            self.finished += len(shard.items)
            self._done(shard)
            return
        if future.status in ("cancelled", "lost"):  # its scheduler has gone, or is another one
            self.todo.appendleft(shard)
            return
        try:
            told = future.result()
            self._refused(shard, told["worker"], told.get("problem", "what it has written is not there"))
        except KilledWorker:
            self._killed(shard)
        except CancelledError:
            self.todo.appendleft(shard)
        except ModuleNotFoundError as error:
            raise SelfieError(f"the workers at {self.cluster.where} lack a package: {error}") from error

    def _done(self, shard: Shard) -> None:
        self.done.add(shard.name)
        self.cluster.progress.pop(shard.name, None)
        for cut in list(self.cuts):
            cut.left.discard(shard.name)
            if not cut.left:
                self.cuts.remove(cut)
                shards.sign_parts(cut.shard, cut.parts, self.store)
                self._done(cut.shard)

    def _refused(self, shard: Shard, worker: str, reason: str) -> None:
        """A worker cannot do it: give this and all other shards to others. SelfieError where there is none."""
        log.warning("the worker %s gets no more shards: %s", worker, reason)
        self.refusals[worker] = reason
        if self.refusals.keys() >= self.cluster.workers().keys():
            raise SelfieError(reason)
        self.todo.appendleft(shard)

    def _killed(self, shard: Shard) -> None:
        """A shard's worker has ended: cut it, or leave its one item out if that has happened often enough."""
        self.deaths[shard.name] += 1
        if shard.is_batch and self.deaths[shard.name] < DEATHS:  # perhaps it was not the shard's fault
            self.todo.append(shard)
        elif len(shard.items) > 1:
            log.warning("a worker ended at %d pictures: they are tried in smaller parts", len(shard.items))
            parts = shard.parts()
            self.cuts.append(_Parts(shard, parts, {part.name for part in parts}))
            self.known = self.store.receipts()  # of parts, from the last time that it happened
            self.todo.extendleft(reversed(parts))
        else:
            item = shard.items[0] if not isinstance(shard.items[0], (list, tuple)) else shard.items[0][0]
            log.warning("%s ended %d workers: it is left out", shown(str(item)), DEATHS)
            shards.give_up(shard, self.store)
            self.finished += 1
            self._done(shard)

    def _start_over(self) -> None:
        """The scheduler has gone, and what it knew: give all shards under way to the next one."""
        self.todo.extendleft(self.under_way.values())
        self.under_way.clear()
        self.cluster.reconnect()
        self.cluster.ready()
        self.known = self.store.receipts()  # some were done meanwhile

    def _show(self) -> None:
        """Move the bar to where all workers are together."""
        under_way = sum(self.cluster.progress.get(shard.name, 0) for shard in self.under_way.values())
        self.bar.update(self.finished + under_way - self.bar.n)

    def end(self) -> None:
        """Take back what is under way, and end the bar."""
        if self.cluster.alive:
            self.cluster.withdraw(list(self.under_way))
        self.bar.close()


@dataclass
class _Parts:
    """A shard that was cut. left: names of parts that are not done."""

    shard: Shard
    parts: list[Shard]
    left: set[str]
