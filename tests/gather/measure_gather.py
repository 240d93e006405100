"""Measure gathering: posts noted a second, pictures a second, and memory with many rows. Run by hand; not a test.

    PYTHONPATH=tools:tests/gather .venv/bin/python tests/gather/measure_gather.py [--posts N] [--latency SECONDS]
        [--hosts N] [--pictures N] [--rows N]

A server process of its own answers with recorded pages (all fields that Mastodon sends, 2 kB a post) after a latency;
the pictures stand at N hosts (addresses of loopback).
Beside wall time stands the CPU time of the gatherer alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from strict import Strict

from selfie.gather import export, gather
from selfie.gather.ledger import Kept, Ledger, Walk
from selfie.gather.source import Post

PAGE = 40
STEP = 10_000  # rows of a transaction; in a gathering there is one, but fsync would take hours
DAY = 86_400


def serve(pipe, posts: int, pictures: int, latency: float, hosts: int) -> None:
    """A server of recorded pages; sends its port through the pipe."""
    with Strict() as strict:
        status = strict.post(1, age_days=40)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    # A photograph's worth of detail; encoded before anybody measures.
    frame = cv2.GaussianBlur(cv2.resize(noise, (1080, 1080), interpolation=cv2.INTER_CUBIC), (0, 0), 2)
    files = [cv2.imencode(".jpg", np.roll(frame, n * 37, (0, 1)))[1].tobytes() for n in range(pictures)]
    padding = {"content": "<p>" + "x" * 300 + "</p>", "mentions": [], "emojis": [], "card": None, "poll": None}
    person = {
        "display_name": "A",
        "fields": [{"name": "a", "value": "b"}] * 4,
        "avatar": "https://a.example/" + "a" * 60,
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", 1 << 16

        def do_GET(self) -> None:
            time.sleep(latency)
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if "/timelines/" in parts.path:
                top = min(posts + 1, int(query.get("max_id", [posts + 1])[0]))
                numbers = range(top - 1, max(0, top - 1 - PAGE), -1)
            else:
                numbers = [int(one) for one in query.get("id[]", [])]
            if parts.path.startswith("/media/"):
                return self.send(files[int(parts.path[7:-4]) % pictures], "image/jpeg")
            if parts.path == "/robots.txt":
                return self.send(b"User-agent: *\nDisallow: /private\n", "text/plain")
            page = [self.status(number) for number in numbers]
            link = {"Link": f'<http://x/?max_id={page[-1]["id"]}>; rel="next"'} if page else {}
            return self.send(json.dumps(page).encode(), "application/json", link)

        def status(self, number: int) -> dict:
            host = f"127.0.0.{1 + number % hosts}:{self.headers['Host'].rpartition(':')[2]}"
            url = f"http://{host}/media/{number}.jpg"
            account = {**status["account"], **person, "acct": f"user{number % 5000}"}
            media = [{"type": "image", "url": url, "preview_url": url, "meta": {}, "blurhash": "U" * 30}]
            uri = f"https://a.example/users/user{number % 5000}/statuses/{number}"
            return {**status, **padding, "id": str(number), "uri": uri, "account": account, "media_attachments": media}

        def send(self, data: bytes, kind: str, more: dict | None = None) -> None:
            self.send_response(200)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


def peak() -> float:
    """The process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(what: str, count: int, work) -> None:
    """Do the work and print its rate, by wall and by CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{what:32} {count / wall:8.0f}/s wall, {count / cpu:8.0f}/s of CPU, peak memory {peak():.0f} MiB", flush=True
    )


def fill(ledger: Ledger, rows: int, part: int) -> None:
    """Note the part's `rows` posts and keep their pictures, without a network and without files."""
    for start in range(part * rows, (part + 1) * rows, STEP):
        posts = [
            Post(str(n), f"https://a.example/p/{n}", f"user{n % 5000}@a.example", 100, 5, ("selfie", "me"), n)
            for n in range(start, start + STEP)
        ]
        ledger.note("a.example", "selfie", posts, [], Walk("", "", ""), 1e9, 30 * DAY)
        with ledger.step():
            for n in range(start + 1, start + STEP + 1):
                hashed = int.from_bytes(np.random.default_rng(n).bytes(8), "big")
                ledger.like(f"{n:064x}", hashed, 3)
                ledger.keep(n, Kept(f"{n // 1000:04d}/{n:07d}.jpeg", f"{n:064x}", 1080, 1080, hashed))
                ledger.database.execute("UPDATE posts SET likes = 5, observed_at = 1 WHERE key = ?", (n,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("posts", 40_000), ("pictures", 500), ("rows", 1_000_000), ("hosts", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--latency", type=float, default=0.02)
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    given = theirs, args.posts, args.pictures, args.latency, args.hosts
    server = multiprocessing.get_context("spawn").Process(target=serve, args=given, daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    whom = (url, "selfie", "me@example.org", ("127.0.0.1",))
    order = gather.Order(*whom, 30, args.posts, 0, args.hosts, ("127.0.0.0/8",))
    with tempfile.TemporaryDirectory() as folder:
        timed("posts noted", args.posts, lambda: gather.run(order, Path(folder, "a"), "note"))
        few = dataclasses.replace(order, limit=args.pictures)
        gather.run(few, Path(folder, "b"), "note")
        timed("posts revisited, with pictures", args.pictures, lambda: gather.run(few, Path(folder, "b"), "revisit"))
        with Ledger(Path(folder, "c")) as ledger:
            rows = args.rows // 4
            for part in range(4):
                timed(f"rows, part {part + 1} of 4", rows, lambda part=part: fill(ledger, rows, part))
            timed("rows of the manifest", args.rows, lambda: export.manifest(ledger, Path(folder, "manifest.csv")))
    server.kill()


if __name__ == "__main__":
    main()
