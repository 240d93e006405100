"""A ledger whose file was damaged says so, whenever that is noticed."""

from __future__ import annotations

import random
import re
import sqlite3

import pytest

from selfie.common.errors import SelfieError
from selfie.common.ledger_file import LedgerFile
from selfie.serve.bot import ledger as bot

SCHEMA = "CREATE TABLE posts (name TEXT PRIMARY KEY, text TEXT);"


def use(folder) -> int:
    """Open the ledger, write into it and read all."""
    with LedgerFile(folder, "posts.sqlite", SCHEMA, 1) as ledger:
        with ledger.step() as database:
            database.executemany("INSERT OR REPLACE INTO posts VALUES (?, ?)", [(str(n), "x" * 90) for n in range(200)])
        return len(ledger.database.execute("SELECT * FROM posts ORDER BY text, name").fetchall())


def test_damage_is_one_line_wherever_it_is(tmp_path):
    """Each page of the file, and what no page begins with, is damaged in turn."""
    assert use(tmp_path) == 200
    file = tmp_path / "posts.sqlite"
    whole, refused = file.read_bytes(), 0
    for place in [*range(0, len(whole), 4096), *range(5, len(whole), 1500)]:
        file.write_bytes(whole[:place] + random.Random(place).randbytes(600) + whole[place + 600 :])
        try:
            use(tmp_path)
        except SelfieError as error:
            refused += 1
            assert str(file) in str(error)
    assert refused > 5


def test_a_schema_that_is_no_text_is_one_line(tmp_path):
    """SQLite names the column that it does not find, and Python cannot decode what it says."""
    schema = SCHEMA + "CREATE INDEX by_text ON posts (text);"
    with LedgerFile(tmp_path, "posts.sqlite", schema, 1):
        pass
    file = tmp_path / "posts.sqlite"
    whole = file.read_bytes()
    assert whole.count(b"posts (text)") == 1
    file.write_bytes(whole.replace(b"posts (text)", b"posts (te\xb0t)"))
    with pytest.raises(SelfieError, match=re.escape(str(file))), LedgerFile(tmp_path, "posts.sqlite", schema, 1):
        pass


def test_a_schema_that_was_overwritten_is_one_line(tmp_path):
    """With ones, at any place; at some of them SQLite believes that memory is lacking."""
    with LedgerFile(tmp_path, "posts.sqlite", bot.SCHEMA, 1):
        pass
    file = tmp_path / "posts.sqlite"
    whole = file.read_bytes()
    first = whole.index(b"mentions_at ON mentions (at)") - 20
    for place in range(first, first + 96, 3):
        file.write_bytes(whole[:place] + b"\xff" * 64 + whole[place + 64 :])
        ledger = LedgerFile(tmp_path, "posts.sqlite", bot.SCHEMA, 1)
        with pytest.raises(SelfieError, match=re.escape(str(file)) + ".*: ."), ledger:
            ledger.database.execute("SELECT * FROM mentions").fetchall()


def test_our_own_mistakes_are_not_told_as_damage(tmp_path):
    use(tmp_path)
    with pytest.raises(sqlite3.ProgrammingError), LedgerFile(tmp_path, "posts.sqlite", SCHEMA, 1) as ledger:
        ledger.database.execute("SELECT ?")
