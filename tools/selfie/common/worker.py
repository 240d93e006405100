"""Worker processes that answer messages: lines of JSON over standard input and output, one answer per message.

The worker calls `serve`; its owner holds it as a `Worker`. Only the standard library is imported here: a worker may run
in another Python, which has other packages and none of ours.
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
# As CUDA, Caffe, cuBLAS, cuDNN and PyTorch say it.
OUT_OF_MEMORY = re.compile(r"out of (GPU )?memory|ALLOC(ATION)?_FAILED", re.IGNORECASE)


class OutOfMemory(SelfieError):
    """The work of a worker does not fit into the memory of its device."""


def last_words(stderr: str, code: int) -> str:
    """Reason why a process ended: glog's fatal line, last error or last line in its stderr, else its exit code."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4,8} ", line)]
    errors = [line for line in lines if re.match(r"E\d{4,8} ", line)]
    return (fatal[:1] or errors[-1:] or lines[-1:] or [f"exit code {code}"])[0]


def failure(what: str, words: str) -> SelfieError:
    """Make the error to raise for a process with these last words: OutOfMemory where they speak of it."""
    return (OutOfMemory if OUT_OF_MEMORY.search(words) else SelfieError)(f"{what}: {words}")


class Worker:
    """A process that runs `python -m selfie.<module>` and answers messages. Leaving the `with` block ends it."""

    def __init__(self, python: str | os.PathLike, module: str, **environment: str) -> None:
        """Start the process under the given Python; `environment` is added to ours."""
        self.name = module
        path = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
        self.stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed by __exit__
        self.process = subprocess.Popen(
            [str(python), "-m", f"selfie.{module}"],
            cwd=TOOLS.parent,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._questions, self._answers = self.process.stdin, self.process.stdout

    def ask(self, action: str, **values: object) -> dict:
        """Send a message; return the answer. SelfieError if the process failed, OutOfMemory if its work did not fit."""
        try:
            print(json.dumps({"action": action, **values}), file=self._questions, flush=True)
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise failure(f"{self.name} failed", answer["error"])
        return answer

    def _last_words(self) -> str:
        """Wait for the process to end; return the reason."""
        code = self.process.wait()
        self.stderr.seek(0)
        return last_words(self.stderr.read(), code)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it ended already, with a message unread
            self._questions.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._answers.close()
        self.stderr.close()


def serve(actions: dict[str, Callable[..., dict]]) -> None:
    """In the worker: answer each message by actions[message["action"]](**the rest), until standard input ends.

    An exception becomes the answer {"error": ...}. Whatever else is printed goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = actions[message.pop("action")](**message)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)
