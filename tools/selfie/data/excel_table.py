"""Read the first sheet of an Excel workbook as text."""

from __future__ import annotations

import warnings
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import unpack


def read(path: Path, shown: Path) -> tuple[pl.DataFrame, list[str]]:
    """Read the first sheet with something in it: (table of text, notes). The first row that is not empty is the header.

    Times are ISO 8601, whole numbers have no '.0', formulas are the values that Excel saved. SelfieError for a damaged
    workbook, one without a header, and one that becomes too large when it is unpacked (unpack.RATIO).
    """
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max(unpack.ALWAYS, unpack.RATIO * path.stat().st_size):
            raise SelfieError(f"{shown} becomes {size >> 20} MB when it is unpacked: save the sheet as CSV")
        with open(path, "rb") as file, warnings.catch_warnings():  # of styles and validations, which are nothing to us
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            try:
                for number, sheet in enumerate(book.worksheets):
                    rows = [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
                    if rows:
                        more = len(book.worksheets) - number - 1
                        notes = [f"sheet '{sheet.title}'" + (f", {more} more not read" if more else "")]
                        return _table(rows), notes
            finally:
                book.close()
    except SelfieError:
        raise
    except Exception as error:  # of zipfile, zlib, the XML parser and openpyxl: whatever they stumble over
        raise SelfieError(f"cannot read {shown}: it is no workbook that can be read ({error})") from error
    raise SelfieError(f"cannot read {shown}: it is empty, not even a header")


def _table(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    header = [_text(cell) or "" for cell in rows[0]]
    columns: dict[str, list[str | None]] = {}
    for place, name in enumerate(header):
        number, new = 0, name
        while new in columns:
            number, new = number + 1, f"{name}_duplicated_{number}"
        columns[new] = [_text(row[place]) if place < len(row) else None for row in rows[1:]]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _text(cell: Any) -> str | None:
    """Write a cell as text."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, (datetime, date)):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return str(cell)
