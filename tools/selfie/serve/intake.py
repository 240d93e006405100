"""The way in: a request's body, in memory and within bounds, and the picture that it holds or names.

Nothing is written to a disk: Starlette's own `request.form()` would put every upload above 1 MB into a temporary file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Callable

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from selfie.gather.fetch import Fetched, fetch
from selfie.gather.limits import FetchError

LARGEST_PICTURE = 10_000_000  # bytes
LARGEST_BODY = LARGEST_PICTURE + 100_000  # with what a form puts around a picture
LONGEST_ADDRESS = 2048
SECONDS = 60.0  # for a body to arrive
OPEN = 64  # largest bodies that are held at the same time
FETCHES = 8  # pictures fetched at the same time; as many again may wait
MULTIPART, JSON = "multipart/form-data", "application/json"
WANTED = 'send a form (multipart/form-data) with one file named "picture", or JSON: {"address": "https://..."}'

Fetch = Callable[[str], Fetched]


class Refused(Exception):
    """A request that gets no score: the status, and one line that says why. retry_after: seconds, where that helps."""

    def __init__(self, status: int, why: str, retry_after: int | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after = status, why, retry_after


@dataclass(frozen=True)
class Taken:
    """A picture that came in: the name of the file, or the address, and the bytes."""

    path: str
    data: bytes


class Intake:
    """Takes pictures out of requests; counts what it holds. `fetch` is selfie.gather.fetch's, or a test's."""

    def __init__(self, fetch: Fetch = fetch, seconds: float = SECONDS) -> None:
        self._fetch, self._seconds = fetch, seconds
        self._open = 0
        self._fetching = 0
        self._threads = ThreadPoolExecutor(FETCHES, "fetch")

    @asynccontextmanager
    async def body(self, request: Request, largest: int = LARGEST_BODY) -> AsyncIterator[bytes]:
        """Read a body and hold it inside the block. Refused: too large, too slow, compressed, too many are open."""
        places = -(-largest // LARGEST_BODY)
        if self._open + places > OPEN:
            raise Refused(503, "busy: try again later", 2)
        self._open += places
        try:
            yield await self._read(request, largest)
        finally:
            self._open -= places

    async def picture(self, request: Request, body: bytes) -> Taken:
        """Find the picture in a form's body, or fetch it from the address in a JSON one. Refused if there is none."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == MULTIPART:
            return await _uploaded(request, body)
        if kind == JSON:
            return await self._fetched(_address(body))
        raise Refused(415, WANTED)

    async def _read(self, request: Request, largest: int) -> bytes:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "the body is compressed: send it as it is")
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > largest:
            raise Refused(413, f"more than {largest / 1e6:.0f} MB: send a smaller picture")
        try:
            return await asyncio.wait_for(_gathered(request, largest), self._seconds)
        except asyncio.TimeoutError as error:
            raise Refused(408, f"the picture did not arrive within {self._seconds:.0f} seconds") from error
        except ClientDisconnect as error:
            raise Refused(400, "the connection was closed") from error

    async def _fetched(self, address: str) -> Taken:
        if self._fetching >= 2 * FETCHES:
            raise Refused(503, "too many pictures are being fetched: try again later", 5)
        self._fetching += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, address)
        except FetchError as error:
            raise Refused(422, str(error)) from error
        finally:
            self._fetching -= 1
        return Taken(address, found.data)


async def _gathered(request: Request, largest: int) -> bytes:
    """Put a body together; Refused as soon as it is too large."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > largest:
            raise Refused(413, f"more than {largest / 1e6:.0f} MB: send a smaller picture")
    return bytes(body)


async def _uploaded(request: Request, body: bytes) -> Taken:
    """Find the one file named "picture" in a form."""

    async def stream() -> Any:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=1)
    parser.spool_max_size = len(body) + 1  # all of it stays in memory
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError, LookupError) as error:
        raise Refused(400, "the form is broken: " + WANTED) from error
    async with _closing(form):
        fields = form.multi_items()
        if len(fields) != 1 or fields[0][0] != "picture" or not isinstance(fields[0][1], UploadFile):
            raise Refused(422, WANTED)
        data = await fields[0][1].read()
        if len(data) > LARGEST_PICTURE:
            raise Refused(413, f"more than {LARGEST_PICTURE / 1e6:.0f} MB: send a smaller picture")
        return Taken(fields[0][1].filename or "", data)


@asynccontextmanager
async def _closing(form: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await form.close()


def _address(body: bytes) -> str:
    """Read {"address": "..."}."""
    value = parsed(body)
    address = value.get("address") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(address, str) or not 0 < len(address) <= LONGEST_ADDRESS:
        raise Refused(422, WANTED)
    return address


def parsed(body: bytes) -> object:
    """Parse JSON as the standard has it, without NaN and infinities. Refused if it is none."""

    def refuse(constant: str) -> object:
        raise ValueError(constant)

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
