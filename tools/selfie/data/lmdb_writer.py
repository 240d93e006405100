"""Build LMDB databases that Caffe reads from labelled pictures.

`build` makes one database per split, OUT/train, OUT/val and OUT/test:

    data.mdb      key `%08d_<id>` (the record's number: LMDB's order is the training order), value a Datum
    list.txt      key TAB label TAB path, in that order
    rejects.csv   id,path,reason: every row of the labels is a record or stands here
    posts.csv     key,user,place: what is known of each record's post (lmdb_posts)
    meta.json     counts, options, hashes, versions. Written last: without it the database is not finished

Order: a split's rows are sorted by id and shuffled once with the seed, so the order of the labels' rows is irrelevant.

How a killed build resumes. Pictures are processed strictly in order, in chunks. A chunk is first appended to the
journal (OUT/<split>/journal.jsonl, one line per row of the labels: record, repeated picture or reject); then its
records are committed to LMDB in one transaction. So the journal is never behind the database, and a build that starts
again cuts the journal back to the last committed record and continues from there. All other files are computed from the
labels and the journal alone; hence they, and all records, are those of an uninterrupted build.
The pictures must not change meanwhile. Rows that were rejected stay rejected when a build resumes; --force starts over.

Memory: the columns of the labels that are used, about 200 bytes per record (the hashes that find repeated pictures),
and a few chunks of pictures. A folder is built by one process at a time: it holds the lock of OUT.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import lmdb
import polars as pl
from tqdm import tqdm

from selfie.common import locks, parallel, paths, places
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal
from selfie.common.work import Workers
from selfie.data import label_rule, lmdb_posts, lmdb_reader, lmdb_state, lmdb_work
from selfie.data.image import IMAGE_SIZE
from selfie.data.lmdb_inputs import check_options, describe, ordered_splits
from selfie.data.lmdb_lists import RECORD, REJECT, REPEATED, finish, is_record
from selfie.data.lmdb_work import Record

CHUNK_ROWS, CHUNK_BYTES = 256, 16 << 20  # per transaction: the most that a kill can cost
NOTHING_TO_DO = (
    "nothing to do: %s is finished and was made from the same labels and options (the pictures were not looked at "
    "again; --force does)"
)

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """One split under construction. `first`: number of its first row, counted over all splits."""

    folder: Path
    rows: pl.DataFrame  # as of ordered_splits, in the database's order
    first: int
    journal: Journal  # one record per row that is done
    records: int  # committed so far


def build(
    labels_csv: str | os.PathLike,
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: int = IMAGE_SIZE,
    detail: int = 0,
    raw: bool = False,
    quality: int = 95,
    jobs: int | None = None,
    seed: int = 0,
    force: bool = False,
    outside: bool = False,
    workers: Workers | None = None,
) -> dict[str, dict]:
    """Build the databases of all splits in `labels_csv` (columns id, path, label, split); return {split: meta.json}.

    Paths are relative to `images`, a folder or an address, and lead out of it only if `outside` is set. The result does
    not depend on `jobs`, the number of threads, nor on whether `workers` read the pictures in their place. Where OUT
    already holds
      - the finished databases of the same labels and options: nothing is done, but posts.csv follows the labels;
      - an unfinished build of the same labels and options: it resumes;
      - anything else: SelfieError, unless `force`, which deletes the old databases first. (An unfinished build without
        a single record is replaced without asking.)
    SelfieError also for labels that cannot be used, a split without a usable picture, a full disk, and while another
    process builds in OUT. A picture whose file content has occurred before, in this split or an earlier one, is
    rejected as "same image as <id>". `size` and `detail` of the stored pictures are those of image.square.
    """
    out = Path(out)
    check_options(images, size, quality, seed, detail)
    splits = ordered_splits(labels_csv, seed)
    for rows in splits.values():
        paths.check_inside(rows["path"], labels_csv, outside)
    inputs = describe(splits, images, size, None if raw else quality, seed, detail)
    with locks.folder(out), _clear_write_errors(out):
        if not force and (metas := lmdb_state.finished(out, list(splits), inputs)):
            lmdb_state.forget(out)
            for split, rows in splits.items():
                lmdb_posts.complete(out / split, rows)
            log.info(NOTHING_TO_DO, out)
            return metas
        lmdb_state.begin(out, inputs, force)
        about = {
            "inputs": inputs,
            "labels_file": {
                "name": Path(labels_csv).name,
                "sha256": paths.sha256(labels_csv),
                "rule": label_rule.of(labels_csv),
            },
            "versions": _versions(),
        }
        metas = _build_splits(out, splits, about, jobs, workers)
        lmdb_state.forget(out)
    return metas


def _build_splits(
    out: Path, splits: dict[str, pl.DataFrame], about: dict, jobs: int | None, workers: Workers | None
) -> dict[str, dict]:
    """Build or resume all splits; return {split: meta.json}."""
    seen: dict[bytes, int] = {}  # hash of a picture file -> number of its row, counted over all splits
    ids = pl.concat([rows["id"] for rows in splits.values()])
    parts: list[Part] = []
    with ExitStack() as journals:
        for split, rows in splits.items():
            (out / split).mkdir(exist_ok=True)
            journal = journals.enter_context(
                Journal(out / split / lmdb_state.JOURNAL, valid=lambda record: is_record(record, len(ids)))
            )
            parts.append(_resume(out / split, rows, sum(len(part.rows) for part in parts), journal, seen))
        _build_parts(parts, ids, seen, about, _results(parts, about["inputs"], jobs, workers))
    return {part.folder.name: paths.read_json(part.folder / "meta.json") for part in parts}


def _build_parts(
    parts: list[Part], ids: pl.Series, seen: dict[bytes, int], about: dict, results: Generator[Record | str, None, None]
) -> None:
    """Fill and finish one split after the other; the next one's pictures are read while the last is written."""
    with (
        parallel.opencv_threads(1),  # our threads share the cores already
        closing(results),
        tqdm(total=len(ids), initial=sum(len(part.journal) for part in parts), unit="img", disable=None) as bar,
    ):
        for part in parts:
            bar.set_description(part.folder.name)
            if not (part.folder / "meta.json").is_file():
                _fill(part, results, seen, bar)
                finish(part.folder, part.rows, ids, part.journal, about)


