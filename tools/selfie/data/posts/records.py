"""Records of files: the objects in JSON and JSON Lines, the rows of tables."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from selfie.common.errors import SelfieError
from selfie.data import dialects, json_table, tables, unpack
from selfie.data.json_keys import Keys

_DEEPEST = 8  # levels at which objects are looked for
_ELEMENT = re.compile(r"(.+)/(\d{1,4})")


def of_file(path: Path, known: Callable[[dict], bool]) -> Iterator[tuple[str, Any]]:
    """Yield (where it stands, record) of each in a file, and (where, None) of lines that are not JSON.

    `known` records are taken whole; any other object is opened, if lists of objects are in it. A key that an object has
    twice is told. SelfieError if the file cannot be read.
    """
    plain = path.with_suffix("") if path.suffix.lower() in unpack.SUFFIXES else path
    if plain.suffix.lower() not in (".json", *tables.JSON_LINES):
        yield from _rows(path)
        return
    keys = Keys()
    yield from _objects(path, plain.suffix.lower() == ".json", known, keys)
    tables.tell(path, keys.notes)


def _objects(path: Path, single: bool, known: Callable[[dict], bool], keys: Keys) -> Iterator[tuple[str, Any]]:
    """Yield what `of_file` does of JSON; `single`: by its name it is one value."""
    text = _text(path)
    try:
        value = json.loads(text, object_pairs_hook=keys.object)
    except RecursionError as error:
        raise SelfieError(f"{path}: too deeply nested") from error
    except ValueError as error:
        keys.clear()
        if together := _together(text, keys):
            yield from ((f"{path}, line {number}", _unwrapped(each)) for number, each in together)
            return
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) < 2 or (single and not _is_json(lines[0][1])):
            raise SelfieError(f"{path}: not JSON ({error})") from error
        yield from ((f"{path}, line {number}", _loaded(line, keys)) for number, line in lines)
        return
    objects = [_unwrapped(one) for one in value] if isinstance(value, list) else [value]
    if isinstance(value, dict) and not known(value):
        lists = [
            each for each in value.values() if isinstance(each, list) and any(isinstance(one, dict) for one in each)
        ]
        objects = [one for each in lists for one in each] or objects
        if not any(isinstance(one, dict) and known(one) for one in objects):
            objects = _inside(value, known) or objects
    many = len(objects) > 1
    yield from ((f"{path}, entry {number}" if many else str(path), one) for number, one in enumerate(objects, 1))


def _unwrapped(one: Any) -> Any:
    """Return the object in what `gallery-dl --dump-json` writes for a picture: [3, address, object]."""
    return one[2] if isinstance(one, list) and len(one) == 3 and one[0] == 3 else one


def _inside(value: Any, known: Callable[[dict], bool], depth: int = 0) -> list[Any]:
    """Find known objects deeper in an answer: {"data": {"user": {"edges": [...]}}}, {id: object}."""
    if isinstance(value, dict) and known(value):
        return [value]
    children = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return [one for each in children for one in _inside(each, known, depth + 1)] if depth < _DEEPEST else []


def _together(text: str, keys: Keys) -> list[tuple[int, Any]]:
    """Return (line, object) of objects that stand one after the other over several lines; none if there are others."""
    try:
        found = list(json_table.run_together(text, keys))
    except (ValueError, RecursionError):
        found = []
    found = found if all(isinstance(one, dict) for _, one in found) else []
    if not found:
        keys.clear()
    return found


def _text(path: Path) -> str:
    try:
        with unpack.unpacked(path) as plain:
            encoding = dialects.encoding_of(plain)
            return plain.read_text("utf-8-sig" if encoding == "utf-8" else encoding)
    except (UnicodeError, LookupError) as error:
        raise SelfieError(f"{path}: not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise SelfieError(f"{path}: {error.strerror or error}") from error


def _loaded(line: str, keys: Keys) -> Any:
    try:
        return json.loads(line, object_pairs_hook=keys.object)
    except (ValueError, RecursionError):
        return None


def _is_json(line: str) -> bool:
    return isinstance(_loaded(line, Keys()), dict)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield a table's rows, without what is empty in them."""
    table = tables.load(path)
    tables.tell(path, table.notes)
    for number, row in enumerate(table.frame.iter_rows(named=True), 1):
        yield f"{path}, row {number}", _gathered(row)


def _gathered(row: dict[str, Any]) -> dict[str, Any]:
    """Make hashtags/0, hashtags/1 ..., as flat tables have them, the list hashtags; owner/name becomes owner.name."""
    flat, lists = {}, defaultdict[str, dict[int, Any]](dict)
    for name, value in row.items():
        if element := _ELEMENT.fullmatch(name):
            lists[element[1]][int(element[2])] = value
        else:
            flat[name.strip().replace("/", ".")] = value
    for name, values in lists.items():
        if flat.get(name) is None:
            flat[name] = [values[place] for place in sorted(values) if values[place] not in (None, "")]
    return flat
