"""Contenders of a benchmark in processes of their own: messages as lines of JSON, answered one by one.

A contender's process calls `serve`; the benchmark holds it as a `Contender`. Only the standard library is imported
here: the process may run in another Python, which has a peer's packages and none of ours.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Callable

from selfie.common.errors import SelfieError

TOOLS = Path(__file__).resolve().parents[2]
OUT_OF_MEMORY = re.compile(r"out of (GPU )?memory|ALLOC_FAILED", re.IGNORECASE)  # CUDA, Caffe, cuBLAS, cuDNN, PyTorch


class OutOfMemory(SelfieError):
    """A contender's work does not fit its device's memory."""


def last_words(said: str, code: int) -> str:
    """Why a process ended, from its stderr: glog's fatal line, the last (a traceback's, say), or else its exit code."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4,8} ", line)]
    return (fatal[:1] or lines[-1:] or [f"exit code {code}"])[0]


def failure(what: str, words: str) -> SelfieError:
    """The error to raise for a process with these last words."""
    return (OutOfMemory if OUT_OF_MEMORY.search(words) else SelfieError)(f"{what}: {words}")


class Worker:
    """A process that runs `python -m selfie.<module>` and answers. Leaving the `with` block ends it."""

    def __init__(self, python: str | os.PathLike, module: str, **environment: str) -> None:
        """`environment` is added to ours."""
        self.name = module
        path = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
        self.said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  what it writes to stderr
        self.process = subprocess.Popen(
            [str(python), "-m", f"selfie.{module}"],
            cwd=TOOLS.parent,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )

    def ask(self, action: str, **values: object) -> dict:
        """The answer to a message. SelfieError if the process failed, OutOfMemory if its work did not fit."""
        try:
            print(json.dumps({"action": action, **values}), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._fail(self._last_words())
        found = json.loads(answer)
        if "error" in found:
            self._fail(found["error"])
        return found

    def _fail(self, words: str) -> None:
        raise failure(f"{self.name} failed", words)

    def _last_words(self) -> str:
        """Why the process ended: glog's fatal line, a traceback's last, or its exit code."""
        code = self.process.wait()
        self.said.seek(0)
        return last_words(self.said.read(), code)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it ended already, with a message unread
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()


def serve(actions: dict[str, Callable[..., dict]]) -> None:
    """In the contender's process: answer messages with what actions[message["action"]](**the rest) returns, until
    standard input ends. An exception is an answer, too. What anybody else prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = actions[message.pop("action")](**message)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)
