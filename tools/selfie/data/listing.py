"""Names of picture files: those below a folder, found by name and content, and those of a list that somebody wrote."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from selfie.common import names, paths
from selfie.common.errors import SelfieError
from selfie.data.codecs import kinds

_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Listing(NamedTuple):
    """What a folder and those in it hold.

    pictures     files, relative to the folder, sorted
    others       what is not looked at: kind of file -> how many
    unreadable   folders that cannot be opened, relative to the folder, sorted
    """

    pictures: list[str]
    others: Counter[str]
    unreadable: list[str]

    def left_out(self) -> str:
        """Say what is not looked at: '6 files not looked at: 3 QuickTime video, 2 TXT, 1 hidden'; "" for nothing."""
        count = sum(self.others.values())
        kinds_by_count = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{number} {names.shown(kind)}" for kind, number in kinds_by_count)
        return f"{count} file{'s' * (count != 1)} not looked at: {listed}" if count else ""


def below(folder: str | os.PathLike) -> Listing:
    """List the pictures in `folder` and below, and count all other files by kind. SelfieError if it is no folder.

    A file is a picture by its suffix, or, where the suffix says nothing (or there is none), by its first bytes. Hidden
    files and folders, and links to folders, are not looked at; each counts as one.
    """
    folder = paths.existing(folder, "folder of images")
    if not folder.is_dir():
        raise SelfieError(f"{names.shown(folder)} is not a folder")
    pictures, unreadable = [], []
    others: Counter[str] = Counter()

    def cannot_open(error: OSError) -> None:
        unreadable.append(os.path.relpath(error.filename, folder))

    for here, folders, files in os.walk(folder, onerror=cannot_open):
        for name in list(folders):
            if name.startswith(".") or os.path.islink(os.path.join(here, name)):
                folders.remove(name)
                others["hidden folder" if name.startswith(".") else "link to a folder"] += 1
        for name in files:
            path = os.path.join(here, name)
            kind = "hidden" if name.startswith(".") else _other_kind(path)
            if kind:
                others[kind] += 1
            else:
                pictures.append(os.path.relpath(path, folder))
    return Listing(sorted(pictures), others, sorted(unreadable))


def _other_kind(path: str) -> str:
    """Return "" for the name of a picture, also one that turns out to be broken; else what the file is."""
    if path.lower().endswith(kinds.SUFFIXES):
        return ""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a named pipe would wait for ever
            return "not a file"
        with open(path, "rb") as file:
            first = file.read(kinds.FIRST)
    except (OSError, ValueError):
        return "cannot be read"
    kind = kinds.of_file(os.path.basename(path), first) if first else "empty"
    return "" if kind in kinds.PICTURES else kind


def from_standard_input() -> Iterator[str]:
    """Yield the names in the list on standard input, which is read only when the first is asked for."""
    if sys.stdin is None:
        raise SelfieError("there is no standard input to read a list from")
    yield from names_in(sys.stdin.buffer)


def names_in(stream: BinaryIO) -> Iterator[str]:
    """Yield the names in a list, one on a line, blank lines left out; or separated by NUL, as of `find -print0`.

    Byte order marks, UTF-16 and ends of lines as Windows writes them are understood. A name that no file has is tried
    as `score.py --csv` quotes names, and in Windows' Latin alphabet if it is not UTF-8; else it stays as it is.
    """
    data = stream.read()
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            data = data.decode(encoding, "replace").encode("utf-8", "surrogatepass")
    data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    separator = b"\0" if b"\0" in data else b"\n"
    for line in data.split(separator):
        if line.strip():
            yield _existing(line)


def _existing(line: bytes) -> str:
    """Return the name of a line of a list in the first spelling that a file has."""
    name = os.fsdecode(line)
    spellings = [name, name.rstrip("\r")]
    try:
        spellings.append(names.unquoted(spellings[-1]))
        spellings.append(line.rstrip(b"\r").decode("cp1252"))
    except ValueError:
        pass
    return next((each for each in spellings if _exists(each)), spellings[1])


def _exists(name: str) -> bool:
    return "\0" not in name and os.path.lexists(name)
