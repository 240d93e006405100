"""Work that may be done elsewhere: what a stage does to its items, one row for each, wherever that happens.

A stage that can run on a cluster describes its work as a `Work`, and takes `workers`: a function that does such work
and yields its rows. The stage knows nothing of the machines behind it, and `workers` nothing of selfies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Protocol

Row = tuple  # the values of a work's columns for one item
ENDED = "ends the process that reads it"  # the reason of an item whose worker died each time that it was tried


class Items(Protocol):
    """What is worked on, in order: a list, a Series, or anything that has a length and can be cut."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Iterable[Any]: ...


@dataclass(frozen=True)
class Work:
    """What is done to each item.

    name         of the kind of work, a word
    function     importable; (parameters, items) -> one row for each item, in order. It looks at nothing but these and
                 the files that they name, so that it may be done twice, and by whom it may be
    parameters   JSON-ready; all that the rows depend on beside the items. Paths are absolute
    columns      name -> type (str, int, float, bytes) of the values of a row; any may be None
    reason       the column that says why an item has no other values
    together     items that are worked on at once, as in a batch of a net: a part of the work begins at a multiple
    memory       bytes that a process takes for it
    probe        a file that whoever works must see: a folder that is not mounted has no pictures, which is no result
    """

    name: str
    function: Callable[[dict, list], Iterable[Row]]
    parameters: Mapping[str, Any]
    columns: Mapping[str, type]
    reason: str
    together: int = 1
    memory: int = 0
    probe: str | None = None

    def failed(self, reason: str) -> Row:
        """Return the row of an item that cannot be worked on."""
        return tuple(reason if column == self.reason else None for column in self.columns)


class Workers(Protocol):
    """Do work elsewhere and yield the rows of items[start:], in order."""

    def __call__(self, work: Work, items: Items, start: int = 0) -> Iterator[Row]: ...
