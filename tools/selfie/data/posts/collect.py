"""Collect posts as other programs save them into one manifest; what is not used is counted, with its reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
from tqdm import tqdm

from selfie.common import names, paths
from selfie.common.errors import SelfieError
from selfie.data.posts import (
    fields,
    folder,
    gallery_dl,
    img2dataset,
    instaloader,
    mastodon,
    profiles,
    records,
    scrapers,
)
from selfie.data.posts.source import IDS, PROFILE, Source, first
from selfie.data.posts.tally import Tally

SOURCES = (
    instaloader.SOURCE,
    scrapers.APIFY,
    scrapers.BRIGHT_DATA,
    gallery_dl.SOURCE,
    mastodon.SOURCE,
    img2dataset.SOURCE,
)
UNKNOWN = "of no known shape"
NOT_THERE = "whose picture is not there"


class Collected(NamedTuple):
    """A manifest of posts, and how it came about.

    frame     the columns of fields.COLUMNS, sorted by id
    sources   program -> how many rows
    entries   records that gave no row
    files     files that gave no record
    pictures  pictures that no row has
    notes     what was taken for each field, in lines
    """

    frame: pl.DataFrame
    sources: Counter[str]
    entries: Tally
    files: Tally
    pictures: Tally
    notes: list[str]


def collect(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    profile_table: str | os.PathLike | None = None,
    decimal: str | None = None,
    skip: Collection[str | os.PathLike] = (),
) -> Collected:
    """Collect the posts in a file, or in all files of a folder, whose pictures are there.

    images         folder that the manifest's paths start from (default: the folder, or the file's)
    profile_table  table of users with their followers, for posts that do not say
    decimal        '.' or ',': what stands before the decimals of numbers, where a table does not tell
    skip           files in the folder that are not looked at
    SelfieError if there is no post with a picture.
    """
    path = paths.existing(path, "folder or file of posts")
    root = folder.existing(images) if images else path if path.is_dir() else path.parent
    known, told = profiles.read(profile_table, decimal) if profile_table else ({}, "")
    work = _Collector(root, known)
    left = {paths.resolved(each) for each in (*skip, *([profile_table] if profile_table else []))}
    files = list(folder.records(path, left, work.files)) if path.is_dir() else [path]
    for file in tqdm(files, desc="reading posts", unit="file", leave=False, disable=None):
        work.read(file)
    if not work.rows:
        reasons = "; ".join([*work.entries.lines(), *(f"files: {line}" for line in work.files.lines())])
        searched = ""
        if NOT_THERE in work.entries.counts:
            searched = (
                f" (--images says where else than in {names.shown(root)}: as <short code>.jpg, or beside the record)"
            )
        reasons = reasons or "it holds no file of posts"
        other = "; another table needs no import: name its columns with --map" if UNKNOWN in work.files.counts else ""
        raise SelfieError(f"no post with a picture in {names.shown(path)}: {reasons}{searched}{other}")
    rows = work.finished()
    frame, notes = fields.table(rows, decimal, path)
    return Collected(
        frame, work.sources, work.entries, work.files, work.left_pictures(), [*([told] if told else []), *notes]
    )


class _Collector:
    """Takes one file after the other."""

    def __init__(self, root: Path, followers: dict[str, int]) -> None:
        self.pictures = folder.Pictures(root)
        self.rows: dict[str, dict[str, fields.Value]] = {}
        self.sources: Counter[str] = Counter()
        self.entries, self.files = Tally(), Tally()
        self._names: dict[str, str] = {}  # number of a user -> name, as some records have only the one
        self._followers = {user: fields.Value(str(count), "--profiles") for user, count in followers.items()}

    def read(self, file: Path) -> None:
        """Take the records of a file; one that holds none is counted."""
        unknown = Tally()
        taken = False
        try:
            for where, record in records.of_file(file, _is_known):
                source = _source(record)
                if source is None and isinstance(record, dict) and scrapers.is_profile(record):
                    taken = True
                    self._apify_profile(record, where, file)
                elif source is None:
                    unknown.add(UNKNOWN if isinstance(record, dict) else "that is no JSON object", where)
                else:
                    taken = True
                    self._record(source, record, where, file)
        except SelfieError as error:
            self.files.add("that cannot be read", str(error))
            return
        if taken:
            for reason, count in unknown.counts.items():
                self.entries.add(reason, unknown.example(reason), count)
        else:
            self.files.add(UNKNOWN if unknown.total else "without any record", str(file))

    def _record(self, source: Source, record: dict, where: str, file: Path) -> None:
        if source is instaloader.SOURCE:
            self._profile(record, instaloader.PROFILE_FIELDS)
        self._name(first(record, *IDS), first(record, *(each for each in source.fields["user"] if each not in IDS)))
        if reason := source.left_out(record):
            self.entries.add(reason, where)
            return
        row = fields.row(source, record)
        identity = row["id"].text
        if identity is None:
            self.entries.add("without an id", where)
            return
        near = os.path.relpath(file.parent, self.pictures.folder)
        try:
            found = self.pictures.find(source.hint(record, _stem(file)), "" if near == "." else near)
        except LookupError:
            self.entries.add("whose picture's name several files have", where)
            return
        if not found:
            self.entries.add(NOT_THERE, where)
            return
        self._take(source, row, found, where)

    def _take(self, source: Source, row: dict[str, fields.Value], found: list[str], where: str) -> None:
        """Keep a row with its pictures, unless it was there or another has them."""
        identity, picture = str(row["id"].text), found[0]
        row["path"] = fields.Value(picture, "path")
        earlier = self.rows.get(identity)
        if earlier is not None:
            if earlier["path"] == row["path"]:
                self.rows[identity] = fields.merged(earlier, row)
                self.entries.add("about a post that was there already, from which only what it lacked is taken", where)
            else:
                self.entries.add("with an id that another post has", where)
        elif picture in self.pictures.taken:
            self.entries.add("whose picture another post has", where)
        elif not _is_text(picture):
            self.entries.add("whose picture has a name that is not UTF-8: rename it", picture)
        else:
            self.rows[identity] = row
            self.pictures.taken[picture] = identity
            self.pictures.further.update(found[1:])
            self.sources[source.name] += 1

    def _apify_profile(self, record: dict, where: str, file: Path) -> None:
        """Take a profile's followers, and the posts that it holds."""
        self._profile(record, scrapers.PROFILE)
        self.entries.add(PROFILE, where)
        latest = record.get(scrapers.LATEST)
        for number, post in enumerate(latest if isinstance(latest, list) else [], 1):
            source = _source(post)
            if source:
                self._record(source, post, f"{where}, post {number}", file)
            else:
                self.entries.add(UNKNOWN, f"{where}, post {number}")

    def _profile(self, record: dict, place: Mapping[str, tuple[str, ...]]) -> None:
        self._name(first(record, *place["other"]), first(record, *place["user"]))
        if count := first(record, *place["followers"]):
            for user in (first(record, *place["user"]), first(record, *place["other"])):
                if user:
                    self._followers.setdefault(profiles.key(user), fields.Value(count, "its profile among the posts"))

    def _name(self, number: str, name: str) -> None:
        """Note that a number and a name are the same user's, so that no user is two."""
        if number and name:
            self._names.setdefault(number, name)

    def finished(self) -> list[dict[str, fields.Value]]:
        """Return the rows, sorted by id, with the names of users, and followers from elsewhere where they have none."""
        for row in self.rows.values():
            if row["user"].place in IDS and row["user"].text in self._names:
                row["user"] = row["user"]._replace(text=self._names[str(row["user"].text)])
            if row["followers"].text is None and row["user"].text:
                row["followers"] = self._followers.get(profiles.key(row["user"].text), row["followers"])
        return [self.rows[identity] for identity in sorted(self.rows)]

    def left_pictures(self) -> Tally:
        """Count the pictures that no row has."""
        tally = Tally()
        for path in self.pictures.all:
            if path not in self.pictures.taken:
                carousel = path in self.pictures.further
                tally.add("further pictures of carousels" if carousel else "that no post used here names", path)
        return tally


def _is_known(record: dict) -> bool:
    return _source(record) is not None or scrapers.is_profile(record)


def _source(record: object) -> Source | None:
    """Recognise whose record it is."""
    return next((each for each in SOURCES if each.recognises(record)), None) if isinstance(record, dict) else None


def _stem(file: Path) -> str:
    """Return a file's name without .json, .json.xz and the like."""
    name = file.name
    for suffix in reversed(file.suffixes):
        if suffix.lower() in (*folder.RECORDS, *folder.PACKED) and name.endswith(suffix):
            name = name[: -len(suffix)]
        else:
            break
    return name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
