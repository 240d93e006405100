"""Work for the tests of the cluster that needs no pictures; workers import it from here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from selfie.common.errors import SelfieError
from selfie.common.work import Work


def squares(parameters: dict, items: list[int]) -> Iterator[tuple]:
    """Square numbers; `deadly` ones end the process; every shard leaves a line in `log`."""
    if parameters.get("refuse"):
        raise SelfieError("this machine cannot square")
    with open(parameters["log"], "a") as log:
        log.write(f"{os.getpid()} {len(items)}\n")
    for item in items:
        time.sleep(parameters.get("pause", 0))
        if item in parameters.get("deadly", ()):
            os.kill(os.getpid(), signal.SIGSEGV)
        yield (None, "odd") if item % 7 == 3 else (item * item, None)


def work(folder: Path, **more: object) -> Work:
    """Squares of whole numbers, in batches of 4; those that leave 3 when divided by 7 have none."""
    return Work(
        "squares", squares, {"log": str(folder / "log"), **more}, {"square": int, "why": str}, "why", together=4
    )


def expected(items: range, deadly: tuple[int, ...] = ()) -> list[tuple]:
    """The rows, in this process."""
    ended = "ends the process that reads it"
    return [(None, ended) if n in deadly else (None, "odd") if n % 7 == 3 else (n * n, None) for n in items]
