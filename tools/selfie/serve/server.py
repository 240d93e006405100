"""The server: a socket, uvicorn, signals; from the first picture that was scored to a graceful end."""

from __future__ import annotations

import logging
import resource
import signal
import socket

import uvicorn

from selfie.common.errors import SelfieError
from selfie.serve import web
from selfie.serve.guard import CONNECTIONS_PER_CLIENT, Protocol
from selfie.serve.service import Service

log = logging.getLogger(__name__)

GRACE = 30  # seconds that requests have to finish when the server is asked to end
BACKLOG = 2048
LARGEST_PORT = 65535
CONNECTIONS = 1000  # at a time; beyond, a request is answered with 503


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket, so that who is second learns it before a net is loaded. SelfieError if the address is taken."""
    if port > LARGEST_PORT:  # getaddrinfo would take the rest of a division
        raise SelfieError(f"cannot listen on port {port}: choose a --port up to {LARGEST_PORT}")
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SelfieError(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host") from error
    return found


def address(listening: socket.socket) -> str:
    """Return the address of the page."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def run(service: Service, listening: socket.socket, proxy: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then let the requests under way finish.

    proxy: address of the proxy in front, whose word on clients' addresses is taken; their number of connections is
    then its business.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory holds pictures: it is never dumped
    config = uvicorn.Config(
        web.build(service),
        http=type("Limited", (Protocol,), {"per_client": 0 if proxy else CONNECTIONS_PER_CLIENT}),
        ws="none",
        loop="asyncio",
        lifespan="on",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        server_header=False,
        access_log=False,  # addresses of people, and what they ask for
        log_config=None,
        backlog=BACKLOG,
        log_level="error",
    )
    # uvicorn restores these handlers in the end, and raises the signal that it has caught once more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    listening.listen(BACKLOG)  # from now on nobody is turned away
    log.info("%s: ready, Ctrl-C ends it; before others see it, read docs/ethics.md", address(listening))
    uvicorn.Server(config).run(sockets=[listening])
