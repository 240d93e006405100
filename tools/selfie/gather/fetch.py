"""The guarded fetcher: pictures from addresses that strangers give.

Whoever lets others name an address to fetch can be sent anywhere: into the own network, to a cloud's metadata, to a
stream without end (server-side request forgery; OWASP's cheat sheet lists the ways). `selfie.gather.addresses` says
which addresses are asked, `selfie.gather.transport` how; here the content is judged, by its first bytes and its header
alone. Nothing is decoded: `selfie.data.image` does that, when the picture is used.
"""

from __future__ import annotations

from typing import NamedTuple

from selfie.data import image
from selfie.data.codecs import kinds
from selfie.gather import transport
from selfie.gather.limits import DEFAULTS, FetchError, Limits
from selfie.gather.transport import NO_RULES, Rules

ACCEPT = "image/jpeg, image/png, image/webp, image/*;q=0.8"
REASONS = {  # beginnings of what image.BadImage says -> reason, what to tell
    "empty file": ("empty", "there is nothing at this address"),
    "unknown format": ("not-a-picture", "this is not a picture (JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF)"),
    "JPEG XL": ("not-a-picture", "this is a JPEG XL, which is not read: JPEG or PNG are"),
    **{kinds.unread(kind): ("not-a-picture", f"this is no picture that is read, but {kind}") for kind in kinds.NAMED},
    "over ": ("pixels", "this picture has too many pixels"),
    "": ("broken", "this picture is broken"),
}


class Fetched(NamedTuple):
    """A picture that was fetched.

    url             the final address, after redirects
    data            the file's bytes
    kind            "jpeg", "png", "webp", "gif", "bmp", "tiff", "heic" or "avif", by its first bytes
    width, height   in pixels as the header has them, before any EXIF orientation
    """

    url: str
    data: bytes
    kind: str
    width: int
    height: int


def fetch(url: str, limits: Limits = DEFAULTS, rules: Rules = NO_RULES) -> Fetched:
    """Fetch the picture at an address, http or https. FetchError with a reason where it may not or cannot be had.

    `rules` are the caller's own, asked before each request and before the content is taken.
    """
    answer = transport.get(url, limits, ACCEPT, rules)
    try:
        header = image.header(answer.data)
    except image.BadImage as error:
        raise FetchError(*reason(error)) from error
    return Fetched(answer.url, answer.data, header.kind.lower(), header.width, header.height)


def reason(error: image.BadImage) -> tuple[str, str]:
    """Return a short word for why a picture cannot be used, and what to tell whoever gave its address."""
    return next(REASONS[start] for start in REASONS if str(error).startswith(start))
