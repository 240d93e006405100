"""Times as people write them."""

from __future__ import annotations

import pytest

from selfie.common import times


@pytest.mark.parametrize(
    ("iso", "written"),
    [
        ("2026-11-28T00:21:19+00:00", "28 November 2026, 00:21 UTC"),
        ("2026-11-08T23:30:00-02:00", "9 November 2026, 01:30 UTC"),
        ("2026-01-02T03:04:05", "2 January 2026, 03:04 UTC"),
    ],
)
def test_dates(iso, written):
    assert times.date(iso) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (52.4, "52 s"),
        (60, "1 min"),
        (138, "2 min 18 s"),
        (3600, "1 h"),
        (11105, "3 h 5 min"),
        (86400, "1 day"),
        (187205, "2 days 4 h"),
    ],
)
def test_durations(seconds, written):
    assert times.duration(seconds) == written


@pytest.mark.parametrize(
    "written", ["2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.500000+00:00", "2026-01-02T04:04:05.5000000+01:00"]
)
def test_times_as_servers_write_them(written):
    """With fractions of any length, also on Pythons that read only some."""
    assert times.moment(written).isoformat() == "2026-01-02T03:04:05.500000+00:00"
    assert times.stamp(times.seconds(written)) == "2026-01-02T03:04:05+00:00"


def test_from_one_time_to_another():
    assert times.between("2026-11-28T00:01:19+00:00", "2026-11-28T01:02:11+01:00") == "52 s"


def test_a_clock_that_was_set_back_is_said_to_be():
    assert times.between("2026-11-28T03:00:00+00:00", "2026-11-28T02:59:59+00:00").startswith("an unknown time")
    assert times.between("2026-11-28T03:00:00+00:00", "2026-11-28T03:00:00+00:00") == "0 s"
