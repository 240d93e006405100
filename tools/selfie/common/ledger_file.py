"""A ledger's file: SQLite in a folder of its own, one writer, and people known by a keyed hash alone.

What is deleted from it is overwritten. The key lies beside the database, for its owner only, and without it nobody can
try names; so it is made once, with the database, and never anew beside one that is there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from selfie.common import locks, paths
from selfie.common.errors import SelfieError

KEY = "author.key"
Own = TypeVar("Own", bound="LedgerFile")


class LedgerFile:
    """The database `name` in a folder, both made if need be; only one process at a time. `with ... as ledger:`

    schema: SQL that makes its tables, of that `version` (from 1 on). SelfieError where it cannot be used as that.
    """

    def __init__(self, folder: Path, name: str, schema: str, version: int) -> None:
        self.folder, self.file = folder, folder / name
        self._schema, self._version = schema, version

    def __enter__(self: Own) -> Own:
        with ExitStack() as stack:
            stack.enter_context(locks.folder(self.folder))
            self._key = _key(self.folder / KEY, self.file)
            self.database = stack.enter_context(closing(_opened(self.file, self._schema, self._version)))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close the database. What SQLite could not read of it is a SelfieError."""
        self._open.close()
        if type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError, MemoryError):
            said = str(error) or "or memory is lacking"
            raise SelfieError(f"{self.file} is damaged ({said}): put a copy of it back") from error

    @contextmanager
    def step(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block's changes, or none. SelfieError where the disk does not take them."""
        try:
            self.database.execute("BEGIN IMMEDIATE")
            yield self.database
            self.database.execute("COMMIT")
        except BaseException as error:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise SelfieError(f"cannot write {self.file}: {error}") from error
            raise

    def overwrite(self) -> None:
        """Overwrite on the disk what was deleted since, also in the log of changes."""
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def hashed(self, name: str) -> str:
        """The keyed hash of a name, whatever its case: BLAKE2b, 128 bits, hex."""
        return hashlib.blake2b(name.strip().lower().encode(errors="replace"), key=self._key, digest_size=16).hexdigest()


def _key(path: Path, database: Path) -> bytes:
    """Read the key of the hashes, made at first use."""
    if not path.exists():
        if database.exists():
            raise SelfieError(f"{path} is missing: without it the ledger's authors cannot be known again; put it back")
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        paths.sync_folder(path.parent)
    key = paths.regular(path).read_bytes()
    if len(key) != 32:
        raise SelfieError(f"{path} is not a key of 32 bytes: put the right one back")
    return key


def _opened(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the database, made if need be; SelfieError if it is of another version."""
    try:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            database.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
    # The latter two are what it says, and what it is taken for, when a schema is damaged.
    except (sqlite3.DatabaseError, UnicodeDecodeError, MemoryError) as error:
        said = str(error) or "its schema is damaged"
        raise SelfieError(f"{path} cannot be used as a ledger: {said}") from error
    if found not in (0, version):
        database.close()
        raise SelfieError(f"{path} is a ledger of version {found}, this is version {version}: use the newer checkout")
    return database
