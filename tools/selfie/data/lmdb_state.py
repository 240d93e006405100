"""The state of a database folder: a finished database, an unfinished build, or nothing; and clearing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from selfie.common import paths, shapes
from selfie.common.errors import SelfieError
from selfie.common.splits import SPLITS
from selfie.data import lmdb_posts, lmdb_reader, lmdb_size

SMALLEST_MAP = 1 << 20  # bytes of a new database's memory map; it grows with the content
JOURNAL = "journal.jsonl"  # in each split's folder, while its database is being built
STATE = "unfinished.json"  # in OUT: what an unfinished build is made from


def finished(out: Path, splits: list[str], inputs: dict) -> dict[str, dict] | None:
    """Return meta.json of every split if all of them are finished and made from `inputs`, else None."""
    metas = {}
    for split in splits:
        meta = out / split / "meta.json"
        if not meta.is_file() or not (out / split / "data.mdb").is_file():
            return None
        metas[split] = paths.read_json(meta)
    if not all(meta.get("inputs") == inputs for meta in metas.values()):
        return None
    for split in splits:
        shapes.read(out / split / "meta.json", {**lmdb_reader.META, "rejects": {str: int}}, lmdb_size.AGAIN)
    return metas


def begin(out: Path, inputs: dict, force: bool) -> None:
    """Prepare OUT: keep an unfinished build of the same inputs, else empty it and write a fresh state file.

    SelfieError if it holds a database of other inputs, or an unfinished one with at least one record, unless `force`.
    """
    state = out / STATE
    if state.is_file() and not force:
        before = paths.read_json(state)
        if before == inputs:
            return
        if any(entries(out / split) for split in SPLITS):
            raise SelfieError(
                f"{out} holds an unfinished database made from {difference(before, inputs)}: finish it "
                f"with those, or start over with --force"
            )
        force = True
    used = [out / split for split in SPLITS if (out / split / "data.mdb").exists()]
    if used and not force:
        meta = used[0] / "meta.json"
        recorded = paths.read_json(meta).get("inputs") if meta.is_file() else {}
        before = recorded if isinstance(recorded, dict) else {}  # damaged: it says nothing
        raise SelfieError(
            f"{used[0]} already holds a database made from {difference(before, inputs)}: choose another "
            f"--out, or replace it with --force"
        )
    _empty(out)
    paths.write_json(state, inputs)


def difference(before: dict, now: dict) -> str:
    """Say what tells two builds apart, for an error message: 'other labels', 'seed 1 (not 0)' and so on."""
    before = {"preprocessing": 1, **before}  # the first one was not recorded
    changed = [
        f"{name} {before[name]} (not {now[name]})"
        for name in now
        if name != "rows" and name in before and before[name] != now[name]
    ]
    if before.get("rows") != now["rows"] and before.get("seed") == now["seed"]:  # the seed orders the rows
        changed.insert(0, "other labels")
    return ", ".join(changed) or "the same inputs, but incomplete"


def entries(folder: Path) -> int:
    """Number of records that are committed to the database in `folder`; 0 where there is none."""
    if not (folder / "data.mdb").is_file():
        return 0
    with writable(folder) as env:
        return env.stat()["entries"]


@contextmanager
def writable(folder: Path) -> Iterator[lmdb.Environment]:
    """Open the folder's LMDB environment for writing.

    LMDB's own lock file is not used: OUT is locked, and on a full disk LMDB would die of SIGBUS in that file's memory
    map.
    """
    file = folder / "data.mdb"
    if file.exists() and file.stat().st_size:
        lmdb_size.check_size(folder)
    size = max(SMALLEST_MAP, file.stat().st_size if file.exists() else 0)
    with lmdb.open(str(folder), map_size=size, lock=False, mode=0o644) as env:
        yield env


def forget(out: Path) -> None:
    """Delete what only an unfinished build needs."""
    for split in SPLITS:
        (out / split / JOURNAL).unlink(missing_ok=True)
    (out / STATE).unlink(missing_ok=True)


def _empty(out: Path) -> None:
    """Delete what a build makes and nothing else; first what says that it is finished, or that it can go on."""
    (out / STATE).unlink(missing_ok=True)
    lists = ("list.txt", "rejects.csv", lmdb_posts.FILE)
    for name in ("meta.json", "data.mdb", "lock.mdb", *lists, "journal.tsv", JOURNAL):
        for split in SPLITS:
            with suppress(NotADirectoryError):
                (out / split / name).unlink(missing_ok=True)
    for split in SPLITS:
        if (out / split).is_dir() and not any((out / split).iterdir()):
            (out / split).rmdir()
