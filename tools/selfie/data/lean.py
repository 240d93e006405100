"""Tables of tens of millions of rows, of which memory shall hold one, not two: changed in place, column by column.

Whoever else holds the table sees it change, so these are for tables that nobody else needs. The values of a column are
free as soon as it is replaced, unless they are part of another table as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def put(table: pl.DataFrame, column: pl.Series) -> None:
    """Put a column into a table, in place; one of the same name goes."""
    if column.name in table.columns:
        table.drop_in_place(column.name)
    table.hstack([column], in_place=True)


def take(table: pl.DataFrame, rows: pl.Series, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Take rows, marked (Boolean) or by their numbers, of the columns `names` (None: all) out of a table.

    The table has no columns afterwards.
    """
    names = table.columns if names is None else names
    for name in set(table.columns) - set(names):
        table.drop_in_place(name)
    taken = []
    for name in names:
        column = table.drop_in_place(name)
        if rows.dtype == pl.Boolean:
            taken.append(column.filter(rows).rechunk())
        else:
            taken.append(column.rechunk().gather(rows))  # in pieces, as files are read, it takes four times as long
    return pl.DataFrame(taken)
