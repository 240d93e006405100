"""Whether a database is whole: its size before it is mapped, and, on demand, its content against meta.json.

LMDB maps its file: where the file is shorter than its pages, reading ends the process with SIGBUS. So the size is
compared first, with the last page that LMDB's own meta pages name (struct MDB_meta of LMDB's mdb.c).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import struct
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from selfie.common.errors import SelfieError
from selfie.common.splits import SPLITS
from selfie.data import datum

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes of a page's header
META = struct.Struct("<IIQQ I44x 48x QQ")  # magic, version, address, map size; size of pages; last page, transaction
AGAIN = "build it again with --force, or copy it again from where it came"


class Meta(NamedTuple):
    """What a meta page says: size of a page in bytes, number of the last page, and number of the transaction."""

    page: int
    last: int
    transaction: int


def check_size(folder: Path) -> None:
    """Raise SelfieError if data.mdb in `folder` is shorter than its pages are, or is no database of LMDB at all."""
    file = folder / "data.mdb"
    size = file.stat().st_size
    with open(file, "rb") as opened:
        first = _meta(opened.read(HEADER + META.size))
        if first is None:
            raise SelfieError(f"{file} is damaged: it does not begin as a database does; {AGAIN}")
        opened.seek(first.page)
        second = _meta(opened.read(HEADER + META.size))
    if second is None or second.page != first.page:
        raise SelfieError(f"{file} is damaged: its second page is none of a database; {AGAIN}")
    needed = (max(first, second, key=lambda meta: meta.transaction).last + 1) * first.page
    if size < needed:
        raise SelfieError(f"{file} is damaged: it is cut off at {size:,} of {needed:,} bytes; {AGAIN}")


def _meta(data: bytes) -> Meta | None:
    """Read a meta page; None if it is none."""
    if len(data) < HEADER + META.size:
        return None
    magic, version, _, _, page, last, transaction = META.unpack_from(data, HEADER)
    if (magic, version) != (MAGIC, VERSION) or page & (page - 1) or not 256 <= page <= 1 << 16:
        return None
    return Meta(page, last, transaction)


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
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                counts[str(folder)] = pool.submit(verify_one, folder).result()
            except BrokenProcessPool as error:
                raise SelfieError(f"{folder}/data.mdb is damaged: reading it ends a process; {AGAIN}") from error
    return counts


def verify_one(folder: Path) -> int:
    """Compare a database's records with its meta.json and list.txt; return their number, SelfieError if they differ."""
    from selfie.data.lmdb_reader import Database  # which checks sizes with this module

    content = hashlib.sha256()
    listing = (folder / "list.txt").read_text(errors="surrogateescape").split("\n")
    with Database(folder) as records, tqdm(total=len(records), unit="selfie", desc=folder.name, disable=None) as bar:
        for (key, value), line in zip(records.items(), listing):
            try:
                label = datum.label_of(value)
            except ValueError as error:
                raise SelfieError(f"{folder}: record {key} is damaged ({error}); {AGAIN}") from error
            if line.split("\t")[:2] != [key, str(label)]:
                raise SelfieError(f"{folder}: record {key} is not the one that list.txt has; {AGAIN}")
            content.update(key.encode() + b"\0" + hashlib.sha256(value).digest())
            bar.update()
        if content.hexdigest() != records.meta["content"]:
            raise SelfieError(f"{folder} is damaged: its records are not those that it was built with; {AGAIN}")
        return len(records)
