"""Posts of an open network, and the small interface of the sources that have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class Post:
    """A post as a server shows it at one moment. Whoever reads one keeps of it only what the ledger has columns for.

    id          the server's own name for it, to ask for it again
    uri         what identifies it on every server
    author      its author's address, user@host; never stored, only its keyed hash is
    followers, likes   at that moment
    tags        without #, in small letters
    posted_at   seconds since 1970
    edited_at   the same, 0 if it never was
    pictures    addresses of its pictures
    licence     where the server names one
    objections  why it is not to be gathered: reasons of selfie.gather.consent
    """

    id: str
    uri: str
    author: str
    followers: int
    likes: int
    tags: tuple[str, ...]
    posted_at: int
    edited_at: int = 0
    pictures: tuple[str, ...] = ()
    licence: str = ""
    objections: tuple[str, ...] = field(default=())


class Page(NamedTuple):
    """A page of a walk through posts, newest first.

    posts       on it
    malformed   entries that are no posts
    cursor      where the next page begins; "" after the last
    newest      where a later walk may end: the first post's id; "" for an empty page
    """

    posts: list[Post]
    malformed: int
    cursor: str
    newest: str


class Source(Protocol):
    """Where posts come from. Errors are SelfieError: what the server refuses, and what to do."""

    host: str

    def page(self, tag: str, cursor: str, until: str) -> Page:
        """Return the page of posts with a tag that begins at `cursor` ("": the newest), none older than `until`."""

    def again(self, ids: list[str]) -> dict[str, Post | None]:
        """Return {id: the post as it is now, None for one that is gone}, at most `batch` of them; an id that is missing
        here cannot be read at the moment.
        """

    @property
    def batch(self) -> int:
        """How many posts `again` reads at a time."""
