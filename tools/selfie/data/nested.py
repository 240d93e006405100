"""Columns inside of columns: JSON and Parquet may hold {"edge_liked_by": {"count": 3}}, edge_liked_by.count for us."""

from __future__ import annotations

from collections.abc import Collection
from typing import Callable

import polars as pl

Pick = Callable[[list[str]], Collection[str]]  # is given the names of all columns, returns those that are wanted


def select(table: pl.LazyFrame, pick: Pick | None) -> tuple[pl.DataFrame, list[str]]:
    """Collect the columns that are wanted, in the table's order; returns them, and the names of all, inner ones too.

    `pick` None: the columns that are not inside of others.
    """
    schema = table.collect_schema()
    columns = _columns(schema)
    wanted = set(schema if pick is None else pick(list(columns)))
    chosen = [column.alias(name) for name, column in columns.items() if name in wanted]
    return table.select(chosen).collect(), list(columns)


def _columns(schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return {name: expression} of every column, and of the fields of those that are structs."""
    columns: dict[str, pl.Expr] = {}
    for name, dtype in schema.items():
        columns[name] = pl.col(name)
        if isinstance(dtype, pl.Struct):
            columns |= {
                inner: each for inner, each in _fields(name, pl.col(name), dtype).items() if inner not in schema
            }
    return columns


def _fields(name: str, column: pl.Expr, dtype: pl.Struct) -> dict[str, pl.Expr]:
    fields: dict[str, pl.Expr] = {}
    for field in dtype.fields:
        inner, value = f"{name}.{field.name}", column.struct.field(field.name)
        fields[inner] = value
        if isinstance(field.dtype, pl.Struct):
            fields |= _fields(inner, value, field.dtype)
    return fields
