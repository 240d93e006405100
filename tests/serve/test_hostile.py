"""A slice of the hostile requests of hostile.py, which sends ten thousand of them by hand."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import testlib

if find_spec("fastapi") is None or find_spec("schemathesis") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import hostile
import requests


@pytest.fixture
def unharmed(server):
    """After the test the server is as it was: its processes, open files, memory, and the score of a good picture."""
    good = hostile.good_pictures()[1]

    def scored() -> dict:
        return requests.post(server.address + "score", files={"picture": ("a", good)}).json()

    hostile.attacks(server, 40, seed=-1000)  # what is loaded on first use is there now
    wanted, before = scored(), hostile.state(server)
    yield
    assert scored() == wanted
    testlib.wait_until(lambda: hostile.state(server).files <= before.files + 2)
    after = hostile.state(server)
    assert (after.processes, after.restarts) == (before.processes, before.restarts)
    assert after.memory < before.memory + 100


def test_hostile_requests_end_no_process_and_leak_nothing(server, unharmed):
    """Broken pictures, bombs, nonsense, addresses of attack, clients that leave: an answer of the 4xx, if any."""
    statuses = hostile.attacks(server, 120)
    assert set(statuses) <= {0, 200, 400, 404, 405, 408, 413, 415, 422, 431, 503}, statuses
    assert statuses[422] > 20 and statuses[400] > 5


def test_answers_are_those_that_the_schema_promises(server, unharmed, tmp_path):
    """Requests made from /openapi.json, right ones and wrong ones: never a 5xx, never an answer that is not in it."""
    assert hostile.from_schema(server, 50, tmp_path) >= 30
