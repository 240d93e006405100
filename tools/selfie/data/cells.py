"""How many values a table may have for the bytes of its file: few bytes can say that there are a billion rows.

Parquet repeats a value at no cost, rows of CSV may end early, JSON names each key where it likes, and a sheet begins
wherever its first cell says. Such a file is refused before its table stands in memory.
"""

from __future__ import annotations

from pathlib import Path

from selfie.common.errors import SelfieError

# Values for each byte, and as many in any case. Tables as people have them: 0.02 to 1; a Parquet file of mostly
# constant columns, 10.
RATIO, ALWAYS = 40, 50_000_000


def most(size: int) -> int:
    """Return how many values the table of a file of `size` bytes may have."""
    return max(ALWAYS, RATIO * size)


def check(rows: int, columns: int, size: int, shown: Path) -> None:
    """Raise SelfieError if a file of `size` bytes has more `rows` and `columns` than it may."""
    if rows * columns > most(size):
        raise SelfieError(
            f"{shown} has {rows:,} rows and {columns:,} columns in {size:,} bytes, over {RATIO} values for each of "
            "them: it is damaged, or most of it is empty; leave out the columns, or rows, that are not needed"
        )
