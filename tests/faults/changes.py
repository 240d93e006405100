"""What is done to a file: bytes or values of it are changed, or something else is put in its place."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

WRONG = (None, True, 7, -1, 1e300, 10**30, "", "x", "\ud800", [], [None], {}, {"a": 1})

NO_FILE = 0.06  # of the mutants are a folder, a pipe, a link, or nothing

_originals: dict[Path, bytes] = {}  # of the files that this process has changed


def changed(data: bytes, chance: random.Random) -> bytes:
    """Change bytes: flipped bits, a piece set to one value or noise, cut out, doubled, swapped, or cut off."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if not result:
            return bytes(result)
        at = min(int(chance.expovariate(8 / len(result))), len(result) - 1) if chance.random() < 0.5 else None
        at = chance.randrange(len(result)) if at is None else at
        size = chance.choice((1, 1, 4, 64, 4096))
        kind = chance.randrange(7)
        if kind == 0:
            result[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            result[at : at + size] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))]) * len(result[at : at + size])
        elif kind == 2:
            result[at : at + size] = chance.randbytes(len(result[at : at + size]))
        elif kind == 3:
            del result[at : at + size]
        elif kind == 4:
            result[at:at] = result[at : at + size]
        elif kind == 5:
            to = chance.randrange(len(result))
            result[to : to + size] = result[at : at + size]
        elif chance.random() < 0.3:
            del result[at:]
    return bytes(result)


def changed_json(data: bytes, chance: random.Random) -> bytes:
    """Change a value somewhere inside JSON, or its bytes."""
    if chance.random() < 0.2:
        return changed(data, chance)
    whole = {"": json.loads(data)}
    holder, key = whole, ""
    while isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.8:
        holder = holder[key]
        key = chance.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
    if chance.random() < 0.3 and holder is not whole:
        del holder[key]
    else:
        holder[key] = chance.choice(WRONG)
    return json.dumps(whole[""]).encode()


def changed_lines(data: bytes, chance: random.Random) -> bytes:
    """Change a line of JSON among others, or bytes of all."""
    lines = data.splitlines(keepends=True)
    if not lines or chance.random() < 0.4:
        return changed(data, chance)
    place = chance.randrange(len(lines))
    lines[place] = changed_json(lines[place], chance) + b"\n"
    return b"".join(lines)


def mutate(file: Path, chance: random.Random) -> None:
    """Put a mutant in a file's place, or now and then what is no file; `restore` undoes it."""
    original = _originals.setdefault(file, file.read_bytes())
    if chance.random() < NO_FILE:
        _replace(file, chance)
    else:
        change = {".json": changed_json, ".jsonl": changed_lines}.get(file.suffix, changed)
        file.write_bytes(change(original, chance))


def _replace(file: Path, chance: random.Random) -> None:
    """Put something else in a file's place."""
    file.unlink()
    kind = chance.choice(("nothing", "a folder", "itself", "a link to nothing", "a pipe"))
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind != "nothing":
        file.symlink_to(file if kind == "itself" else "nowhere")


def restore() -> None:
    """Put all changed files back."""
    for file, data in _originals.items():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif not file.is_file() or file.is_symlink():
            file.unlink(missing_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
