"""Child processes that may die: started, watched, killed when they hang, and started again.

Caffe ends its process where a check fails, and decoders of pictures can do worse. What works on strangers' pictures
therefore runs in a child; its owner holds it as a `Child` and asks it questions, and the child's module calls `serve`.
Between them is a socket. A question is a JSON object and byte strings (pictures); an answer is a JSON object and
nothing else, so that a child that a picture has taken over cannot make its owner unpickle anything.

selfie.common.worker is simpler (lines of JSON, one question at a time, no second life); for pictures it would be slow.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, Callable, NoReturn, Protocol

from selfie.common import interrupts
from selfie.common.errors import SelfieError
from selfie.common.worker import TOOLS, last_words

log = logging.getLogger(__name__)

TICK = 0.2  # seconds between looks at the clock
LAST_LINES = 50  # of a child's stderr that are kept, in memory
LONGEST_PAUSE = 30.0  # seconds before another start of a child that dies at each


class ChildDied(SelfieError):
    """The child ended, or was killed because it hung, before it answered."""


class Child:
    """A process that runs `python -m selfie.<module>`, started again whenever it dies.

    options          handed to the module's `start`
    patience         seconds for one answer; a child that takes longer is killed
    start_patience   seconds for a start, until the child says that it is ready

    `ask` can be called from any thread; questions wait in the child in the order in which they were asked.
    """

    def __init__(self, module: str, options: dict, patience: float = 30, start_patience: float = 300) -> None:
        self.module, self._options = module, options
        self._patience, self._start_patience = patience, start_patience
        self._changed = threading.Condition()
        self._life: _Life | None = None  # the process that can be asked
        self._starting: _Life | None = None
        self._failed: SelfieError | None = None
        self._closed = False
        self.hello: dict = {}  # what the child said when it was ready
        self.restarts = 0
        self._keeper = threading.Thread(target=self._keep, name=f"keeper of {module}", daemon=True)
        self._keeper.start()

    @property
    def ready(self) -> bool:
        """Tell whether a process is there and has said that it is ready."""
        return self._life is not None

    @property
    def pid(self) -> int | None:
        """Return the process's id; None while there is none."""
        life = self._life
        return life.process.pid if life else None

    def wait(self) -> None:
        """Wait until the process is ready. SelfieError if its first start failed; ChildDied if it was closed."""
        self._living()

    def ask(self, question: dict, parts: Sequence[bytes] = ()) -> dict:
        """Send a question, wait for the answer. ChildDied if there will be none."""
        return self._living().ask(question, parts)

    def close(self) -> None:
        """End the process for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            lives = [life for life in (self._life, self._starting) if life]
        for life in lives:
            life.end()
        self._keeper.join()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _living(self) -> _Life:
        """Return the process, after its start if need be."""
        with self._changed:
            self._changed.wait_for(lambda: self._life or self._failed or self._closed)
            if self._failed:
                raise self._failed
            if self._closed or self._life is None:
                raise ChildDied(f"{self.module} was closed")
            return self._life

    def _keep(self) -> None:
        """In a thread of its own: start the process, watch it until it ends, start it again."""
        pause = 0.0
        while not self._closed:
            life = self._starting = _Life(self.module, self._options)
            if self._closed:  # while it was started
                life.end()
            started = life.hello(self._start_patience)
            with self._changed:
                self._starting = None
                if started is not None:
                    self.hello, self._life = started, life
                elif not self.hello and not self._closed:
                    self._failed = SelfieError(life.why)
                self._changed.notify_all()
            if started is not None:
                life.watch(self._patience)
                with self._changed:
                    self._life = None
            life.bury()
            if self._closed or self._failed:
                return
            self.restarts += 1
            pause = 0.0 if life.answered else min(LONGEST_PAUSE, 2 * pause + 0.5)
            log.warning("%s ended (%s): starting it again", self.module, life.why)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause)


class _Life:
    """One process of a Child, from its start to its end."""

    def __init__(self, module: str, options: dict) -> None:
        self.answered = 0
        self.why = ""
        self._connection, theirs = Pipe()
        path = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
        with interrupts.held_back(signal.SIGTERM):  # as `serve` has it, from the beginning
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"selfie.{module}", str(theirs.fileno()), json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        theirs.close()
        self._sending = threading.Lock()
        self._pending: deque[Future[dict]] = deque()  # questions without an answer, oldest first
        self._head_since = time.monotonic()  # when the question that is to be answered next became that
        self._dead = False
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def hello(self, patience: float) -> dict | None:
        """Wait until the child says that it is ready; None if it does not."""
        try:
            message = json.loads(self._connection.recv_bytes()) if self._connection.poll(patience) else None
        except (EOFError, OSError):
            message = None
        if message is not None and "error" not in message:
            return message
        if message is not None:
            self.why = message["error"]
        elif not self._connection.poll(0):  # neither ready nor at its end
            self.why = f"it was not ready after {patience:.0f} seconds"
        return None

    def ask(self, question: dict, parts: Sequence[bytes]) -> dict:
        """Send a question, wait for the answer."""
        future: Future[dict] = Future()
        with self._sending:
            if self._dead:
                raise ChildDied("the process has ended")
            if not self._pending:
                self._head_since = time.monotonic()
            self._pending.append(future)
            with suppress(OSError):  # the watcher will find out, and fail the future
                self._connection.send_bytes(json.dumps({**question, "parts": len(parts)}).encode())
                for part in parts:
                    self._connection.send_bytes(part)
        return future.result()

    def watch(self, patience: float) -> None:
        """Hand out answers until the process ends; kill it if one does not come in time."""
        try:
            while True:
                if self._connection.poll(TICK):
                    answer = json.loads(self._connection.recv_bytes())
                    future = self._pending.popleft()
                    self._head_since = time.monotonic()
                    self.answered += 1
                    future.set_result(answer)
                elif self._pending and time.monotonic() - self._head_since > patience:
                    self.why = f"it hung for {patience:.0f} seconds"
                    return
        except (EOFError, OSError, ValueError, IndexError):  # also what is no answer
            return

    def end(self) -> None:
        """Kill the process: it has nothing to lose. What was asked gets no answer."""
        self.process.kill()

    def bury(self) -> None:
        """Make sure that the process has ended, find out why, and tell those who wait for an answer."""
        self.process.kill()
        code = self.process.wait()
        self._listener.join()
        self.why = self.why or last_words("\n".join(self._lines), code)
        with self._sending:
            self._dead = True
        self._connection.close()
        for future in self._pending:
            future.set_exception(ChildDied(self.why))

    def _listen(self) -> None:
        """Keep the last lines of the process's stderr."""
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self._lines.append(line[:1000].decode(errors="replace"))


