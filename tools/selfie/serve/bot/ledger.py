"""The ledger of the bot: what has become of each mention. SQLite, one writer; each step is one transaction.

    noted    to be looked at
    scored   the answer's text is here
    sending  it is being sent: after a kill or a cut connection the network is asked whether it was
    sent     the end
    left     not to be answered, with the reason

So nothing is answered twice, and nothing that was noted is forgotten. Names, addresses of pictures and the text of an
answer stay only as long as they are needed, and are overwritten then; authors are known by a keyed hash.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from selfie.common.errors import SelfieError
from selfie.common.ledger_file import LedgerFile
from selfie.serve.bot.network import Mention

VERSION = 1
SCHEMA = """
CREATE TABLE mentions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, post TEXT NOT NULL, author TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, at REAL NOT NULL, name TEXT, visibility TEXT, question INTEGER, pictures TEXT,
    text TEXT, answer TEXT);
CREATE INDEX mentions_open ON mentions (state, number);
CREATE INDEX mentions_author ON mentions (author, at);
CREATE INDEX mentions_at ON mentions (at);
CREATE TABLE stopped (author TEXT PRIMARY KEY);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
OPEN = ("noted", "scored", "sending")


class Entry(NamedTuple):
    """A mention that is not finished. `question`: it asks what a score means; `text`: the answer, once there is one."""

    id: str
    post: str
    author: str
    state: str
    name: str
    visibility: str
    question: bool
    pictures: list[str]
    text: str | None


class Ledger(LedgerFile):
    """The ledger in a folder, made if need be; only one process at a time. `with Ledger(folder, account) as ledger:`

    account: whose mentions these are; SelfieError where the ledger is another account's.
    """

    def __init__(self, folder: Path, account: str) -> None:
        super().__init__(folder, "bot.sqlite", SCHEMA, VERSION)
        self.account = account

    def __enter__(self) -> Ledger:
        super().__enter__()
        try:
            owner = self.setting("account") or self.account
            if owner != self.account:
                raise SelfieError(f"{self.folder} is the ledger of another account ({owner}): choose another --ledger")
            with self.step():
                self.set("account", self.account)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def setting(self, name: str) -> str | None:
        """Return what was set under a name, None for nothing."""
        row = self.database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set(self, name: str, value: str) -> None:
        """Set a value; inside a step."""
        self.database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    # --- accounts ----------------------------------------------------------------------------------------------------

    def has_stopped(self, author: str) -> bool:
        """Tell whether an account wants no answers any more."""
        query = "SELECT 1 FROM stopped WHERE author = ?"
        return self.database.execute(query, (self.hashed(author),)).fetchone() is not None

    def stop(self, author: str, stopped: bool) -> None:
        """Remember that an account wants no answers, or wants them again; inside a step."""
        query = "INSERT OR IGNORE INTO stopped VALUES (?)" if stopped else "DELETE FROM stopped WHERE author = ?"
        self.database.execute(query, (self.hashed(author),))

    def answers_since(self, moment: float, author: str | None = None) -> int:
        """Count the answers, sent or to be sent, of mentions that were noted after `moment` (seconds since 1970)."""
        query = "SELECT COUNT(*) FROM mentions WHERE state != 'left' AND at > ?"
        if author is None:
            return self.database.execute(query, (moment,)).fetchone()[0]
        return self.database.execute(f"{query} AND author = ?", (moment, self.hashed(author))).fetchone()[0]

    # --- mentions ----------------------------------------------------------------------------------------------------

    def note(self, mention: Mention, question: bool, left: str | None) -> bool:
        """Note a mention, to be answered or `left` for a reason; inside a step. False if it was known."""
        row = (mention.id, mention.post, self.hashed(mention.author), "left" if left else "noted", left)
        kept = (None,) * 4 if left else (mention.name, mention.visibility, question, json.dumps(mention.pictures))
        return bool(
            self.database.execute(
                "INSERT INTO mentions (id, post, author, state, reason, at, name, visibility, question, pictures)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (*row, time.time(), *kept),
            ).rowcount
        )

    def open(self) -> list[Entry]:
        """Return the mentions that are not finished, in their order."""
        rows = self.database.execute(
            "SELECT id, post, author, state, name, visibility, question, pictures, text FROM mentions"
            f" WHERE state IN {OPEN} ORDER BY number"
        )
        return [
            Entry(identity, post, author, state, name, visibility, bool(question), json.loads(pictures), text)
            for identity, post, author, state, name, visibility, question, pictures, text in rows
        ]

    def scored(self, identity: str, text: str) -> None:
        """The answer is known; inside a step."""
        self._change(identity, "state = 'scored', text = ?", text)

    def sending(self, identity: str) -> None:
        """The answer is about to be sent; inside a step."""
        self._change(identity, "state = 'sending'")

    def sent(self, identity: str, answer: str) -> None:
        """It was: forget all that was needed for it; inside a step."""
        self._change(identity, "state = 'sent', name = NULL, pictures = NULL, text = NULL, answer = ?", answer)

    def left(self, identity: str, reason: str) -> None:
        """There will be no answer; inside a step."""
        self._change(identity, "state = 'left', name = NULL, pictures = NULL, text = NULL, reason = ?", reason)

    def counts(self) -> dict[str, int]:
        """Return how many mentions are in each state, those that were left by their reasons."""
        rows = self.database.execute("SELECT COALESCE(reason, state), COUNT(*) FROM mentions GROUP BY 1 ORDER BY 1")
        return dict(rows.fetchall())

    def _change(self, identity: str, changes: str, *values: str) -> None:
        self.database.execute(f"UPDATE mentions SET {changes} WHERE id = ?", (*values, identity))
