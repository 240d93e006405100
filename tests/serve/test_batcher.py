"""Batches: full or after a short wait, in order, never more than there is room for."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib.util import find_spec

import pytest

import testlib
from selfie.runs.score import Scored

if find_spec("prometheus_client") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

from selfie.serve.batcher import Batcher, Full
from selfie.serve.metrics import Metrics


class Net:
    """Answers each picture by its number; holds every batch until `gate` is open; notes the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, pictures):
        self.batches.append([int(one) for one in pictures])
        assert self.gate.wait(20)
        return [Scored("", float(one)) for one in pictures]


def run(test, **settings):
    """Run `await test(batcher, net)` in an event loop of its own."""

    async def inside():
        net = Net()
        batcher = Batcher(net, Metrics(), **settings)
        try:
            return await asyncio.wait_for(test(batcher, net), 30)
        finally:
            net.gate.set()
            await batcher.close()

    return asyncio.run(inside())


def pictures(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_everybody_gets_the_own_answer_and_no_batch_is_too_large():
    """Requests of one and of several pictures, at once."""

    async def test(batcher, net):
        answers = await asyncio.gather(
            *(batcher.score(pictures(*range(10 * n, 10 * n + 1 + n % 5))) for n in range(20))
        )
        for n, answer in enumerate(answers):
            assert [one.score for one in answer] == list(range(10 * n, 10 * n + 1 + n % 5))
        assert sum(map(len, net.batches)) == 60 and max(map(len, net.batches)) == 16

    run(test)


def test_a_lonely_picture_waits_for_others_no_longer_than_it_may():
    """And those that come meanwhile go with it."""

    async def test(batcher, net):
        start = time.monotonic()
        first = asyncio.ensure_future(batcher.score(pictures(1)))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(batcher.score(pictures(2)))
        await asyncio.gather(first, second)
        assert net.batches == [[1, 2]] and 0.3 <= time.monotonic() - start < 5

    run(test, wait=0.3)


def test_a_full_batch_does_not_wait():
    """A wait of a minute would end the test."""

    async def test(batcher, net):
        await asyncio.gather(*(batcher.score(pictures(n)) for n in range(4)))
        assert net.batches == [[0, 1, 2, 3]]

    run(test, largest=4, wait=60)


def test_the_next_batch_grows_while_the_net_computes():
    """Only a full one is handed over ahead, and only one."""

    async def test(batcher, net):
        net.gate.clear()
        asked = [asyncio.ensure_future(batcher.score(pictures(0)))]
        await until(lambda: net.batches)
        asked += [asyncio.ensure_future(batcher.score(pictures(n))) for n in (1, 2, 3)]
        await asyncio.sleep(0.1)
        assert net.batches == [[0]], "three of four wait"
        asked += [asyncio.ensure_future(batcher.score(pictures(n))) for n in range(4, 10)]
        await until(lambda: len(net.batches) > 1)
        await asyncio.sleep(0.1)
        assert net.batches == [[0], [1, 2, 3, 4]], "two are under way"
        net.gate.set()
        await asyncio.gather(*asked)
        assert sorted(number for batch in net.batches for number in batch) == list(range(10))

    run(test, largest=4, wait=0.01)


def test_what_finds_no_room_is_refused_whole():
    """With a time after which there will be room; what waits already is answered."""

    async def test(batcher, net):
        await batcher.score(pictures(0))
        net.gate.clear()
        asked = [asyncio.ensure_future(batcher.score(pictures(n))) for n in range(1, 9)]
        await until(lambda: len(net.batches) == 3)
        asked += [asyncio.ensure_future(batcher.score(pictures(n))) for n in range(9, 15)]
        await asyncio.sleep(0)
        with pytest.raises(Full) as full:
            await batcher.score(pictures(*range(20, 26)))
        assert full.value.retry_after >= 1
        net.gate.set()
        await asyncio.gather(*asked)
        assert sorted(number for batch in net.batches for number in batch) == list(range(15)), (
            "nothing of what was refused"
        )

    run(test, largest=4, room=10)


def test_who_has_left_is_not_scored():
    """His picture is dropped from the queue."""

    async def test(batcher, net):
        net.gate.clear()
        first = asyncio.ensure_future(batcher.score(pictures(0)))
        await until(lambda: net.batches)
        leaving, staying = (asyncio.ensure_future(batcher.score(pictures(n))) for n in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        net.gate.set()
        await asyncio.gather(first, staying)
        assert net.batches == [[0], [2]]

    run(test)


def test_an_error_reaches_all_of_its_batch_and_nobody_else():
    """The next batch is scored."""

    async def test(batcher, net):
        found = await asyncio.gather(*(batcher.score([one]) for one in (b"1", b"x")), return_exceptions=True)
        assert [type(one) for one in found] == [ValueError, ValueError]
        assert [one.score for one in await batcher.score(pictures(3))] == [3]

    run(test)
