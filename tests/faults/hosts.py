"""Servers on loopback that jobs ask, one with posts and one with weights; they last as long as the campaign."""

from __future__ import annotations

import http.server
import io
import random
import sys
import tarfile
import threading
import time
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "gather"))

from rude import picture
from strict import Strict

POSTS = 24
BLOCK, PAUSE = 1 << 15, 0.02  # bytes of an answer, seconds between two such pieces


@cache
def posts() -> str:
    """The address of a server with Mastodon's API that takes a moment for each answer."""
    server = Strict(latency=0.03)
    for number in range(1, POSTS + 1):
        server.post(number, picture(seed=number % 20), age_days=60 - number, account_bot=number % 7 == 3)
    server.__enter__()
    return server.url


@cache
def archive() -> bytes:
    """A tar as that of VGG-Face, with noise as the weights."""
    content = random.Random(0).randbytes(2_000_000)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("vgg_face_caffe/VGG_FACE.caffemodel")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@cache
def weights() -> str:
    """The address of a server that has the archive, slowly, from any byte on."""
    data = archive()  # the time of packing is in it

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            self.send_response(416 if start >= len(data) else 206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            for place in range(start, len(data), BLOCK):
                self.wfile.write(data[place : place + BLOCK])
                time.sleep(PAUSE)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a killed client
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
