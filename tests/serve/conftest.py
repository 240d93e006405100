"""Fixtures of the tests of the server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from servers import Server, serving

import testlib
from selfie.gather.fetch import Limits, fetch
from selfie.serve.scorer import Scorer

WEB = ("fastapi", "prometheus_client", "requests", "uvicorn")


@pytest.fixture(scope="session")
def web() -> None:
    """Skip the test where the packages of the page are missing."""
    for name in WEB:
        if find_spec(name) is None:
            testlib.skip("serve", f"{name} is not installed: pip install -r requirements-dev.txt")


@pytest.fixture(scope="session")
def server(web, tiny_run) -> Iterator[Server]:
    """A server of tiny_run without a limit per client, that explains nothing. Shared."""
    with serving(tiny_run.folder, "--per-minute", 0, "--no-explain") as running:
        yield running


@pytest.fixture(scope="module")
def scorer(tiny_run) -> Iterator[Scorer]:
    """A scorer of tiny_run with little patience. Its child may be killed."""
    with Scorer(tiny_run, patience=3) as made:
        yield made


@pytest.fixture
def loopback(web):
    """loopback(folder): an Intake that may fetch from a web server on loopback, and the address that has the folder."""
    from selfie.serve.intake import Intake

    with ExitStack() as stack:

        def serve(folder: Path):
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
            running = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=running.serve_forever, daemon=True).start()
            stack.callback(running.shutdown)
            limits = Limits(ports=frozenset({running.server_port}), allow_networks=("127.0.0.0/8",), seconds=5)
            return Intake(lambda url: fetch(url, limits)), f"http://127.0.0.1:{running.server_port}/"

        yield serve


@pytest.fixture(scope="session")
def files(tiny_lmdb) -> list[Path]:
    """Pictures that tiny_run's test split is of."""
    return sorted((tiny_lmdb.parent / "images").glob("test*"))


@pytest.fixture(scope="session")
def large() -> bytes:
    """A PNG of 3 MB: more than Starlette keeps in memory by itself."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()
