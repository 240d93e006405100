"""Append-only journal: the file that tells a killed job how far it came.

One JSON value per line. `append` returns only when its records are on the disk; opening a journal cuts off whatever a
kill left half written. A header may say what the records belong to; a journal with another header starts over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Callable

from selfie.common import paths


class Journal:
    """The journal at `path`, open for appending; the file and its folder are made if need be.

        with Journal(path, {"detector": "lbp"}) as journal:
            done = list(journal)  # what earlier processes appended
            journal.append(...)

    header   JSON object that the records belong to, kept in the file's first line; None for a journal without one.
             A file that begins with another header is emptied.
    valid    says of a record whether it can be one of this journal; the first that cannot, and all behind it, go
    Only one process at a time may have a journal open.
    """

    def __init__(
        self, path: str | os.PathLike, header: dict | None = None, valid: Callable[[Any], bool] = lambda record: True
    ) -> None:
        self.path, self.header, self.valid = Path(path), header, valid
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            paths.regular(self.path)
        self._file = open(self.path, "ab")  # noqa: SIM115  closed by close()
        self._records = 0
        self.cut()
        if header is not None and not self._file.tell():
            self._write([header])

    def cut(self, records: int | None = None) -> None:
        """Keep the first `records` records, or all that are whole; remove the rest from the file."""
        length = count = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file):
                header_line = number == 0 and self.header is not None
                if (count == records and not header_line) or not self._whole(line, header_line):
                    break
                length += len(line)
                count += not header_line
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)
        self._records = count

    def _whole(self, line: bytes, header_line: bool) -> bool:
        """Tell whether a line is complete and holds what it should: a kill or a power cut can leave another one."""
        if not line.endswith(b"\n"):
            return False
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return False
        return value == self.header if header_line else self.valid(value)

    def append(self, *records: Any) -> None:
        """Append JSON values, one line each, and wait until they are on the disk."""
        self._write(records)
        self._records += len(records)

    def _write(self, values: Any) -> None:
        self._file.write("".join(json.dumps(value) + "\n" for value in values).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __len__(self) -> int:
        """Number of records."""
        return self._records

    def __iter__(self) -> Iterator[Any]:
        """The records from the first on, read from the file one by one."""
        with open(self.path, "rb") as file:
            first = 0 if self.header is None else 1
            yield from map(json.loads, islice(file, first, first + self._records))

    def close(self) -> None:
        """Close the file; the journal can still be read, not appended to."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
