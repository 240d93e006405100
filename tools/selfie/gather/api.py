"""JSON from a server's API: guarded, paced, tried again where trying again may help."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from selfie.common import times
from selfie.common.errors import SelfieError
from selfie.gather import pace, transport
from selfie.gather.limits import FetchError, Limits
from selfie.gather.pace import Pace
from selfie.gather.robots import Robots

log = logging.getLogger(__name__)
TRIES = 5
TEMPORARY = ("host", "unreachable", "cut-off", "time", "protocol")


class Json(NamedTuple):
    """An answer of an API: the parsed content, and the headers."""

    value: Any
    headers: Message


class Api:
    """An API below `base` (https://host). Its answers are bounded by `limits`, no redirect is followed."""

    def __init__(self, base: str, limits: Limits, robots: Robots, pace: Pace, token: str | None = None) -> None:
        self.base, self.host = base.rstrip("/"), urlsplit(base).netloc
        self.limits = replace(limits, redirects=0)
        self.robots, self.pace, self.token = robots, pace, token

    def get(self, path: str, parameters: list[tuple[str, str]] | None = None) -> Json:
        """GET base + path. FetchError with its status where the server refuses; SelfieError where it does not answer,
        or asks for more patience than pace.LONGEST.
        """
        url = f"{self.base}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        problem = ""
        for attempt in range(TRIES):
            try:
                return self._once(url)
            except (FetchError, ValueError) as error:  # ValueError: not JSON, or not UTF-8
                status = error.status if isinstance(error, FetchError) else None
                if isinstance(error, FetchError) and not _may_pass(error):
                    raise
                problem = str(error) if isinstance(error, FetchError) else "its answer is not JSON"
                wait = pace.retry_after(error.headers) if isinstance(error, FetchError) else None
            if attempt + 1 < TRIES:
                self._be_patient(2.0**attempt if wait is None else wait, status)
        raise SelfieError(f"{self.host}: {problem}, {TRIES} times: run the same command later, it goes on from here")

    def _once(self, url: str) -> Json:
        with self.pace.turn(self.host):
            try:
                answer = transport.get(url, self.limits, "application/json", self.robots.rules, self.token)
            except FetchError as error:
                self.pace.learn(self.host, error.headers)
                raise
            self.pace.learn(self.host, answer.headers)
        try:
            return Json(json.loads(answer.data), answer.headers)
        except RecursionError as error:  # brackets without end
            raise ValueError("nested too deeply") from error

    def _be_patient(self, wait: float, status: int | None) -> None:
        if wait > pace.LONGEST:
            raise SelfieError(
                f"{self.host} asks to wait {times.duration(wait)}: run the same command then, it goes on from here"
            )
        if wait >= 5:
            log.info("%s%s: waiting %s", self.host, f" answers {status}" if status else "", times.duration(wait))
        time.sleep(wait)


def _may_pass(error: FetchError) -> bool:
    """Tell whether the same request may succeed later."""
    if error.status is None:
        return error.reason in TEMPORARY
    return error.status == 429 or error.status >= 500
