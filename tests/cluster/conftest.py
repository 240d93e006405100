"""A cluster of two workers on this machine, which the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

import testlib
from selfie.cluster import connection
from selfie.cluster.connection import Cluster
from selfie.cluster.mapper import Mapper
from selfie.cluster.store import Store

NEEDED = ("distributed", "moto", "s3fs")


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """Skip the tests where packages are missing."""
    for name in NEEDED:
        if find_spec(name) is None:
            testlib.skip("cluster", f"{name} is not installed: pip install -r requirements-dev.txt")


@pytest.fixture(scope="session")
def cluster(packages) -> Iterator[Cluster]:
    """Two worker processes."""
    with connection.local(2) as machines:
        yield machines


@pytest.fixture
def workers(cluster, tmp_path) -> Callable[..., Mapper]:
    """Make what stages call `workers`, with a store below tmp_path: workers(rows of a shard)."""
    return lambda rows=16, place="shards": Mapper(cluster, Store(str(tmp_path / place)), rows)
