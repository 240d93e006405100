"""How many pictures a client may have scored, on a clock of the test's own."""

from __future__ import annotations

import pytest

from selfie.serve import allowance
from selfie.serve.allowance import Allowance


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_empties_and_fills_again(clock):
    """After the seconds that are told there is one more picture, and not before."""
    bucket = Allowance(per_minute=6, burst=3, clock=clock)
    assert [bucket.take("192.0.2.1") for _ in range(4)] == [0, 0, 0, 10]
    clock.now += 9.9
    assert bucket.take("192.0.2.1") == 1
    clock.now += 0.2
    assert bucket.take("192.0.2.1") == 0 and bucket.take("192.0.2.1") == 10
    assert bucket.take("192.0.2.2") == 0, "another client's is another"
    clock.now += 1e6
    assert [bucket.take("192.0.2.1") for _ in range(4)] == [0, 0, 0, 10], "never more than full"


def test_refused_requests_cost_nothing(clock):
    """Who asks all the time is not kept out for ever."""
    bucket = Allowance(per_minute=60, burst=1, clock=clock)
    scored = 0
    for _ in range(1000):
        clock.now += 0.1
        scored += bucket.take("192.0.2.1") == 0
    assert scored == pytest.approx(100, abs=2)


def test_a_request_of_many_pictures_costs_many(clock):
    """One larger than the bucket takes a full one, and is paid for later."""
    bucket = Allowance(per_minute=60, burst=10, clock=clock)
    assert bucket.take("192.0.2.1", 16) == 0
    assert bucket.take("192.0.2.1") == 7, "6 owed and 1 wanted"


@pytest.mark.parametrize(
    "first, second, same",
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.10", False),
    ],
)
def test_clients_are_told_apart_by_what_they_cannot_choose(first, second, same):
    assert (allowance.client_of(first) == allowance.client_of(second)) is same


def test_memory_does_not_grow_with_the_clients(clock, monkeypatch):
    """Full buckets are forgotten; of others no more than a number is kept."""
    monkeypatch.setattr(allowance, "CLIENTS", 50)
    bucket = Allowance(per_minute=60, burst=2, clock=clock)
    for number in range(1000):
        clock.now += 0.01
        bucket.take(f"10.0.{number // 250}.{number % 250}")
    assert len(bucket._buckets) <= 51
    clock.now += 100
    bucket.take("192.0.2.1")
    assert len(bucket._buckets) == 1


def test_no_limit_is_none(clock):
    assert not any(Allowance(per_minute=0, clock=clock).take("192.0.2.1") for _ in range(1000))
