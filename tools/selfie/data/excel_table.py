"""Read a sheet of an Excel workbook as text."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from selfie.common.errors import SelfieError
from selfie.data import cells, columns, dialects, joined, unpack

MOST_ROWS = 1 << 20  # of a sheet, in Excel
TITLE_ROWS = 20  # that may stand before a header
_MERGED = re.compile(rb"<mergeCell [^>]*?ref=\"([A-Z]{1,3})(\d+):([A-Z]{1,3})(\d+)\"")
_NO_VALUE = re.compile(rb"<c [^>]*>\s*<f(?:\s[^>]*)?(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>")
_MOST_FILLED = 1_000_000  # cells that merged ones may be spread over

Rows = list[tuple[Any, ...]]


def read(path: Path, shown: Path) -> tuple[pl.DataFrame, list[str]]:
    """Read the sheet whose header has known names, else the first with something in it: (table of text, notes).

    The header is the first row that is not empty, or, behind titles, the first of known names. Times are ISO 8601,
    whole numbers have no '.0', formulas are the values that Excel saved, and what merged cells hold stands in each of
    their rows. SelfieError for a damaged workbook, one without a header, and one that becomes too large when it is
    unpacked (unpack.RATIO).
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
                sheets = [each for each in book.worksheets if hasattr(each, "reset_dimensions")]
                for sheet in sheets:
                    sheet.reset_dimensions()  # which may say a million empty rows of 16,384 cells
                chosen = _chosen(sheets, shown)
                if chosen is not None:
                    rows, notes = _rows(chosen, book, shown)
                    others = len(sheets) - 1
                    frame, of_headers = _without_headers(_table(rows), [*map(_name, rows[0])], shown)
                    return frame, [
                        f"sheet '{chosen.title}'" + (f", {others} more not read" * bool(others)),
                        *columns.repeated(map(_name, rows[0])),
                        *notes,
                        *of_headers,
                    ]
            finally:
                book.close()
    except SelfieError:
        raise
    except Exception as error:  # of zipfile, zlib, the XML parser and openpyxl: whatever they stumble over
        raise SelfieError(f"cannot read {shown}: it is no workbook that can be read ({error})") from error
    raise SelfieError(f"cannot read {shown}: it is empty, not even a header")


def _chosen(sheets: list[Any], shown: Path) -> Any:
    """Choose the first sheet whose header has known names, else the first with anything in it; None for neither."""
    filled = None
    for sheet in sheets:
        first = [row for row in islice(sheet.iter_rows(values_only=True), TITLE_ROWS + 1) if _is_filled(row)]
        if any(_known(row) >= dialects.HEADER_NAMES for row in first):
            return sheet
        if filled is None and (first or any(True for _ in _filled(sheet, shown))):
            filled = sheet
    return filled


def _rows(sheet: Any, book: Any, shown: Path) -> tuple[Rows, list[str]]:
    """Read a sheet's rows that are not empty, from its header on; returns them and what is to be told."""
    numbered = list(_filled(sheet, shown))
    head = 0
    if _known(numbered[0][1]) < 2 and sum(_is_filled((cell,)) for cell in numbered[0][1]) < dialects.HEADER_NAMES:
        first = numbered[: TITLE_ROWS + 1]
        head = next((n for n, (_, row) in enumerate(first) if _known(row) >= dialects.HEADER_NAMES), 0)
    numbered = numbered[head:]
    notes = [f"{head} row{'s' * (head > 1)} before the header left out"] if head else []
    with book._archive.open(sheet._worksheet_path) as source:  # what openpyxl does not tell of sheets that it streams
        xml = source.read()
    without = sum(1 for _ in _NO_VALUE.finditer(xml))
    if without:
        notes.append(
            f"{without} formula{'s' * (without > 1)} without a saved value read as empty: open the workbook in a "
            "spreadsheet program and save it"
        )
    if merged := _MERGED.findall(xml):
        notes.append(f"what merged cells hold ({len(merged)} ranges) is read in each of their rows")
        numbered = _unmerged(numbered, merged)
    return [row for _, row in numbered], notes


def _filled(sheet: Any, shown: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number and the cells of each row that is not empty; SelfieError for more than a sheet should have.

    One cell says where it stands, and what is before it comes as empty cells and rows.
    """
    cells_so_far = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells_so_far += len(row)
        if number > MOST_ROWS or cells_so_far > cells.ALWAYS:
            raise SelfieError(
                f"cannot read {shown}: sheet '{sheet.title}' has over {MOST_ROWS:,} rows, or {cells.ALWAYS:,} cells: "
                "delete the empty rows and columns behind the table, or save it as CSV"
            )
        if _is_filled(row):
            yield number, row


def _unmerged(numbered: list[tuple[int, tuple[Any, ...]]], merged: list[tuple[bytes, ...]]) -> list[tuple[int, Any]]:
    """Write what the first of merged cells holds into those below it, in rows that are not empty."""
    import openpyxl

    rows = {number: list(row) for number, row in numbered}
    filled = 0
    for left, top, _, bottom in merged:
        place, first = openpyxl.utils.column_index_from_string(left.decode()) - 1, rows.get(int(top), [])
        value = first[place] if place < len(first) else None
        for number in range(int(top) + 1, int(bottom) + 1 if value is not None else 0):
            filled += 1
            if filled > _MOST_FILLED:
                break
            if number in rows:
                row = rows[number]
                row += [None] * (place + 1 - len(row))
                row[place] = value if row[place] is None else row[place]
    return [(number, tuple(row)) for number, row in rows.items()]


def _is_filled(row: tuple[Any, ...]) -> bool:
    return any(cell is not None and cell != "" for cell in row)


def _known(row: tuple[Any, ...]) -> int:
    return len({name for cell in row if (name := columns.plain(str(cell))) in columns.KNOWN})


def _table(rows: Rows) -> pl.DataFrame:
    width = max(map(len, rows))
    header = [*map(_name, rows[0])] + [""] * (width - len(rows[0]))
    found: dict[str, list[str | None]] = {
        name: [_text(row[place]) if place < len(row) else None for row in rows[1:]]
        for place, name in enumerate(columns.unique(header))
    }
    return pl.DataFrame(found, schema=dict.fromkeys(found, pl.String))


def _without_headers(frame: pl.DataFrame, header: list[str], shown: Path) -> tuple[pl.DataFrame, list[str]]:
    """Leave out the rows that are the header once more; returns the table, and what is to be told."""
    header += [""] * (frame.width - len(header))
    named = ([value or "" for value in row] for row in frame.iter_rows())
    joined.check(joined.rows_of(named, header), header, "row", shown)
    return joined.without_headers(frame, header, frame.columns)


def _name(cell: Any) -> str:
    """Write a cell of the header; empty ones are names, too."""
    return _text(cell) or ""


def _text(cell: Any) -> str | None:
    """Write a cell as text."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, (datetime, date)):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return str(cell)
