"""The ledger of a gathering: which posts were noted, what was counted, which pictures are here. SQLite, one writer.

A post goes from one state to the next, each step one transaction, so a kill leaves it before a step or behind it:

    noted    seen once; due for its revisit at a fixed age
    counted  likes and followers of the revisit are here, the picture is not
    kept     its picture is below images/, a row of the manifest
    out      left out, with the reason; of it only uri and author's hash remain, so that it is not taken again

What is gone, or whose author has objected, is deleted. Authors are known by a keyed hash: the key lies beside the
ledger, for its owner only, and without it nobody can try names. No text and no name is stored; the uri of a post, which
is needed to ask for it and to honour its deletion, often has its author's name in it: never publish a ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from selfie.common.ledger_file import LedgerFile
from selfie.gather.source import Post

VERSION = 1
SCHEMA = """
CREATE TABLE posts (
    key INTEGER PRIMARY KEY AUTOINCREMENT, uri TEXT NOT NULL UNIQUE, host TEXT NOT NULL, id TEXT NOT NULL,
    author TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, due INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    followers INTEGER, likes INTEGER, tags TEXT, posted_at INTEGER, edited_at INTEGER, noted_at INTEGER,
    observed_at INTEGER, picture TEXT, licence TEXT, path TEXT, sha256 TEXT, width INTEGER, height INTEGER,
    p0 INTEGER, p1 INTEGER, p2 INTEGER, p3 INTEGER);
