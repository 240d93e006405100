"""The files of a folder: those that may hold posts, and pictures, found by the names that posts have for them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import listing, tables, unpack
from selfie.data.codecs import kinds
from selfie.data.posts.source import Hint
from selfie.data.posts.tally import Tally

FILMS = (".mp4", ".mov", ".webm", ".m4v", ".mkv", ".avi")
RECORDS = (".json", *tables.JSON_LINES, ".csv", ".tsv", ".parquet", ".xlsx")  # .txt holds captions, not tables
PACKED = unpack.SUFFIXES
MOST = 50  # pictures of a carousel: more than any program saves


class Pictures:
    """The pictures in a folder and below, by name; each knows whether a post has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all = listing.below(folder).pictures
        self.taken: dict[str, str] = {}  # path -> the id of the post that has it
        self.further: set[str] = set()  # the others of carousels
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.all:
            name = os.path.basename(path)
            self._by_name[name].append(path)
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in kinds.SUFFIXES:
                self._by_name[stem].append(path)
        self._films: set[str] = set()
        for here, _, files in os.walk(folder):
            stems = (os.path.splitext(name) for name in files)
            self._films |= {self._relative(here, stem) for stem, suffix in stems if suffix.lower() in FILMS}

    def find(self, hint: Hint, near: str) -> list[str]:
        """Return a post's pictures, the first one first; none if there is none.

        `near` is the folder of its record, where its pictures lie if there are others of the same name elsewhere.
        LookupError if it cannot be told which of them is meant.
        """
        for name in hint.names:
            found = self._named(name, near, hint.beside)
            stem, suffix = os.path.splitext(name)
            stem, suffix = (stem, suffix) if suffix.lower() in kinds.SUFFIXES else (name, "")
            if hint.several:
                for number in range(1, MOST):
                    found += self._named(f"{stem}_{number}{suffix}", near, hint.beside)
            if found:
                return list(dict.fromkeys(found))
        return []

    def _named(self, name: str, near: str, only_beside: bool) -> list[str]:
        folder, base = os.path.split(name)
        found = self._by_name.get(base, [])
        found = [path for path in found if path.endswith(base) or os.path.splitext(path)[0] not in self._films]
        if folder:
            ends = tuple({os.path.normpath(folder), os.path.normpath(os.path.join(near, folder))})
            found = [path for path in found if os.path.dirname(path) in ends]
        beside = [path for path in found if os.path.dirname(path) == near]
        found = beside if only_beside else beside or found
        if len({os.path.dirname(path) for path in found}) > 1:
            raise LookupError(name)
        return found[:1]

    def _relative(self, here: str, stem: str) -> str:
        return os.path.relpath(os.path.join(here, stem), self.folder)


def records(folder: Path, skip: Collection[Path], tally: Tally) -> Iterator[Path]:
    """Yield the files in a folder and below that may hold posts, sorted; all others but pictures are counted."""

    def cannot_open(error: OSError) -> None:
        tally.add("a folder that cannot be opened", str(error.filename))

    for here, folders, files in os.walk(folder, onerror=cannot_open):
        for name in folders:
            if name.startswith(".") or os.path.islink(os.path.join(here, name)):
                tally.add("a hidden folder, or a link to one", os.path.join(here, name))
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if paths.resolved(path) in skip:
                continue
            suffixes = [suffix.lower() for suffix in path.suffixes]
            packed = bool(suffixes) and suffixes[-1] in unpack.SUFFIXES
            last = suffixes[-2:-1] if packed else suffixes[-1:]
            if not path.is_file():
                tally.add("not a file that can be read", str(path))
            elif name.startswith("."):
                tally.add("hidden", str(path))
            elif last and last[0] in RECORDS:
                yield path
            elif suffixes[-1:] == [".tar"]:
                tally.add("a TAR archive, whose pictures have no path: unpack it where it lies", str(path))
            elif suffixes[-1:] and suffixes[-1] in FILMS:
                tally.add("a video", str(path))
            elif not _is_picture(path):
                tally.add("a file of another kind", str(path))


def _is_picture(path: Path) -> bool:
    """Whether the listing of pictures has a file, which is then counted there."""
    if path.suffix.lower() in kinds.SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            return kinds.of_file(path.name, file.read(kinds.FIRST)) in kinds.PICTURES
    except OSError:
        return False


def existing(folder: str | os.PathLike) -> Path:
    """Return a folder of pictures that is there, as a Path."""
    path = paths.existing(folder, "folder of pictures")
    if not path.is_dir():
        raise SelfieError(f"{path} is not a folder")
    return path
