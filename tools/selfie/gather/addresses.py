"""Addresses that strangers give: taken apart strictly, resolved, and every resolved address checked.

Only global unicast passes. The lists are IANA's registries of special-purpose addresses (RFC 6890 and its updates),
spelled out because `ipaddress.is_global` has changed its mind between versions of Python. IPv6 is read the other way
round: only 2000::/3 is global unicast, less what is reserved there. So everything that carries an IPv4 address inside
an IPv6 one is refused, whatever that address is: mapped, compatible, NAT64, 6to4, Teredo.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Union
from urllib.parse import quote, urlsplit

from selfie.gather.limits import FetchError, Limits

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; the clouds' metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
SPECIAL_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
PORTS = {"http": 80, "https": 443}
LONGEST = 2048  # characters of an address
SAFE = "/:?#[]@!$&'()*+,;=%~-._"  # stays as it is in a path or query


@dataclass(frozen=True)
class Target:
    """An address taken apart: what to connect to, and what to ask for there. `path` begins with / and has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The address, normalised."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own: the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, limits: Limits) -> Target:
    """Take an address apart. FetchError (address, scheme, credentials, port, private) unless it is one that may be
    asked as far as can be told without resolving its name.
    """
    url = url.strip(" \t\r\n")
    if len(url) > LONGEST or re.search(r"[\x00-\x20\x7f-\xa0\\]", url):  # urlsplit would remove some of them
        raise FetchError("address", "this is not a web address")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:  # brackets that do not match, a port that is no number, a host that is none in NFKC
        raise FetchError("address", "this is not a web address") from error
    if parts.scheme not in PORTS:
        raise FetchError("scheme", "only http:// and https:// addresses are looked at")
    if "@" in parts.netloc:
        raise FetchError("credentials", "addresses with a user name or a password are not looked at")
    host = _literal_v6(parts.netloc, host) if "[" in parts.netloc else _name(host)
    port = PORTS[parts.scheme] if port is None else port
    if port not in limits.ports:
        raise FetchError("port", "only the web's own ports are looked at")
    literal = as_literal(host)
    if literal is not None:
        check(literal, limits)
    path = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    return Target(parts.scheme, host, port, path if path.startswith("/") else f"/{path}")


def _literal_v6(netloc: str, host: str) -> str:
    """Check what stands between brackets: an IPv6 address, without a zone."""
    try:
        if "%" in host or not re.fullmatch(r"\[[^\[\]]+\](:\d*)?", netloc):
            raise ValueError(netloc)
        return str(ipaddress.IPv6Address(host))
    except ValueError as error:
        raise FetchError("address", "this is not a web address") from error


def _name(host: str) -> str:
    """Bring a host's name to the ASCII that is resolved.

    A host whose last label is a number is an IPv4 address (as browsers have it), and only in four decimal parts:
    resolvers also read 2130706433, 0x7f.1, 0177.0.0.1 and 127.1, each in its own way.
    """
    if not host.isascii():
        import idna  # comes with what asks for addresses: requests, anyio

        try:
            host = idna.encode(host, uts46=True).decode()
        except UnicodeError as error:  # idna.IDNAError is one
            raise FetchError("address", "this is not a web address") from error
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise FetchError("address", "this is not a web address")
    is_number = re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1])
    in_four_parts = isinstance(as_literal(host), ipaddress.IPv4Address) and not re.search(r"(^|\.)0\d", host)
    if is_number and not in_four_parts:
        raise FetchError("address", "this is not a web address")
    return host


def as_literal(host: str) -> Address | None:
    """Return a host that is an IP address as one; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check(address: Address, limits: Limits) -> None:
    """FetchError (private) unless an address is global unicast, or in one of the limits' networks."""
    if not is_public(address) and not any(address in network for network in _networks(limits.allow_networks)):
        raise FetchError("private", "this address is not on the public internet")


def is_public(address: Address) -> bool:
    """Tell whether an address is global unicast and carries no other address inside."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in SPECIAL_V4)
    return address in GLOBAL_V6 and not any(address in network for network in SPECIAL_V6)


@lru_cache(maxsize=64)
def _networks(names: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, names))


def resolve(target: Target, limits: Limits, seconds: float) -> list[str]:
    """Resolve a target's name, once: its addresses in the resolver's order, every one checked.

    FetchError: host where there are none, private if any of them is not public, time after `seconds`. The system's
    resolver knows no time limit, so it works in a thread that is left behind when it is late.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()
    threading.Thread(target=_ask_resolver, args=(target.host, target.port, answers), daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty as error:
        raise FetchError("time", "the address took too long to answer") from error
    if isinstance(found, Exception) or not found:
        raise FetchError("host", "there is no such host")
    for one in found:
        check(ipaddress.ip_address(one.partition("%")[0]), limits)
    return found


def _ask_resolver(host: str, port: int, answers: queue.SimpleQueue) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
    except (OSError, UnicodeError) as error:
        answers.put(OSError(str(error)))
