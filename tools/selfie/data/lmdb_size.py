"""The size of a database, before it is mapped.

LMDB maps its file: where the file is shorter than its pages, reading ends the process with SIGBUS. So the size is
compared first, with the last page that LMDB's own meta pages name (struct MDB_meta of LMDB's mdb.c).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from selfie.common.errors import SelfieError

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
