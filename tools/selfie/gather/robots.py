"""What a host's robots.txt (RFC 9309) and the headers of an answer say against taking it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from selfie.gather import transport
from selfie.gather.limits import FetchError, Limits

AGENT = "selfie-experiment"  # our product token: what robots.txt may call us by
LARGEST = 512_000  # bytes of a robots.txt; RFC 9309 asks for at least 500 KiB, and for five redirects
FRESH, AGAIN = 86_400, 60  # seconds for which a robots.txt is taken as it was read, or as not to be had
NO = {"noai", "noimageai", "noindex", "noimageindex", "none"}
DIRECTIVE_WITH_VALUE = re.compile(r"(max-snippet|max-image-preview|max-video-preview|unavailable_after)$")


class Robots:
    """The robots.txt of every host that is asked, each read once. Usable as a caller's Rules of the transport."""

    def __init__(self, limits: Limits) -> None:
        self.limits = replace(limits, bytes=LARGEST, redirects=5)
        self._files: dict[str, Any] = {}
        self._expires: dict[str, float] = {}

    @property
    def rules(self) -> transport.Rules:
        """The rules to fetch with."""
        return transport.Rules(self.request, self.answer)

    def request(self, url: str) -> None:
        """FetchError (robots) if the host's robots.txt does not allow this address; (unreachable) while it cannot be
        read: until then nothing is allowed (RFC 9309, 2.3.1.4).
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if time.monotonic() >= self._expires.get(origin, 0):
            self._files[origin] = self._read(f"{origin}/robots.txt")
            self._expires[origin] = time.monotonic() + (AGAIN if isinstance(self._files[origin], FetchError) else FRESH)
        file = self._files[origin]
        if isinstance(file, FetchError):
            raise FetchError("unreachable", f"the host's robots.txt cannot be read: {file}")
        if not file.can_fetch(url, AGENT):
            raise FetchError("robots", "the host's robots.txt does not allow it")

    def _read(self, url: str) -> Any:
        """Read a robots.txt; one that allows all where there is none, and why where it cannot be known."""
        import protego

        try:
            text = transport.get(url, self.limits, "text/plain, */*;q=0.1").data.decode("utf-8", "replace")
        except FetchError as error:
            refused = error.reason == "redirects" if error.status is None else 400 <= error.status < 500
            if not refused or error.status == 429:
                return error
            text = ""
        return protego.Protego.parse(text)

    @staticmethod
    def answer(url: str, headers: Message) -> None:
        """FetchError (robots) if the headers reserve the content: X-Robots-Tag, or TDMRep's tdm-reservation."""
        if says_no(headers.get_all("X-Robots-Tag", [])):
            raise FetchError("robots", "the host's X-Robots-Tag does not allow it")
        if str(headers.get("tdm-reservation", "")).strip() == "1":
            raise FetchError("robots", "the host reserves the rights to mine it (tdm-reservation)")


def says_no(lines: list[str]) -> bool:
    """Tell whether lines of X-Robots-Tag forbid indexing or learning, to everybody or to us.

    A line is "[agent:] directive, directive ..."; an agent's name holds for the directives behind it.
    """
    for line in lines:
        ours = True
        for part in str(line).lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and not DIRECTIVE_WITH_VALUE.search(name.strip()):
                ours, part = name.strip() == AGENT, rest
            if ours and part.strip() in NO:
                return True
    return False
