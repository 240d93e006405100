"""The outcome of a gathering: the manifest that the labels are made from, and the counts that say what was left out."""

from __future__ import annotations

import csv
from pathlib import Path

from selfie.common import paths, times
from selfie.gather.ledger import Ledger

COLUMNS = (
    *("id", "path", "user", "followers", "likes", "tags", "posted_at"),
    *("uri", "observed_at", "licence", "sha256", "width", "height"),
)


def manifest(ledger: Ledger, out: Path) -> tuple[int, str]:
    """Write the manifest of what is kept, row by row; returns the number of rows and when the last likes were counted.

    `path` is relative to the ledger's images; `followers` and `likes` are those of `observed_at`. The time is ISO 8601,
    "" for no rows.
    """
    for torn in out.parent.glob(f".{out.stem}.*"):  # of a process that was killed while it wrote
        torn.unlink()
    rows, newest = 0, 0
    with paths.atomic_write(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for key, path, author, followers, likes, tags, posted_at, uri, observed_at, *rest in ledger.kept():
            dates = times.stamp(posted_at), times.stamp(observed_at)
            writer.writerow([f"{key:07d}", path, author, followers, likes, tags, dates[0], uri, dates[1], *rest])
            rows, newest = rows + 1, max(newest, observed_at)
    return rows, times.stamp(newest) if rows else ""