# --- in the child ----------------------------------------------------------------------------------------------------


class Work(Protocol):
    """What a child does: `prepare` in one thread, ahead of `compute` in the main thread; both for one question."""

    def hello(self) -> dict:
        """Do one piece of work as a trial; what the owner should know besides."""

    def prepare(self, question: dict, parts: list[bytes]) -> Any:
        """Make of a question what `compute` takes."""

    def compute(self, prepared: Any) -> dict:
        """Answer."""


def serve(start: Callable[..., Work]) -> NoReturn:
    """Answer questions until the owner hangs up. `start(**options)` makes the work.

    Ctrl-C and SIGTERM, which a terminal or a service manager sends to all processes, are the owner's business. Memory
    is never dumped, since it holds pictures. A SelfieError of `start` is told to the owner; any other exception ends
    the process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    owner = Connection(int(sys.argv[1]))
    try:
        work = start(**json.loads(sys.argv[2]))
        _send(owner, work.hello())
    except SelfieError as error:
        _send(owner, {"error": str(error)})
        sys.exit(1)
    prepared: queue.Queue[Any] = queue.Queue(1)
    threading.Thread(target=_receive, args=(owner, work, prepared), daemon=True).start()
    while True:
        _send(owner, work.compute(prepared.get()))


def _receive(owner: Connection, work: Work, prepared: queue.Queue[Any]) -> None:
    """In a thread of the child: receive and prepare questions; end the process with its owner, or on any error."""
    try:
        while True:
            question = json.loads(owner.recv_bytes())
            parts = [owner.recv_bytes() for _ in range(question.pop("parts"))]
            prepared.put(work.prepare(question, parts))
    except (EOFError, ConnectionError):
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _send(owner: Connection, answer: dict) -> None:
    with suppress(BrokenPipeError):  # the owner has ended: the receiver ends this process
        owner.send_bytes(json.dumps(answer).encode())
