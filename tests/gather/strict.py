"""A server with what we use of Mastodon's API, on loopback: strict where the mock is lenient, and faulty on demand."""

from __future__ import annotations

import json
import random
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable
from urllib.parse import parse_qs, urlsplit

DAY = 86_400


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Strict:
    """Posts and pictures that a test puts in; `with Strict() as server:`

    statuses   {id: status}, newest = largest id; delete one and it is gone
    media      {path: (bytes, headers)}
    faults     [(path's beginning, status, headers, body)]: each answers one request instead of us
    xrpc       (query, parameters) -> status, value: answers of a server of the AT Protocol
    robots     text of robots.txt; None: there is none
    seen       paths that were asked for; asked: the same behind the User-Agents
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.statuses: dict[int, dict] = {}
        self.media: dict[str, tuple[bytes, dict]] = {}
        self.faults: list[tuple[str, int, dict, bytes]] = []
        self.robots: str | None = None
        self.seen: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}
        self.latency, self.shuffled, self.many = latency, False, True
        self.token: str | None = None
        self.xrpc: Callable[[str, dict], tuple[int, object]] | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # one packet for headers and body: two wait for each other

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 64

            def handle_error(self, *_: object) -> None:  # a killed client
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> Strict:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    # --- what is there -----------------------------------------------------------------------------------------------

    def post(self, number: int, picture: bytes | None = None, age_days: float = 40, **fields: object) -> dict:
        """Put in a post; fields that begin with account_ are its account's. Returns the status, to be changed."""
        user = fields.pop("user", f"user{number}")
        account = {"acct": user, "bot": False, "locked": False, "indexable": True, "noindex": None, "note": "<p>hi</p>"}
        account |= {"followers_count": 100 + number, "group": False, "limited": None, "memorial": None}
        account |= {name[8:]: fields.pop(name) for name in list(fields) if name.startswith("account_")}
        path = f"/media/{number}.jpg"
        if picture is not None:
            self.media[path] = picture, {}
        status = {
            "id": str(number),
            "uri": f"{self.url}/users/{user}/statuses/{number}",
            "visibility": "public",
            "sensitive": False,
            "spoiler_text": "",
            "created_at": iso(time.time() - age_days * DAY),
            "edited_at": None,
            "reblog": None,
            "content": "<p>a word that must not be stored</p>",
            "favourites_count": number % 50,
            "tags": [{"name": "Selfie", "url": ""}, {"name": "me", "url": ""}],
            "media_attachments": [{"type": "image", "url": self.url + path}],
            "account": account,
            **fields,
        }
        self.statuses[number] = status
        return status

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(request.path)
        self.asked.append((request.headers.get("User-Agent", ""), request.path))
        if self.latency:
            time.sleep(self.latency)
        for fault in self.faults:
            if request.path.startswith(fault[0]):
                self.faults.remove(fault)
                return self._send(request, *fault[1:])
        if request.path == "/robots.txt":
            return self._send(request, 404 if self.robots is None else 200, {}, (self.robots or "").encode())
        if request.path in self.media:
            data, headers = self.media[request.path]
            return self._send(request, 200, {"Content-Type": "image/jpeg", **headers}, data)
        if (
            request.path.startswith("/api/")
            and self.token
            and request.headers["Authorization"] != f"Bearer {self.token}"
        ):
            return self._json(request, 401, {"error": "This method requires an authenticated user"})
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        if parts.path.startswith("/xrpc/") and self.xrpc:
            return self._json(request, *self.xrpc(parts.path[6:], query))
        if parts.path.startswith("/api/v1/timelines/tag/"):
            return self._timeline(request, query, parts.path.rsplit("/", 1)[1])
        if parts.path == "/api/v1/statuses" and self.many:
            ids = query.get("id[]", [])
            if len(ids) > 20:
                return self._json(request, 422, {"error": "Too many"})
            return self._json(request, 200, [self.statuses[int(one)] for one in ids if int(one) in self.statuses])
        if parts.path.startswith("/api/v1/statuses/"):
            status = self.statuses.get(int(parts.path.rsplit("/", 1)[1]))
            return self._json(request, 200 if status else 404, status or {"error": "Record not found"})
        return self._json(request, 404, {"error": "not here"})

    def _timeline(self, request: BaseHTTPRequestHandler, query: dict, tag: str) -> None:
        limit = min(40, int(query.get("limit", ["20"])[0]))
        most, least = int(query.get("max_id", [1 << 62])[0]), int(query.get("since_id", [0])[0])
        only_media = query.get("only_media") == ["true"]
        page = []
        for number in sorted(self.statuses, reverse=True):
            status = self.statuses[number]
            if least < number < most and (status["media_attachments"] or not only_media) and len(page) < limit:
                page.append(status)
        link = (
            {"Link": f'<{self.url}/x?max_id={page[-1]["id"]}>; rel="next", <{self.url}/x>; rel="prev"'} if page else {}
        )
        if self.shuffled:
            random.Random(len(self.seen)).shuffle(page)
        self._json(request, 200, page, link)

    def _json(self, request: BaseHTTPRequestHandler, status: int, value: object, headers: dict | None = None) -> None:
        self._send(request, status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def _send(self, request: BaseHTTPRequestHandler, status: int, headers: dict, body: bytes) -> None:
        request.send_response_only(status)
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        for name, value in {"Date": date, **self.headers, **headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
