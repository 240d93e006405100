"""A guarded GET: the connection goes to the address that was checked, within bounds of time and size.

The standard library's http.client speaks HTTP and TLS; connecting is ours. Each hop is parsed, resolved once and
checked (selfie.gather.addresses), and the socket is connected to a checked address by its number, so a name that
resolves differently a moment later (DNS rebinding) changes nothing; Host, SNI and the certificate's check still have
the name. At the end of the time the socket is shut down from outside, whatever it is doing: a TLS handshake, a header
that drips in, a chunk's extension without end.

Nothing of the environment has a say but the certificates (SSL_CERT_FILE, as everywhere in OpenSSL): no proxies
(http_proxy and the like are not read, a proxy would resolve names by itself), no netrc. No cookies, and no credentials
but a token that the caller gives.
Content-Encoding is neither asked for nor undone: pictures are compressed already, and a bomb stays small.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from email.message import Message
from functools import lru_cache
from typing import Callable, NamedTuple
from urllib.parse import urljoin

from selfie.gather import addresses
from selfie.gather.addresses import Target
from selfie.gather.limits import DEFAULTS, FetchError, Limits

REDIRECTS = (301, 302, 303, 307, 308)
BLOCK = 1 << 16  # bytes read at a time
TRIES = 4  # addresses of a host that are tried


class Rules(NamedTuple):
    """A caller's own rules, each a function that raises FetchError to refuse.

    request   called with the address before each request, also of a redirect
    answer    called with the address and the headers of an answer before its content is taken
    """

    request: Callable[[str], None] = lambda url: None
    answer: Callable[[str, Message], None] = lambda url, headers: None


NO_RULES = Rules()


class Answer(NamedTuple):
    """What a GET brought: the final address, the headers, the content."""

    url: str
    headers: Message
    data: bytes


def get(
    url: str,
    limits: Limits = DEFAULTS,
    accept: str = "*/*",
    rules: Rules = NO_RULES,
    token: str | None = None,
) -> Answer:
    """GET an address within limits, redirects followed. FetchError for everything that goes wrong on the way, and for
    any status but 200. A `token` of one's own goes to the first server (Authorization: Bearer), never on to where it
    redirects.
    """
    deadline = Deadline(limits.seconds)
    for _ in range(limits.redirects + 1):
        target = addresses.parse(url, limits)
        rules.request(target.url)
        answer = _hop(target, limits, deadline, accept, rules, token)
        if isinstance(answer, Answer):
            return answer
        token = None
        url = _joined(target.url, answer)
    raise FetchError("redirects", f"the address leads on and on: more than {limits.redirects} redirects")


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise FetchError("address", "the address leads to one that is none") from error


class Deadline:
    """The moment when a fetch has to be over."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left, more than 0; FetchError (time) if none are."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise FetchError("time", "the address took too long to answer")
        return left


def _hop(
    target: Target, limits: Limits, deadline: Deadline, accept: str, rules: Rules, token: str | None
) -> Answer | str:
    """Ask one server; returns its answer, or the address that it redirects to."""
    try:
        with _connected(target, limits, deadline) as connection:
            connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in (
                ("Host", target.authority),
                ("User-Agent", limits.agent),
                ("Accept", accept),
                ("Accept-Encoding", "identity"),
                ("Connection", "close"),
                *([("Authorization", f"Bearer {token}")] if token else []),
            ):
                connection.putheader(name, value)
            connection.endheaders()
            with connection.getresponse() as response:
                return _read(target, response, limits, deadline, rules)
    except (OSError, http.client.HTTPException, ValueError) as error:
        deadline.left()  # who is cut off for the time sees its connection end
        raise _told(error) from error


def _told(error: Exception) -> FetchError:
    """Say what a failed exchange means, without a word of what stands at the other end."""
    if isinstance(error, ssl.SSLError):
        return FetchError("tls", "no secure connection could be made to the host (its certificate?)")
    if isinstance(error, OSError):  # http.client.RemoteDisconnected is one
        return FetchError("unreachable", "the host does not answer")
    if isinstance(error, http.client.IncompleteRead):
        return FetchError("cut-off", "the connection broke off")
    return FetchError("protocol", "the host does not answer as a web server does")


@contextmanager
def _connected(target: Target, limits: Limits, deadline: Deadline) -> Iterator[http.client.HTTPConnection]:
    """Connect to a checked address of the target; the connection ends with the block, or with the time."""
    found = addresses.resolve(target, limits, deadline.left())[:TRIES]
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0  # it shall not connect by itself
    with closing(connection), _first_socket(found, target.port, deadline) as raw, _ended_at(deadline, raw):
        connection.sock = raw
        if target.scheme == "https":
            connection.sock = _tls().wrap_socket(raw, server_hostname=target.host)
        yield connection


@contextmanager
def _ended_at(deadline: Deadline, connected: socket.socket) -> Iterator[None]:
    """Shut the connection down when the time is over, from a thread, on a handle of its own: TLS takes over ours."""
    with connected.dup() as handle:
        watch = threading.Timer(deadline.left(), _shut, [handle])
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            watch.join()  # it may be at work on the handle right now


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Make the context of TLS once: reading the system's certificates takes 20 ms."""
    return ssl.create_default_context()


def _first_socket(found: list[str], port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first of these addresses that answers; OSError if none does."""
    for number, address in enumerate(found):
        try:
            connected = socket.create_connection((address, port), timeout=deadline.left() / (len(found) - number))
        except OSError as error:
            failure = error
        else:
            connected.settimeout(deadline.left() + 1)  # whatever it waits for, it is shut down before
            return connected
    raise failure


def _shut(handle: socket.socket) -> None:
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


def _read(
    target: Target, response: http.client.HTTPResponse, limits: Limits, deadline: Deadline, rules: Rules
) -> Answer | str:
    """Read an answer's content, or where it redirects to."""
    if response.status in REDIRECTS and (to := response.headers["Location"]):
        return to
    if response.status != 200:
        raise FetchError("status", f"the host answers {response.status}", response.status, response.headers)
    rules.answer(target.url, response.headers)
    too_large = FetchError("size", f"over {limits.bytes / 1e6:g} MB")
    if (response.length or 0) > limits.bytes:
        raise too_large
    blocks, size = [], 0
    while block := response.read(min(BLOCK, limits.bytes + 1 - size)):
        blocks.append(block)
        size += len(block)
        if size > limits.bytes:
            raise too_large
    deadline.left()  # content without a length ends with its connection, and so may the time have ended it
    if response.length:  # http.client's read(n) does not mind
        raise FetchError("cut-off", "the connection broke off")
    return Answer(target.url, response.headers, b"".join(blocks))
