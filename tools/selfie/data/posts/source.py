"""What a program's records are to us: how they are recognised, and where in them each field stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Callable, NamedTuple

FIELDS = ("id", "user", "followers", "likes", "tags", "caption", "posted_at")
VIDEO = "a video"
PROFILE = "a profile, whose followers are taken"
NO_PICTURE = "without any picture"
FURTHER = "a further picture of its post"
_TAG = re.compile(r"(?<![\w&])#(\w+)")
_URL = re.compile(r"""https?://[^\s"'<>,\]\\]+""")


IDS = ("node.owner.id", "ownerId", "user_posted_id")  # where the number of a user stands, whose name may be elsewhere


class Hint(NamedTuple):
    """Where a record's pictures may lie: names of files with or without suffix and folder, the best first.

    several   behind each name that is tried, those of a carousel are: name_1, name_2 ...
    beside    only in the folder of the record: another may have files of the same name
    """

    names: list[str]
    several: bool = False
    beside: bool = False


class Source(NamedTuple):
    """One program's records.

    name        of the program, for messages
    recognises  whether a JSON object or the row of a table is one of its records
    fields      {one of FIELDS: places, as in 'node.owner.username'}, the first that holds something is taken
    left_out    why a record gives no selfie; "" if it may give one
    hint        where its pictures may lie, given the record and the name, without suffix, of the file that it stands in
    hides       whether the likes that a record holds are none, as their owner hides them
    """

    name: str
    recognises: Callable[[dict], bool]
    fields: Mapping[str, tuple[str, ...]]
    left_out: Callable[[dict], str]
    hint: Callable[[dict, str], Hint]
    hides: Callable[[dict], bool] = lambda record: False


def at(record: Any, place: str) -> Any:
    """Return what stands at a place in nested objects and lists, 'edges.0.node'; None where there is nothing."""
    if isinstance(record, dict) and place in record:
        return record[place]
    for step in place.split("."):
        if isinstance(record, dict):
            record = record.get(step)
        elif isinstance(record, list) and step.isdigit() and int(step) < len(record):
            record = record[int(step)]
        else:
            return None
    return record


def text(value: Any) -> str:
    """Write a text or a number as text; "" for anything else."""
    if isinstance(value, str):
        return value.strip().encode("utf-8", "replace").decode()  # halves of characters are no text
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):  # six decimals, so that 1.234 is never taken for a thousand
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else f"{value:.6f}"
    return str(value) if isinstance(value, (int, date, Decimal)) else ""


def first(record: dict, *places: str) -> str:
    """Return the first text or number that stands at one of the places, as text; "" if none does."""
    return next((found for place in places if (found := text(at(record, place)))), "")


def strings(value: Any, key: str = "name") -> list[str]:
    """Return the texts in a list, also those that its objects have at `key`; a text alone is a list of one."""
    items = value if isinstance(value, list) else [value]
    found = (text(item.get(key) if isinstance(item, dict) else item) for item in items)
    return [each for each in found if each]


def hashtags(caption: str) -> list[str]:
    """Return the hashtags in a caption, each once, without '#'."""
    return list(dict.fromkeys(_TAG.findall(caption)))


def names_of_urls(*values: Any) -> list[str]:
    """Return the names of the files that addresses in texts, and in lists of them, lead to."""
    found = [url for value in values for each in strings(value, "url") for url in _URL.findall(each)]
    paths = (re.split(r"[?#]", url)[0].rstrip("/") for url in found)
    return [path.rpartition("/")[2] for path in paths if path.count("/") > 2]