CREATE INDEX posts_due ON posts (state, due, key);
CREATE INDEX posts_author ON posts (author);
CREATE UNIQUE INDEX posts_sha256 ON posts (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX posts_p0 ON posts (p0) WHERE p0 IS NOT NULL;
CREATE INDEX posts_p1 ON posts (p1) WHERE p1 IS NOT NULL;
CREATE INDEX posts_p2 ON posts (p2) WHERE p2 IS NOT NULL;
CREATE INDEX posts_p3 ON posts (p3) WHERE p3 IS NOT NULL;
CREATE INDEX posts_sweep ON posts (key) WHERE state = 'out' AND path IS NOT NULL;
CREATE TABLE walks (host TEXT, tag TEXT, at TEXT, newest TEXT, until TEXT, PRIMARY KEY (host, tag));
CREATE TABLE counts (stage TEXT, reason TEXT, number INTEGER NOT NULL, PRIMARY KEY (stage, reason));
CREATE TABLE forgotten (hash TEXT PRIMARY KEY);
CREATE TABLE terms (host TEXT PRIMARY KEY, read_at INTEGER NOT NULL);
"""


class Walk(NamedTuple):
    """How far a walk through a tag's posts came. `at`: where it goes on, "" for the top; `newest`: the first post of
    this walk; `until`: the first post of the walk before, where this one ends.
    """

    at: str
    newest: str
    until: str


class Due(NamedTuple):
    """A post that is to be read again."""

    key: int
    id: str
    uri: str
    author: str
    edited_at: int


class Wanted(NamedTuple):
    """A post whose picture is to be fetched."""

    key: int
    url: str


class Kept(NamedTuple):
    """A picture that is here: its file below images/, its size in pixels, and its two hashes."""

    path: str
    sha256: str
    width: int
    height: int
    perceptual: int


class Ledger(LedgerFile):
    """The ledger in a folder, made if need be; only one process at a time. `with Ledger(folder) as ledger:`"""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "ledger.sqlite", SCHEMA, VERSION)
        self.images = folder / "images"

    # --- noting ------------------------------------------------------------------------------------------------------

    def walk(self, host: str, tag: str) -> Walk:
        """Return how far the walk through a tag's posts came."""
        row = self.database.execute("SELECT at, newest, until FROM walks WHERE host = ? AND tag = ?", (host, tag))
        return Walk(*(row.fetchone() or ("", "", "")))

    def note(
        self, host: str, tag: str, posts: list[Post], left_out: Iterable[str], walk: Walk, now: float, age: float
    ) -> int:
        """Note the posts of a page, count what was left out and remember where the walk goes on, in one step.

        age: seconds after a post's date at which it is due. Returns how many posts are new; those that were known, or
        are to be forgotten, are counted.
        """
        reasons = list(left_out)
        with self.step() as database:
            new = 0
            for post in posts:
                author = self.hashed(post.author)
                if self._is_forgotten(author, self.hashed(post.uri)):
                    reasons.append("asked to be forgotten")
                    continue
                row = (post.uri, host, post.id, author, int(post.posted_at + age), post.followers, " ".join(post.tags))
                known = database.execute(
                    "INSERT INTO posts (uri, host, id, author, state, due, followers, tags, posted_at, edited_at,"
                    " noted_at) VALUES (?, ?, ?, ?, 'noted', ?, ?, ?, ?, ?, ?) ON CONFLICT (uri) DO NOTHING",
                    (*row, post.posted_at, post.edited_at, int(now)),
                ).rowcount
                new += known
                reasons += [] if known else ["known already"]
            database.execute("INSERT OR REPLACE INTO walks VALUES (?, ?, ?, ?, ?)", (host, tag, *walk))
            self.count("note", [*reasons, *["noted"] * new])
        return new

    def _is_forgotten(self, *hashes: str) -> bool:
        marks = ", ".join("?" * len(hashes))
        return bool(self.database.execute(f"SELECT 1 FROM forgotten WHERE hash IN ({marks})", hashes).fetchone())

    def count(self, stage: str, reasons: Iterable[str]) -> None:
        """Add reasons to the counts of a stage; inside a step."""
        self.database.executemany(
            "INSERT INTO counts VALUES (?, ?, 1) ON CONFLICT (stage, reason) DO UPDATE SET number = number + 1",
            ((stage, reason) for reason in reasons),
        )

    def counts(self, stage: str) -> dict[str, int]:
        """Return {reason: number} of a stage, over all runs, most frequent first."""
        rows = self.database.execute(
            "SELECT reason, number FROM counts WHERE stage = ? ORDER BY -number, reason", (stage,)
        )
        return dict(rows.fetchall())

    # --- revisiting --------------------------------------------------------------------------------------------------

    def number_due(self, host: str, now: float) -> int:
        """How many posts of a host are to be read again by now."""
        query = "SELECT COUNT(*) FROM posts WHERE host = ? AND state = 'noted' AND due <= ?"
        return self.database.execute(query, (host, now)).fetchone()[0]

    def number_waiting(self) -> int:
        """How many posts are noted and not revisited yet."""
        return self.database.execute("SELECT COUNT(*) FROM posts WHERE state = 'noted'").fetchone()[0]

    def due(self, host: str, now: float, after: tuple[int, int], number: int) -> list[tuple[int, Due]]:
        """Return the next posts that are to be read again, each behind the time it was due, later than `after`."""
        rows = self.database.execute(
            "SELECT due, key, id, uri, author, edited_at FROM posts WHERE host = ? AND state = 'noted' AND due <= ?"
            " AND (due, key) > (?, ?) ORDER BY due, key LIMIT ?",
            (host, now, *after, number),
        )
        return [(row[0], Due(*row[1:])) for row in rows]

    def counted(self, key: int, post: Post, now: float) -> None:
        """Enter what the revisit found; inside a step."""
        self.database.execute(
            "UPDATE posts SET state = 'counted', likes = ?, followers = ?, observed_at = ?, picture = ?, licence = ?,"
            " tags = ? WHERE key = ?",
            (post.likes, post.followers, int(now), post.pictures[0], post.licence, " ".join(post.tags), key),
        )

    def delete(self, key: int) -> None:
        """Delete a post and its picture, also one that a killed process wrote and did not enter; inside a step.

        The file goes first: none is ever left without a row.
        """
        place = stem(self.images, key)
        for file in place.parent.glob(f"*{place.name}.*"):
            file.unlink()
        self.database.execute("DELETE FROM posts WHERE key = ?", (key,))

    # --- pictures ----------------------------------------------------------------------------------------------------

    def number_wanted(self) -> int:
        """How many pictures are to be fetched."""
        return self.database.execute("SELECT COUNT(*) FROM posts WHERE state = 'counted'").fetchone()[0]

    def wanted(self, after: tuple[int, int], number: int) -> list[tuple[int, Wanted]]:
        """Return the next posts whose pictures are to be fetched, each behind the time it was due, later than `after`.

        The earliest comes first: of a picture that is posted again, the original is kept.
        """
        rows = self.database.execute(
            "SELECT due, key, picture FROM posts WHERE state = 'counted' AND (due, key) > (?, ?) ORDER BY due, key"
            " LIMIT ?",
            (*after, number),
        )
        return [(row[0], Wanted(*row[1:])) for row in rows]

    def like(self, sha256: str, perceptual: int, distance: int) -> str | None:
        """Say how a picture repeats one that is kept ("same picture", "nearly the same picture"); None if it does not.

        distance: bits, at most 3, in which perceptual hashes of the same picture differ; one of their four quarters is
        equal then.
        """
        if self.database.execute("SELECT 1 FROM posts WHERE sha256 = ?", (sha256,)).fetchone():
            return "same picture"
        parts = quarters(perceptual)
        for number, part in enumerate(parts):
            for row in self.database.execute(f"SELECT p0, p1, p2, p3 FROM posts WHERE p{number} = ?", (part,)):
                if sum(bin(one ^ other).count("1") for one, other in zip(row, parts)) <= distance:
                    return "nearly the same picture"
        return None

    def keep(self, key: int, kept: Kept) -> None:
        """Enter a picture that is here; inside a step."""
        self.database.execute(
            "UPDATE posts SET state = 'kept', picture = NULL, path = ?, sha256 = ?, width = ?, height = ?, p0 = ?,"
            " p1 = ?, p2 = ?, p3 = ? WHERE key = ?",
            (kept.path, kept.sha256, kept.width, kept.height, *quarters(kept.perceptual), key),
        )

    def leave_out(self, key: int, reason: str, path: str | None = None) -> None:
        """Leave a post out for good; inside a step. `path`: its picture, which the next `sweep` removes."""
        self.database.execute(
            "UPDATE posts SET state = 'out', reason = ?, path = ?, followers = NULL, likes = NULL, tags = NULL,"
            " picture = NULL, licence = NULL WHERE key = ?",
            (reason, path, key),
        )

    def sweep(self) -> None:
        """Remove the pictures of posts that were left out. A kill before the end leaves the rest to the next sweep."""
        # SQLite by itself would take the index of states, and read all that were ever left out.
        query = "SELECT key, path FROM posts INDEXED BY posts_sweep WHERE state = 'out' AND path IS NOT NULL"
        for key, path in self.database.execute(query).fetchall():
            (self.images / path).unlink(missing_ok=True)
            self.database.execute("UPDATE posts SET path = NULL WHERE key = ?", (key,))

    def tried(self, key: int) -> int:
        """Count a try that failed, and return how many there were; inside a step."""
        self.database.execute("UPDATE posts SET tries = tries + 1 WHERE key = ?", (key,))
        return self.database.execute("SELECT tries FROM posts WHERE key = ?", (key,)).fetchone()[0]

    # --- the outcome -------------------------------------------------------------------------------------------------

    def kept(self) -> Iterator[tuple]:
        """Yield what is kept, by key: (key, path, author, followers, likes, tags, posted_at, uri, observed_at, licence,
        sha256, width, height).
        """
        yield from self.database.execute(
            "SELECT key, path, author, followers, likes, tags, posted_at, uri, observed_at, licence, sha256, width,"
            " height FROM posts WHERE state = 'kept' ORDER BY key"
        )

    def forget(self, name: str) -> int:
        """Delete everything of an author (user@host) or a post (its uri); its hash remembers not to take it again.

        Returns the number of posts. What is deleted is overwritten on the disk, as far as SQLite can.
        """
        hashed = self.hashed(name.strip().lstrip("@"))
        with self.step() as database:
            query = "SELECT key FROM posts WHERE author = ? OR lower(uri) = lower(?)"
            keys = [row[0] for row in database.execute(query, (hashed, name.strip()))]
            for key in keys:
                self.delete(key)
            database.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (hashed,))
        self.overwrite()
        return len(keys)

    def terms_read(self, host: str, now: float) -> None:
        """Remember that a host's terms were said to be read."""
        with self.step() as database:
            database.execute("INSERT OR REPLACE INTO terms VALUES (?, ?)", (host, int(now)))


def stem(images: Path, key: int) -> Path:
    """Where the picture of the post with this key is, but for the suffix: a thousand to a folder, no word of whose."""
    return images / f"{key // 1000:04d}" / f"{key:07d}"


def quarters(perceptual: int) -> tuple[int, int, int, int]:
    """Split a hash of 64 bits into four of 16."""
    first, second, third, fourth = ((perceptual >> shift) & 0xFFFF for shift in (48, 32, 16, 0))
    return first, second, third, fourth
