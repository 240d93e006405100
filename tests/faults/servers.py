"""Servers that misbehave: a download is right, or one line; never a wrong file under its name."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faults.outcome import LOST, ONE_LINE, SAME, TRACEBACK, Outcome
from faults.stops import fresh
from selfie.common.download import Source, download
from selfie.common.errors import SelfieError

CONTENT = random.Random(0).randbytes(300_000)
WAYS = (
    *("right", "half", "garbage", "html", "500", "no length", "no range", "wrong range", "too long", "empty", "404"),
    "slow",
)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with CONTENT in one of WAYS: the first part of the path."""

    def do_GET(self) -> None:
        way = self.path.split("/")[1].replace("_", " ")
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        ranged = bool(start) and way not in ("no range", "html", "garbage")
        body = CONTENT[start:] if ranged else CONTENT
        body = {
            "garbage": random.Random(1).randbytes(300_000),
            "html": b"<html>please log in</html>",
            "wrong range": CONTENT[start // 2 :],
            "too long": body + b"more",
            "empty": b"",
        }.get(way, body)
        self.send_response({"500": 500, "404": 404}.get(way, 206 if ranged else 200))
        if way != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if way == "slow":
            for place in range(0, len(body), 30_000):
                self.wfile.write(body[place : place + 30_000])
                time.sleep(0.3)
        else:
            self.wfile.write(body[: len(body) // 2] if way == "half" else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def downloads(folder: Path, seed: int, numbers: range) -> Iterator[Outcome]:
    """Download from each server, from the beginning and with a part that is there, right or wrong."""
    os.environ.pop("SELFIE_MIRROR", None)
    checksum = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    with http.server.ThreadingHTTPServer(("localhost", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for number in numbers:
            for way in WAYS:
                chance = random.Random(f"{seed}/{way}/{number}")
                target = fresh(folder / "downloads") / "file"
                if number:
                    part = CONTENT[: chance.randrange(len(CONTENT))] if number % 2 else chance.randbytes(5000)
                    target.with_name("file.part").write_bytes(part)
                address = f"http://localhost:{server.server_port}/{way.replace(' ', '_')}/file"
                yield Outcome("server", way, number, *_download(Source(address, checksum), target))
        server.shutdown()


def _download(source: Source, target: Path) -> tuple[str, str]:
    """Download, twice if the first try fails, as its message says: (verdict, details)."""
    details = ""
    for _ in range(2):
        try:
            download(source, target)
        except SelfieError as error:
            details = str(error)
        except Exception as error:
            return TRACEBACK, repr(error)
        if target.exists():
            return (SAME, "") if target.read_bytes() == CONTENT else (LOST, "a wrong file under its name")
    return ONE_LINE, details
