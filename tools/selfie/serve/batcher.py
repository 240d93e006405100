"""Requests gathered into batches, with a bounded queue before them.

A batch is closed when it is full, or when its first picture has waited for `wait` seconds and the net is idle: while
the net computes, the next batch grows. Only a full one is handed over ahead of time, so that its pictures are decoded
meanwhile; at most two are under way.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable

from selfie.runs.score import Scored
from selfie.serve.metrics import Metrics

LARGEST = 16  # pictures per batch
WAIT = 0.010  # seconds that a picture waits for others while the net is idle
ROOM = 64  # pictures that may wait
UNDER_WAY = 2  # batches: one in the net, one being decoded
MEMORY = 0.2  # weight of the newest batch in the mean time per picture

Score = Callable[[Sequence[bytes]], "list[Scored]"]


class Full(Exception):
    """The queue has no room. retry_after: seconds until it will have, by the time that pictures take now."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("busy: try again later")
        self.retry_after = retry_after


@dataclass
class _Waiting:
    picture: bytes
    answer: asyncio.Future[Scored]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Gathers pictures for `score`, which is called in threads. Make and use it inside a running event loop."""

    def __init__(
        self, score: Score, metrics: Metrics, largest: int = LARGEST, wait: float = WAIT, room: int = ROOM
    ) -> None:
        self._score, self._metrics = score, metrics
        self._largest, self._wait, self._room = largest, wait, room
        self._queue: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._per_picture = 0.0  # seconds, a running mean
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(UNDER_WAY, "batch")
        self._loop = asyncio.get_running_loop()
        self._gatherer = self._loop.create_task(self._gather())

    async def score(self, pictures: Sequence[bytes]) -> list[Scored]:
        """Score pictures, in their order. Full if they find no room; either all are taken or none is."""
        if len(self._queue) + len(pictures) > self._room:
            raise Full(self.retry_after)
        waiting = [_Waiting(picture, self._loop.create_future()) for picture in pictures]
        self._queue.extend(waiting)
        self._metrics.waiting.set(len(self._queue))
        self._changed.set()
        return list(await asyncio.gather(*(one.answer for one in waiting)))

    @property
    def retry_after(self) -> int:
        """Estimate in how many seconds all that waits now will be scored, at least 1."""
        return max(1, math.ceil(self._per_picture * (len(self._queue) + UNDER_WAY * self._largest)))

    async def close(self) -> None:
        """Let the batches under way finish; pictures that still wait are cancelled."""
        self._gatherer.cancel()
        for one in self._queue:
            one.answer.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._threads.shutdown(wait=False)

    async def _gather(self) -> None:
        """Hand over batch after batch."""
        while True:
            await self._until(lambda: bool(self._queue))
            if not self._under_way:
                await self._until(self._full, self._queue[0].since + self._wait - time.monotonic())
            else:
                await self._until(lambda: not self._under_way or (self._full() and len(self._under_way) < UNDER_WAY))
            batch = [self._queue.popleft() for _ in range(min(self._largest, len(self._queue)))]
            self._metrics.waiting.set(len(self._queue))
            if batch := [one for one in batch if not one.answer.done()]:  # its client may have left
                task = self._loop.create_task(self._run(batch))
                self._under_way.add(task)
                task.add_done_callback(self._finished)

    def _full(self) -> bool:
        return len(self._queue) >= self._largest

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._changed.set()

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until something changed so that the condition holds, or the time is over."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                return

    async def _run(self, batch: list[_Waiting]) -> None:
        """Score a batch in a thread; hand out the answers, or the error."""
        start = time.monotonic()
        for one in batch:
            self._metrics.queue_seconds.observe(start - one.since)
        try:
            scored = await self._loop.run_in_executor(self._threads, self._score, [one.picture for one in batch])
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        seconds = time.monotonic() - start
        self._metrics.batch_pictures.observe(len(batch))
        self._metrics.batch_seconds.observe(seconds)
        self._per_picture += (MEMORY if self._per_picture else 1) * (seconds / len(batch) - self._per_picture)
        for one, answer in zip(batch, scored):
            self._metrics.pictures.labels("scored" if answer.error is None else "unreadable").inc()
            if not one.answer.done():
                one.answer.set_result(answer)
