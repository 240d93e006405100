"""A server on loopback that sends what a test says, byte for byte: a good answer, or one that no server should give."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Callable

import cv2
import numpy as np

Script = Callable[[socket.socket, bytes], None]  # answers one request


def picture(suffix: str = ".jpg", width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    """Encode a small noisy picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, noise)[1].tobytes()


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Write an HTTP answer; an underscore in a header's name stands for a hyphen. None leaves a header out."""
    fields = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Rude:
    """Answers every connection by `script`, in threads; notes the requests. `with Rude(...) as server:`"""

    def __init__(self, script: Script | bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.script: Script = script if callable(script) else lambda peer, _: peer.sendall(script)
        self.tls, self.requests = tls, list[bytes]()
        self.listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def __enter__(self) -> Rude:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer:
            if self.tls:
                peer = self.tls.wrap_socket(peer, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request and (block := peer.recv(1 << 16)):
                request += block
            self.requests.append(request)
            self.script(peer, request)
            peer.close()