def _results(
    parts: list[Part], options: dict, jobs: int | None, workers: Workers | None
) -> Generator[Record | str, None, None]:
    """Yield the result for each row that is not done, of one part after the other."""
    if workers is not None:
        rows = lmdb_work.Rows([part.rows for part in parts])
        work = lmdb_work.work(options, places.seen((path for path, _ in rows[:100]), options["images"]))
        for file_hash, value, reason in workers(work, rows, sum(len(part.journal) for part in parts)):
            yield reason if reason is not None else Record(file_hash, value)
        return
    tasks = chain.from_iterable(lmdb_work.tasks(part.rows[len(part.journal) :], options) for part in parts)
    with closing(parallel.threads(lmdb_work.encode, tasks, jobs)) as lists:
        yield from chain.from_iterable(lists)


def _resume(folder: Path, rows: pl.DataFrame, first: int, journal: Journal, seen: dict[bytes, int]) -> Part:
    """Cut a split's journal back to what LMDB has committed, and put the pictures that are done into `seen`."""
    committed = lmdb_state.entries(folder)
    done = records = 0
    for kind, value, *_ in journal:
        if kind == RECORD:
            if records == committed:
                break
            records += 1
            seen[bytes.fromhex(value)] = first + done
        done += 1
    journal.cut(done)
    if records < committed:
        raise SelfieError(f"the journal of {folder} is shorter than its database: start over with --force")
    return Part(folder, rows, first, journal, records)


def _fill(part: Part, results: Iterator[Record | str], seen: dict[bytes, int], bar: tqdm) -> None:
    """Take the results for the rest of the split's rows and commit them in chunks."""
    done, records, size = len(part.journal), part.records, 0
    lines: list[list] = []
    chunk: list[tuple[bytes, bytes]] = []
    with lmdb_state.writable(part.folder) as env:
        for row, row_id in enumerate(part.rows["id"][done:], part.first + done):
            result = next(results)
            if isinstance(result, str):
                lines.append([REJECT, result])
            elif (same := seen.setdefault(result.file_hash, row)) != row:
                lines.append([REPEATED, same])
            else:
                lines.append([RECORD, result.file_hash.hex(), hashlib.sha256(result.value).hexdigest()])
                chunk.append((lmdb_reader.make_key(records, row_id), result.value))
                size += len(result.value)
                records += 1
            if len(lines) == CHUNK_ROWS or size >= CHUNK_BYTES:
                _commit(env, part.journal, chunk, lines)
                size = 0
            bar.update()
        _commit(env, part.journal, chunk, lines)


def _commit(env: lmdb.Environment, journal: Journal, chunk: list[tuple[bytes, bytes]], lines: list[list]) -> None:
    """Append the lines to the journal, then commit the chunk's records in one transaction; empty both lists."""
    journal.append(*lines)
    while chunk:
        try:
            with env.begin(write=True) as transaction:
                for key, value in chunk:
                    transaction.put(key, value, append=True)
            break
        except lmdb.MapFullError:  # the file grows with its content, whatever the size of the map
            env.set_mapsize(2 * env.info()["map_size"])
    chunk.clear()
    lines.clear()


def _versions() -> dict[str, str]:
    names = ("selfie", "lmdb", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{name: importlib.metadata.version(name) for name in names},
    }


@contextmanager
def _clear_write_errors(out: Path) -> Iterator[None]:
    """Turn a full disk, or any other failure of LMDB to write, into a SelfieError."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        # LMDB calls a write that was cut short 'Input/output error'; a full disk shows in its free space only.
        full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if (
            getattr(error, "errno", None) in full
            or any(os.strerror(code) in str(error) for code in full)
            or (isinstance(error, lmdb.Error) and shutil.disk_usage(out).free < 2 * CHUNK_BYTES)
        ):
            raise SelfieError(
                f"no space left on the disk of {out}: make room and run the same command again, it goes "
                f"on where it stopped"
            ) from error
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            raise SelfieError(f"{error.filename} is in the way: it is not a folder") from error
        if isinstance(error, lmdb.Error):
            raise SelfieError(f"LMDB cannot write {out}: {error}") from error
        raise
