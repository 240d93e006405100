"""The bot's work: note each mention once, look at its picture, answer it once.

A mention is answered within one poll and one score. Whatever is killed, or cut off, when: after it the ledger and the
network together say what is left to do, and no mention gets a second answer.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from selfie.data.label_rule import AUDIENCE, MEANINGS, Meaning
from selfie.gather import fetch
from selfie.gather.limits import DEFAULTS, FetchError, Limits
from selfie.runs.score import Scored
from selfie.serve.bot import words
from selfie.serve.bot.ledger import Entry, Ledger
from selfie.serve.bot.network import Gone, Later, Mention, Network

log = logging.getLogger(__name__)

DAY = 86_400.0
STOP = re.compile(r"\W*(stop|unsubscribe)\b", re.IGNORECASE)
START = re.compile(r"\W*start\b", re.IGNORECASE)
ALMOST_SQUARE = 1.02  # longer side through shorter side


class Scorer(Protocol):
    """What the bot needs of selfie.serve.scorer."""

    def score(self, pictures: Sequence[bytes]) -> list[Scored]:
        """Score the bytes of image files."""


@dataclass(frozen=True)
class Settings:
    """How the bot behaves.

    poll      seconds between looks at the network
    per_account, per_day   answers in 24 hours, to one account and to all; what is over is left, without a word
    about     address where more is said about scores, "" for none
    limits    of the fetches of pictures
    labels    what the run's labels mean
    """

    poll: float = 20.0
    per_account: int = 10
    per_day: int = 1000
    about: str = ""
    limits: Limits = DEFAULTS
    labels: Meaning = MEANINGS[AUDIENCE]


class Bot:
    """The bot of an account. It may be killed at any moment, and goes on where it was."""

    def __init__(self, network: Network, ledger: Ledger, scorer: Scorer, settings: Settings) -> None:
        self.network, self.ledger, self.scorer, self.settings = network, ledger, scorer, settings

    def run(self) -> NoReturn:
        """Answer mentions until somebody ends it. What the network cannot do now is tried again later."""
        while True:
            try:
                self.once()
                pause = self.settings.poll
            except Later as problem:
                pause = max(problem.seconds, self.settings.poll)
                log.warning("%s: trying again in %.0f s", problem, pause)
            self.network.wait(pause)

    def once(self) -> None:
        """Note the mentions that have come, finish all that are open, and keep nothing of those that are finished."""
        self.note()
        for entry in self.ledger.open():
            self.finish(entry)
        self.ledger.overwrite()

    def note(self) -> None:
        """Note new mentions. The first time only where they begin: what was said before the bot came is no question."""
        after = self.ledger.setting("after")
        if after is None:
            newest = self.network.newest()
            with self.ledger.step():
                self.ledger.set("after", newest)
            return
        for mention in self.network.mentions(after):
            with self.ledger.step():
                self.ledger.note(mention, "?" in mention.text, self.why_left(mention))
                self.ledger.set("after", mention.id)

    def why_left(self, mention: Mention) -> str | None:
        """Tell why a mention gets no answer, None if it gets one; remember who says stop or start."""
        if mention.author == self.network.account:
            return "own"
        if mention.bot:
            return "bot"
        if STOP.match(mention.text) or START.match(mention.text):
            self.ledger.stop(mention.author, bool(STOP.match(mention.text)))
            return "stop or start"
        if self.ledger.has_stopped(mention.author):
            return "stopped"
        if mention.reply and not mention.pictures and "?" not in mention.text:
            return "nothing asked"
        since = time.time() - DAY
        if self.ledger.answers_since(since, mention.author) >= self.settings.per_account:
            return "limit of the account"
        if self.ledger.answers_since(since) >= self.settings.per_day:
            return "limit of the day"
        return None

    def finish(self, entry: Entry) -> None:
        """Take a mention from the state that it is in to its end."""
        text = entry.text or self.text(entry)
        if entry.state == "noted":
            with self.ledger.step():
                self.ledger.scored(entry.id, text)
        try:
            answer = self.network.answered(entry.post) if entry.state == "sending" else None
            if answer is None:
                with self.ledger.step():
                    self.ledger.sending(entry.id)
                answer = self.network.answer(entry.post, text, quieter(entry.visibility), self.key(entry))
        except Gone:
            with self.ledger.step():
                self.ledger.left(entry.id, "gone")
            return
        with self.ledger.step():
            self.ledger.sent(entry.id, answer)
        log.info("answered; %s", ", ".join(f"{number} {state}" for state, number in self.ledger.counts().items()))

    def key(self, entry: Entry) -> str:
        """Name an answer, so that the network takes it once: the same whenever it is sent."""
        return hashlib.sha256(f"{self.network.account} {entry.id}".encode()).hexdigest()

    def text(self, entry: Entry) -> str:
        """Look at the picture, and say what is to be said."""
        if not entry.pictures:
            if not entry.question:
                return words.no_picture(entry.name)
            about = self.settings.about if self.network.links else ""
            return words.meaning(entry.name, about, self.settings.labels)
        try:
            picture = fetch.fetch(entry.pictures[0], self.settings.limits)
        except FetchError as error:
            return words.problem(entry.name, str(error))
        scored = self.scorer.score([picture.data])[0]
        if scored.score is None or scored.percentile is None:
            return words.problem(entry.name, scored.error or "it has no score")
        sides = sorted((picture.width, picture.height))
        square = sides[1] <= ALMOST_SQUARE * sides[0]
        return words.score(entry.name, scored.score, scored.percentile, square, scored.unknown)


def quieter(visibility: str) -> str:
    """Return who may read an answer: those who could read the mention, but no public timeline shows it."""
    return {"public": "unlisted", "unlisted": "unlisted", "private": "private"}.get(visibility, "direct")
