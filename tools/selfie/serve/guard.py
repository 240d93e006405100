"""Around every request: the headers of every answer, the client's allowance of time and connections, the metrics."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from selfie.serve.metrics import Metrics

HEADER_SECONDS = 10.0  # from a connection to the end of its request's headers
ANSWER_SECONDS = 60.0  # for a client to take an answer that it has stopped reading
CONNECTIONS_PER_CLIENT = 256  # closed ones count until the event loop has noticed


class Guard:
    """ASGI middleware: adds headers to every answer, counts and times it by its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: dict[str, str]) -> None:
        self._app, self._metrics = app, metrics
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # not the path: strangers invent those without end
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.monotonic() - start)


class Protocol(H11Protocol):
    """uvicorn's protocol, which closes connections that are slow with their headers, or too many of one client's."""

    per_client = CONNECTIONS_PER_CLIENT  # 0: no limit
    header_seconds, answer_seconds = HEADER_SECONDS, ANSWER_SECONDS
    _clients: ClassVar[Counter[str]] = Counter()  # address -> open connections, of the whole process

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._counted = self.client[0] if self.client else ""
        self._clients[self._counted] += 1
        self._waited: Any = None
        if self.per_client and self._clients[self._counted] > self.per_client:
            transport.close()
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        self._clients[self._counted] -= 1
        if not self._clients[self._counted]:
            del self._clients[self._counted]

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        before = self.cycle
        self._expect_headers()
        super().on_response_complete()
        if self.cycle is not before:  # the next request was there already
            self._stop_waiting()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._close_after(self.answer_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting()

    def _expect_headers(self) -> None:
        """Close the connection unless a request's headers are complete in time."""
        self._close_after(self.header_seconds)

    def _close_after(self, seconds: float) -> None:
        self._stop_waiting()
        self._waited = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waited is not None:
            self._waited.cancel()
            self._waited = None
