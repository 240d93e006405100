"""How many pictures one client may have scored: a bucket per address that fills again with time.

Addresses are kept in memory only, and no longer than until their bucket is full again. All addresses of an IPv6 network
of 64 bits are one client: whoever has one of them has all.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from typing import Callable

PER_MINUTE = 60  # pictures
BURST = 20  # pictures at once
CLIENTS = 100_000  # buckets that are kept; beyond, the oldest is forgotten


class Allowance:
    """The buckets of all clients. per_minute: pictures; 0: no limit. burst: pictures that a full bucket holds."""

    def __init__(
        self, per_minute: int = PER_MINUTE, burst: int = BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.per_minute, self.burst = per_minute, burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (pictures left, when)

    def take(self, address: str, pictures: int = 1) -> int:
        """Take pictures out of a client's bucket. Returns 0, or the seconds until there will be enough.

        More than a full bucket holds is taken from a full one, which then needs longer to fill again.
        """
        if not self.per_minute:
            return 0
        now, client = self._clock(), client_of(address)
        left, when = self._buckets.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - when) * self.per_minute / 60)
        missing = min(pictures, self.burst) - left
        enough = missing <= 1e-6  # of a picture, for the rounding of fractions
        self._buckets[client] = (left - pictures if enough else left, now)
        self._forget(now)
        return 0 if enough else math.ceil(missing * 60 / self.per_minute - 1e-6)

    def _forget(self, now: float) -> None:
        """Forget clients, longest unseen first, whose bucket is full again, or that are too many."""
        while self._buckets:
            client, (left, when) = next(iter(self._buckets.items()))
            if left + (now - when) * self.per_minute / 60 < self.burst and len(self._buckets) <= CLIENTS:
                return
            del self._buckets[client]


def client_of(address: str) -> str:
    """Return what stands for a client: an IPv4 address, mapped ones included, or the first 64 bits of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
