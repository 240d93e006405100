"""The lists beside a database, computed from its rows and its journal: list.txt, rejects.csv, posts.csv, meta.json."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from pathlib import Path

import polars as pl

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal
from selfie.data import lmdb_posts, lmdb_reader

# The first value of a journal's record: a record of the database, with the hashes (hex) of the picture file and of its
# Datum; a picture that repeats another one, with the number of that one's row; a reject, with its reason.
RECORD, REPEATED, REJECT = "+", "=", "-"
HASH = re.compile("([0-9a-f]{2})+")


def is_record(record: object, rows: int) -> bool:
    """Whether a value can be a record of the journal of a build with so many rows."""
    kind, *values = record if isinstance(record, list) and record else (None,)
    if kind == RECORD:
        return len(values) == 2 and all(isinstance(value, str) and HASH.fullmatch(value) for value in values)
    if kind == REPEATED:
        return len(values) == 1 and type(values[0]) is int and 0 <= values[0] < rows
    return kind == REJECT and len(values) == 1 and isinstance(values[0], str) and paths.is_text(values)


def finish(folder: Path, rows: pl.DataFrame, ids: pl.Series, journal: Journal, about: dict) -> None:
    """Write list.txt, rejects.csv, posts.csv and, last, meta.json of one split.

    rows     id, path, label, user, place of the split, one per record of the journal
    ids      of the rows of all splits, which the numbers of repeated pictures count
    about    what meta.json says beside the counts
    SelfieError if none of the pictures can be used; the journal is emptied then, so that the next build tries again.
    """
    reasons: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    records = 0
    content = hashlib.sha256()
    with paths.atomic_write(folder / "list.txt") as listing, paths.atomic_write(folder / "rejects.csv") as rejects:
        table = csv.writer(rejects, lineterminator="\n")
        table.writerow(["id", "path", "reason"])
        for (kind, value, *datum_hash), (row_id, path, label) in zip(
            journal, rows.select("id", "path", "label").iter_rows()
        ):
            if kind == RECORD:
                key = lmdb_reader.make_key(records, row_id)
                content.update(key + b"\0" + bytes.fromhex(datum_hash[0]))
                listing.write(f"{key.decode()}\t{label}\t{path}\n")
                labels[label] += 1
                records += 1
            else:
                reason = f"same image as {ids[value]}" if kind == REPEATED else value
                reasons["same image" if kind == REPEATED else reason] += 1
                table.writerow([row_id, path, reason])
    if not records:
        journal.cut(0)
        counts = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        raise SelfieError(
            f"none of the {len(rows)} pictures of split {folder.name} can be used ({counts}): is --images right?"
        )
    paths.write_json(
        folder / "meta.json",
        {
            "split": folder.name,
            "count": records,
            "labels": {str(label): labels[label] for label in sorted(labels)},
            "rejects": dict(sorted(reasons.items())),
            "users": lmdb_posts.write(folder, rows),
            "content": content.hexdigest(),
            **about,
        },
    )
