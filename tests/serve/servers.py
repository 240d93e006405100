"""Servers for tests: the command as a user starts it, and applications with settings that it has no flags for."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import testlib
from selfie.serve.scorer import Scorer


@dataclass
class Server:
    """A running tools/serve.py: where it answers, the model's name, its process."""

    address: str
    model: str
    process: subprocess.Popen[str]

    def __post_init__(self) -> None:
        self.port = int(re.search(r":(\d+)/$", self.address)[1])

    def children(self) -> list[int]:
        """Return the ids of its child processes."""
        return testlib.children(self.process.pid)


@contextmanager
def serving(run: Path, *options: object, **popen: Any) -> Iterator[Server]:
    """`with serving(folder, "--batch", 4) as server:` runs the command until it has said that it is ready."""
    arguments = ("tools/serve.py", "--run", run, "--port", 0, *options)
    with testlib.started(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **popen) as process:
        line = process.stderr.readline()
        assert "ready" in line, line + process.stderr.read()
        yield Server(line.split(": ")[0], run.name, process)
        process.terminate()
        process.wait(30)


@contextmanager
def application(scorer: Scorer, **parts: Any) -> Iterator[str]:
    """The address of an application in a thread of this process; `parts` of its Service."""
    import uvicorn

    from selfie.serve import web
    from selfie.serve.guard import Protocol
    from selfie.serve.service import Service

    own = {name: parts.pop(name) for name in ("header_seconds", "answer_seconds", "per_client") if name in parts}
    http = type("Own", (Protocol,), {"per_client": 0, **own})
    config = uvicorn.Config(web.build(Service(scorer, **parts)), port=0, http=http, log_config=None, log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    testlib.wait_until(lambda: running.started)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/"
    running.should_exit = True
    thread.join(30)
