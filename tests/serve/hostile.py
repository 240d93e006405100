"""Hostile requests: broken pictures, lying headers, nonsense instead of HTTP, addresses of attack, slow clients.

As a command, `python tests/serve/hostile.py RUN [COUNT]` sends COUNT of them (10,000) to a server of its own, a quarter
made from /openapi.json by schemathesis, and says what has become of the server.
"""

from __future__ import annotations

import json
import random
import re
import socket
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import requests

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tools")]  # as a command

from servers import Server, serving  # noqa: E402

ADDRESSES = (
    *("http://127.0.0.1/", "http://localhost:{port}/", "http://[::1]:{port}/v2", "http://0/", "http://0x7f000001/"),
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
    ),
    *("http://user:pass@localhost/", "http://localhost:22/", "ftp://localhost/", "http://\u2488\u2488/", "http://%31/"),
    *(
        "http://a" + ".a" * 900 + "/",
        "http://[::/",
        "http://\r\nHost: x/",
        "data:,x",
        "\ud83d\ude00",
        "http://x.invalid/",
    ),
)
RAW = (
    b"",
    b"\0" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
    b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
)  # fmt: skip


@dataclass
class State:
    """What must not grow: processes' memory in MiB and open files, and how often a child was started again."""

    memory: float
    files: int
    restarts: int
    processes: tuple[int, ...]


def state(server: Server) -> State:
    """Look at a server and its children."""
    pids = (server.process.pid, *server.children())
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    metrics = requests.get(server.address + "metrics", timeout=30).text
    return State(
        sum(int(re.search(r"VmRSS:\s+(\d+)", text)[1]) for text in status) / 1024,
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        sum(int(float(count)) for count in re.findall(r"^selfie_child_restarts{.*} (.*)$", metrics, re.M)),
        pids,
    )


def broken(generator: random.Random, good: list[bytes]) -> bytes:
    """Break a picture: cut it, turn some bytes, lie in its header, or make a small file of many pixels."""
    data = bytearray(generator.choice(good))
    kind = generator.randrange(5)
    if kind == 0:
        return bytes(data[: generator.randrange(len(data))])
    if kind == 1:
        for _ in range(generator.choice((1, 10, 1000))):
            data[generator.randrange(len(data))] = generator.randrange(256)
    elif kind == 2:
        for _ in range(generator.choice((1, 4))):  # the header, where sizes stand
            data[generator.randrange(min(len(data), 40))] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == 3:
        return bomb(generator.choice((1, 3000, 70_000)), generator.choice((1, 3000, 2**31 - 1)))
    else:
        data += data[: generator.randrange(len(data))]
    return bytes(data)


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises width x height pixels, and holds zeros for some of them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    pixels = zlib.compress(bytes(min(20_000_000, (3 * width + 1) * height)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def good_pictures() -> list[bytes]:
    """Small pictures of every format that OpenCV writes."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    return [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif")]


def attack(server: Server, seed: int, good: list[bytes]) -> int:
    """Send one hostile request; return the status of its answer, 0 where there is none."""
    generator = random.Random(seed)
    kind = generator.choices(("picture", "protocol", "address", "raw", "leaver"), (8, 3, 1, 2, 1))[0]
    if kind == "picture":
        data = broken(generator, good)
        return requests.post(server.address + "score", files={"picture": ("a", data)}, timeout=90).status_code
    if kind == "address":
        address = generator.choice(ADDRESSES).replace("{port}", str(server.port))
        return requests.post(server.address + "score", json={"address": address}, timeout=90).status_code
    if kind == "protocol":
        elements = [broken(generator, good) for _ in range(generator.randrange(1, 5))]
        body = b"".join(len(one).to_bytes(4, "little") + one for one in elements)
        tensor = {"name": "picture", "datatype": "BYTES", "shape": [len(elements)]}
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(body)}}]}).encode()
        length = len(head) + generator.choice((0, 0, 0, 1, -1, 10**9))
        headers = {"Inference-Header-Content-Length": str(length)}
        url = f"{server.address}v2/models/{server.model}/infer"
        return requests.post(url, head + body, headers=headers, timeout=90).status_code
    return _raw(server, generator, good, leaves=kind == "leaver")


def _raw(server: Server, generator: random.Random, good: list[bytes], leaves: bool) -> int:
    """Talk to the socket itself: nonsense, or a form whose sender leaves in the middle or before the answer."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=90) as peer:
        if leaves:
            request = requests.Request("POST", server.address + "score", files={"picture": ("a", good[0])}).prepare()
            head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            whole = f"POST /score HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + request.body
            peer.sendall(whole[: generator.choice((len(whole), generator.randrange(len(whole))))])
            return 0
        peer.sendall(generator.choice(RAW) if generator.random() < 0.8 else generator.randbytes(300))
        peer.shutdown(socket.SHUT_WR)
        answer = re.match(rb"HTTP/1\.1 (\d+)", peer.recv(1 << 16))
        return int(answer[1]) if answer else 0
    return 0


def attacks(server: Server, count: int, seed: int = 0) -> Counter[int]:
    """Send `count` hostile requests from eight clients; count the statuses."""
    good = good_pictures()
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda number: attack(server, seed + number, good), range(count)))


def from_schema(server: Server, count: int, cache: Path) -> int:
    """Let schemathesis make some `count` requests from /openapi.json, and hold the answers against it.

    cache: a folder for what Hypothesis keeps, which would else lie where one stands.
    """
    import hypothesis
    import schemathesis
    from hypothesis import configuration
    from schemathesis import checks

    configuration.set_hypothesis_home_dir(cache)
    names = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
    schema = schemathesis.openapi.from_url(server.address + "openapi.json")
    held = [checks.CHECKS.get_one(name) for name in names]  # those of OpenAPI are there with the first schema
    operations = [result.ok() for result in schema.get_all_operations()]
    sent = 0
    settings = hypothesis.settings(
        max_examples=max(1, count // len(operations)),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for mode in schemathesis.GenerationMode:
        for operation in operations:
            strategy = operation.as_strategy(generation_mode=mode)

            @settings
            @hypothesis.given(case=strategy)
            def check(case: schemathesis.Case) -> None:
                nonlocal sent
                sent += 1
                answer = case.call(timeout=90)
                if answer.status_code != 503 or "busy" not in answer.text:
                    case.validate_response(answer, checks=held)

            with suppress(hypothesis.errors.Unsatisfiable):
                check()
    return sent


def main(run: str, count: str = "10000") -> None:
    with serving(Path(run).resolve(), "--per-minute", 0, "--no-explain") as server:
        good = good_pictures()[1]
        wanted = requests.post(server.address + "score", files={"picture": ("a", good)}).json()
        attacks(server, 300, seed=-1000)  # what is loaded on first use is there now
        before, start = state(server), time.monotonic()
        print(before)
        with tempfile.TemporaryDirectory() as cache:
            sent = from_schema(server, int(count) // 8, Path(cache))
        print(f"{sent} requests made from the schema, {time.monotonic() - start:.0f} s")
        statuses = attacks(server, int(count) - sent)
        print(f"statuses: {dict(sorted(statuses.items()))}, {time.monotonic() - start:.0f} s")
        print(state(server))
        found = requests.post(server.address + "score", files={"picture": ("a", good)}).json()
        print("a good picture still scores the same" if found == wanted else f"WRONG: {found}")


if __name__ == "__main__":
    main(*sys.argv[1:])
