"""Followers of users, from a table of profiles or from profiles among the posts."""

from __future__ import annotations

import os
from collections.abc import Collection

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import columns, tables, values

NAMES = (*columns.ALIASES["user"], "user", "id", "pk", "fbid")


def read(path: str | os.PathLike, decimal: str | None = None) -> tuple[dict[str, int], str]:
    """Read a table of profiles: ({name or id of a user, as `key` has it: followers}, how it was read, in a line).

    Columns are found by what exports call them: username, ownerUsername, account, id; followersCount, followers,
    edge_followed_by.count. SelfieError if there is none for either.
    """
    found: list[str] = []

    def pick(names: list[str]) -> list[str]:
        users, counts = _users(names), _followers(names)
        if not users or not counts:
            what = "of followers" if users else "of users"
            raise SelfieError(f"{path}: no column {what} for --profiles (it has: {columns.listed(names)})")
        found[:] = [*users, counts]  # a reader that gives up asks again
        return found

    table = tables.load(path, pick, "table of profiles", lambda name: True)
    *users, counts = [name for name in found if name in table.frame.columns]
    users = [user for user in users if not table.frame[user].dtype.is_nested()]
    if table.frame[counts].dtype.is_nested() or not users:
        raise SelfieError(f"{path}: column '{counts}' holds no numbers, or no column the names of users")
    numbers = values.numbers(table.frame[counts], True, decimal, f"{path}: column '{counts}'")
    followers: dict[str, int] = {}
    other = 0
    for user in users:
        for name, count in zip(table.frame[user].cast(pl.String, strict=False), numbers.values):
            if name and name.strip() and count is not None and count >= 0:
                other += followers.setdefault(key(name), count) != count
    without = sum(count is None or count < 0 for count in numbers.values)
    return followers, (
        f"{path}: {table.frame.height} profiles by {columns.listed(users)}, followers from '{counts}' "
        f"({without} lack it; {other} listed again with another number, the first of which counts)"
    )


def key(user: str) -> str:
    """Write a user's name as it is looked up: without '@' and case."""
    return user.strip().lstrip("@").casefold()


def _users(names: Collection[str]) -> list[str]:
    return [name for name in names if columns.plain(name) in NAMES]


def _followers(names: Collection[str]) -> str | None:
    by_plain = {columns.plain(name): name for name in reversed(list(names))}
    wanted = ("followers", *columns.ALIASES["followers"])
    return next((by_plain[alias] for alias in wanted if alias in by_plain), None)
