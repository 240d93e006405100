"""Mentions and answers: the small interface of a social network, and how it may fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from selfie.common.errors import SelfieError


@dataclass(frozen=True)
class Mention:
    """A post that mentions the bot.

    id          the network's own name for it
    post        the id of the post, to answer it
    author      the id of its author's account
    name        what its author is called by in an answer, without @
    bot         its author says to be a program
    reply       it answers another post
    visibility  who can read it: public, unlisted, private or direct; anything else counts as direct
    text        what it says, without mentions of accounts and without addresses
    pictures    addresses of the pictures that its author has attached, or else linked, in their order
    """

    id: str
    post: str
    author: str
    name: str
    bot: bool
    reply: bool
    visibility: str
    text: str
    pictures: tuple[str, ...]


class Later(Exception):
    """The network does not answer, or asks for patience: what was asked for may have been done, or not.

    seconds  after which to try again
    """

    def __init__(self, message: str, seconds: float = 30.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Gone(Exception):
    """What was to be answered is not there any more, or may not be answered."""


class Network(Protocol):
    """A network with an account of the bot's. All but `wait` raise Later; SelfieError where only its user can help."""

    account: str  # the id of the bot's own account
    links: bool  # answers may have a link in them

    def newest(self) -> str:
        """Return the id of the newest mention, "" where there is none."""

    def mentions(self, after: str) -> list[Mention]:
        """Return all mentions that came after the one with that id, oldest first; "": all that there are."""

    def answered(self, post: str) -> str | None:
        """Return the id of the bot's own answer to a post, None where it has none. Gone."""

    def answer(self, post: str, text: str, visibility: str, key: str) -> str:
        """Answer a post and return the id of the answer. Of calls with the same key only one counts. Gone."""

    def wait(self, seconds: float) -> None:
        """Wait that long, or until a mention may have come."""


class TokenError(SelfieError):
    """The network does not accept the access token, or what it is for."""
