"""Work done in shards: rows in order, each once, whatever happens to workers, shards and those who read them."""

from __future__ import annotations

import json
import logging
import os
import signal

import pytest
import works

import testlib
from selfie.cluster import shards
from selfie.cluster.shards import Cut
from selfie.cluster.store import Damaged, Store
from selfie.common.errors import SelfieError


def lines(folder) -> list[str]:
    return (folder / "log").read_text().splitlines()


@pytest.mark.parametrize(("count", "start"), [(0, 0), (1, 0), (100, 0), (100, 37), (96, 96)])
def test_rows_come_in_order_from_any_start(workers, tmp_path, count, start):
    rows = list(workers()(works.work(tmp_path), range(count), start))
    assert rows == works.expected(range(start, count))


def test_what_has_a_receipt_is_not_done_again(workers, tmp_path):
    """Not even by another driver; a shard that was damaged or lost since is."""
    mapper, work = workers(), works.work(tmp_path)
    first = list(mapper(work, range(100)))
    assert len(lines(tmp_path)) == 7
    files = sorted((tmp_path / "shards").glob("*.zip"))
    assert len(files) == 7
    receipts = [json.loads(file.with_suffix(".json").read_text()) for file in files]
    assert sorted(receipt["rows"] for receipt in receipts) == [4, *[16] * 6]
    assert sum(receipt["failed"] for receipt in receipts) == sum(row[0] is None for row in first) == 14
    assert [receipt["bytes"] for receipt in receipts] == [file.stat().st_size for file in files]
    assert list(workers()(work, range(100))) == first and len(lines(tmp_path)) == 7
    files[0].write_bytes(files[0].read_bytes()[:-9])  # not of its size
    files[1].unlink()
    content = bytearray(files[2].read_bytes())
    content[len(content) // 2] ^= 255  # of its size
    files[2].write_bytes(content)
    assert list(workers()(work, range(100))) == first
    assert len(lines(tmp_path)) == 10
    mapper.clean()
    assert not (tmp_path / "shards").exists()


def test_a_shard_with_a_changed_bit_is_damaged_or_the_same(tmp_path):
    """Whichever bit of the file it is: a method, a flag, a name, a size, the rows."""
    store, rows = Store(str(tmp_path)), [(number, f"why {number}") for number in range(5)]
    list(store.write("one", works.work(tmp_path), iter(rows)))
    content, damaged = (tmp_path / "one.zip").read_bytes(), 0
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "one.zip").write_bytes(changed)
        try:
            assert [row for block in store.read("one") for row in block] == rows
        except Damaged:
            damaged += 1
    assert damaged > 4 * len(content)


def test_shards_are_named_by_all_that_their_rows_depend_on(tmp_path):
    work = works.work(tmp_path)
    names = {Cut(work, range(100), rows)[number].name for rows in (16, 32) for number in range(2)}
    names |= {Cut(works.work(tmp_path, pause=1), range(100), 16)[0].name}
    assert len(names) == 5
    assert Cut(work, list(range(1000)), 16)[1].name in names


@pytest.mark.parametrize(
    ("items", "size", "count"), [(1, 128, 1), (5000, 156, 33), (10**6, 2048, 489), (10**8, 2048, 48829)]
)
def test_shards_are_as_large_as_the_number_of_items_suggests(tmp_path, items, size, count):
    """So that few are shared among workers, and many make no crowd. Counting them takes no time."""
    cut = Cut(works.work(tmp_path), range(items))
    assert (cut.size, len(cut)) == (size, count)
    assert cut[count - 1].items[-1] == items - 1


def test_the_one_item_that_ends_its_worker_is_left_out(workers, tmp_path, caplog):
    """All others have their rows, and the next run knows without another death."""
    work = works.work(tmp_path, deadly=[45])
    with caplog.at_level(logging.WARNING):
        rows = list(workers(32)(work, range(64)))
    assert rows == works.expected(range(64), deadly=(45,))
    assert "45 ended 3 workers: it is left out" in caplog.text
    done = len(lines(tmp_path))
    assert list(workers(32)(work, range(64))) == rows
    assert len(lines(tmp_path)) == done


def test_a_worker_that_dask_has_given_up_is_replaced(cluster):
    """Dask forgets one for good that does not come back in time, as on a crowded machine."""
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0s"}):
        os.kill(next(iter(cluster.client.run(os.getpid).values())), signal.SIGKILL)
        testlib.wait_until(lambda: len(cluster.client.cluster.workers) == 1)
    testlib.wait_until(lambda: cluster.ready() == 2)


def test_work_that_no_worker_can_do_is_one_error(workers, tmp_path):
    with pytest.raises(SelfieError, match="this machine cannot square"):
        list(workers()(works.work(tmp_path, refuse=True), range(40)))


def test_a_worker_that_does_not_see_the_pictures_refuses(tmp_path):
    from dataclasses import replace

    from selfie.cluster.store import Store

    work = replace(works.work(tmp_path), probe=str(tmp_path / "not-mounted" / "a.jpg"))
    shard = Cut(work, range(8))[0]
    with pytest.raises(shards.Problem, match=r"does not see .*not-mounted"):
        shards.compute(shard, Store(str(tmp_path)), shards.hash_of_library(), print)
    with pytest.raises(shards.Problem, match="another version"):
        shards.compute(shard, Store(str(tmp_path)), "0", print)
