"""Whether the records of databases are those that they were built with: the content against meta.json and list.txt."""

from __future__ import annotations

import hashlib
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.common.splits import SPLITS
from selfie.data import datum, lmdb_size
from selfie.data.lmdb_reader import Database


def verify(out: Path) -> dict[str, int]:
    """Read all databases below `out` (or the one that it is) and compare them with their meta.json.

    Returns {folder: number of records}. SelfieError names the first thing that is wrong. Each is read in a process of
    its own, because damage can end it.
    """
    folders = [out] if (out / "data.mdb").exists() else [out / split for split in SPLITS if (out / split).is_dir()]
    if not folders:
        raise SelfieError(f"{out} holds no database")
    counts = {}
    for folder in folders:
        try:
            counts[str(folder)] = parallel.alone(verify_one, folder)
        except BrokenProcessPool as error:
            raise SelfieError(f"{folder}/data.mdb is damaged: reading it ends a process; {lmdb_size.AGAIN}") from error
    return counts


def verify_one(folder: Path) -> int:
    """Compare a database's records with its meta.json and list.txt; return their number, SelfieError if they differ."""
    content = hashlib.sha256()
    listing = paths.existing_file(folder / "list.txt", "list").read_text(errors="surrogateescape").split("\n")
    with Database(folder) as records, tqdm(total=len(records), unit="selfie", desc=folder.name, disable=None) as bar:
        for (key, value), line in zip(records.items(), listing):
            try:
                label = datum.label_of(value)
            except ValueError as error:
                raise SelfieError(f"{folder}: record {key} is damaged ({error}); {lmdb_size.AGAIN}") from error
            if line.split("\t")[:2] != [key, str(label)]:
                raise SelfieError(f"{folder}: record {key} is not the one that list.txt has; {lmdb_size.AGAIN}")
            content.update(key.encode() + b"\0" + hashlib.sha256(value).digest())
            bar.update()
        if content.hexdigest() != records.meta["content"]:
            raise SelfieError(
                f"{folder} is damaged: its records are not those that it was built with; {lmdb_size.AGAIN}"
            )
        return len(records)
