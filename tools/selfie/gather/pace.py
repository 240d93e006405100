"""How fast a host is asked: one request at a time, at its own limits and at no more than ours.

A host's limits are those that it names: X-RateLimit-Remaining and -Reset (spread evenly over the time left), and
Retry-After. Times are read against the host's own Date, as its clock need not be ours.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from email.utils import parsedate_to_datetime

from selfie.common import times

LONGEST = 900.0  # seconds that are waited for a host; it is left for later where it asks for more


class Pace:
    """Turns at hosts. `per_second`: requests at most to one host; 0: as fast as it lets us."""

    def __init__(self, per_second: float = 1.0) -> None:
        self.gap = 1 / per_second if per_second else 0.0
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._next: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait for the host's next turn, and keep others from it until the block's end."""
        with self._locks[host]:
            time.sleep(max(0.0, self._next[host] - time.monotonic()))
            try:
                yield
            finally:
                self._next[host] = max(self._next[host], time.monotonic() + self.gap)

    def learn(self, host: str, headers: Message) -> None:
        """Take a host's limits from the headers of its answer."""
        remaining, reset = _number(headers["X-RateLimit-Remaining"]), _seconds_until(headers, "X-RateLimit-Reset")
        if remaining is not None and reset is not None:
            self.hold(host, min(reset / remaining if remaining >= 1 else reset, LONGEST))

    def hold(self, host: str, seconds: float) -> None:
        """Let nobody ask a host before `seconds` from now."""
        self._next[host] = max(self._next[host], time.monotonic() + seconds)


def retry_after(headers: Message) -> float | None:
    """Seconds after which a host wants to be asked again, as its 429 or 503 says; None where it does not."""
    wait = _number(headers["Retry-After"])
    return _seconds_until(headers, "Retry-After", "X-RateLimit-Reset") if wait is None else max(0.0, wait)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text.strip()) else None


def _seconds_until(headers: Message, *names: str) -> float | None:
    """Seconds from the answer's Date to the time in the first of these headers that has one; at least 0."""
    now = _time(headers["Date"]) or time.time()
    moment = next((moment for name in names if (moment := _time(headers[name])) is not None), None)
    return None if moment is None else max(0.0, moment - now)


def _time(text: str | None) -> float | None:
    """Read a time as servers write it: seconds since 1970, ISO 8601, or HTTP's own format."""
    if (number := _number(text)) is not None or text is None:
        return number
    with suppress(ValueError):
        return times.seconds(text)
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(text).timestamp()
    return None
