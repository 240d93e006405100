"""Keys that stand twice in one JSON object: the first is taken, as of two columns with one name, and that is told.

RFC 8259 leaves open what such an object means. Python takes the last, polars the first, neither with a word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST = 5_000  # different keys: polars compares each with each
LONGEST = 30  # characters of a value that a message has


class Keys:
    """What to give to json.loads as object_pairs_hook: makes the objects, and counts those with a key twice."""

    def __init__(self) -> None:
        self._count = 0
        self._example = ""

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Make an object of its keys and values."""
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        made = {}
        for key, value in pairs:
            if key not in made:
                made[key] = value
            elif not self._example:
                self._example = f"{_short(key)} ({_short(made[key])}, then {_short(value)})"
        self._count += 1
        return made

    def clear(self) -> None:
        """Forget what was counted, as of a text that turned out to be something else."""
        self._count, self._example = 0, ""

    @property
    def notes(self) -> list[str]:
        """What is to be told, if there is anything."""
        if not self._count:
            return []
        objects = "1 object has" if self._count == 1 else f"{self._count} objects have"
        return [f"{objects} a key twice, such as {self._example}: the first is taken"]


def is_odd(path: Path) -> bool:
    """Tell whether a file of JSON Lines has an object with a key twice, or more keys in all than tables have columns.

    Only lines that may hold a key twice are parsed, which halves the time. What is no JSON has none.
    """
    every: set[bytes] = set()
    with open(path, "rb") as file:
        for line in file:
            parts = line.split(b'":')
            parts.pop()
            names = {part[part.rfind(b'"') :] for part in parts}
            if (len(names) < len(parts) or _is_unusual(line, names)) and _twice(line):
                return True
            every |= names
            if len(every) > MOST:
                return True
    return False


def _is_unusual(line: bytes, names: set[bytes]) -> bool:
    """Whether names stand before spaces, or hold escapes, so that they cannot be compared as they are."""
    if b"\\" in line and b"\\" in b"".join(names):
        return True
    return b'" :' in line or b"  :" in line or b"\t:" in line


def _twice(line: bytes) -> bool:
    keys = Keys()
    try:
        json.loads(line, object_pairs_hook=keys.object)
    except (ValueError, RecursionError):
        return False
    return bool(keys.notes)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode()
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}...") if isinstance(value, str) else text[:LONGEST]
