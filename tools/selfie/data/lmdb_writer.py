"""Labelled pictures to LMDB databases that Caffe reads, and back.

`build` makes one database per split, OUT/train, OUT/val and OUT/test:

    data.mdb      key `%08d_<id>` (the record's number: LMDB's order is the training order), value a Datum
    list.txt      key TAB label TAB path, in that order
    rejects.csv   id,path,reason: every row of the labels is a record or stands here
    meta.json     counts, options, hashes, versions. Written last: without it the database is not finished

Order: a split's rows are sorted by id and shuffled once with the seed, so the order of the labels' rows is irrelevant.

How a killed build goes on. Pictures are worked on strictly in order, in chunks. A chunk is first written to the journal
(OUT/<split>/journal.tsv, one line per row of the labels: record, repeated picture or reject) and synced; then its
records are committed to LMDB in one transaction. So the journal is never behind the database, and a build that starts
again cuts the journal back to the last committed record and goes on from there. list.txt, rejects.csv and meta.json are
computed from the labels and the journal alone; hence they, and all records, are those of an uninterrupted build. The
pictures must not change meanwhile. Rows that were rejected stay rejected when a build goes on; --force starts anew.

Memory: the columns of the labels that are used, about 150 bytes per record (the hashes that find repeated pictures),
and a few chunks of pictures. A folder is built by one process at a time: it holds a lock (flock) on OUT.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import lmdb
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.data import datum, image
from selfie.data.image import BadImage
from selfie.data.lmdb_inputs import check_options, ordered_splits, rows_hash
from selfie.data.user_split import SPLITS

TASK_ROWS = 16  # rows that a worker does at a time: 3 MB of raw datums
CHUNK_ROWS, CHUNK_BYTES = 256, 16 << 20  # per transaction: what a kill can cost
SMALLEST_MAP = 1 << 20
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")

log = logging.getLogger(__name__)


class Task(NamedTuple):
    """A few rows for a worker. `rows`: (path, label)."""

    images: str
    size: int
    quality: int | None  # None: raw
    rows: list[tuple[str, int]]


class Record(NamedTuple):
    """A worker's answer for a picture that can be used; for others it answers with the reason, a string."""

    file_hash: bytes
    value: bytes


def build(
    labels_csv: str | os.PathLike,
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: int = 256,
    raw: bool = False,
    quality: int = 95,
    jobs: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> dict[str, dict]:
    """Build the databases of all splits in `labels_csv` (columns id, path, label, split) and return their meta.json.

    Paths are relative to `images`. The result does not depend on `jobs`. Where OUT already holds
      - the finished databases of the same labels and options: nothing is done;
      - an unfinished build of the same labels and options: it goes on where it stopped;
      - anything else: SelfieError, unless `force`, which deletes the old databases first. (An unfinished build without
        a single record is not worth the question and is replaced.)
    SelfieError too for labels that cannot be used, a split without a usable picture, a full disk, and when another
    build is at work in OUT. A picture whose file content has occurred before, in this split or an earlier one, is
    rejected as "same image as <id>".
    """
    images, out = Path(images), Path(out)
    check_options(images, size, quality, seed)
    splits = ordered_splits(labels_csv, seed)
    inputs = {
        "rows": rows_hash(splits),
        "images": str(images.resolve()),
        "size": size,
        "encoding": "raw" if raw else "jpeg",
        "quality": None if raw else quality,
        "seed": seed,
        "preprocessing": image.PREPROCESSING,
    }
    with paths.locked(out), _clear_write_errors(out):
        if not force and (metas := _finished(out, splits, inputs)):
            _remove_state(out)
            log.info(
                "nothing to do: %s is finished and was made from the same labels and options (the pictures "
                "were not looked at again; --force does)",
                out,
            )
            return metas
        _begin(out, inputs, force)
        common = {
            "inputs": inputs,
            "labels_file": {"name": Path(labels_csv).name, "sha256": paths.sha256(labels_csv)},
            "versions": _versions(),
        }
        metas = _build_splits(out, splits, common, jobs)
        _remove_state(out)
    return metas


# --- what is already there -------------------------------------------------------------------------------------------


def _state(out: Path) -> Path:
    """The file that says what an unfinished build is made from."""
    return out / "unfinished.json"


def _finished(out: Path, splits: dict[str, pl.DataFrame], inputs: dict) -> dict[str, dict] | None:
    """The meta.json of all splits, if all are finished and made from `inputs`."""
    metas = {}
    for split in splits:
        meta = out / split / "meta.json"
        if not meta.is_file() or not (out / split / "data.mdb").is_file():
            return None
        metas[split] = paths.read_json(meta)
    return metas if all(meta.get("inputs") == inputs for meta in metas.values()) else None


def _begin(out: Path, inputs: dict, force: bool) -> None:
    """Leave OUT empty with a fresh state file, or as an unfinished build of the same inputs; SelfieError otherwise."""
    state = _state(out)
    if state.is_file() and not force:
        before = paths.read_json(state)
        if before == inputs:
            return
        if any(_entries(out / split) for split in SPLITS):
            raise SelfieError(
                f"{out} holds an unfinished database made from {_difference(before, inputs)}: finish it "
                f"with those, or start anew with --force"
            )
        force = True
    used = [out / split for split in SPLITS if (out / split / "data.mdb").exists()]
    if used and not force:
        meta = used[0] / "meta.json"
        before = paths.read_json(meta).get("inputs", {}) if meta.is_file() else {}
        raise SelfieError(
            f"{used[0]} already holds a database made from {_difference(before, inputs)}: choose another "
            f"--out, or replace it with --force"
        )
    _remove(out)
    paths.write_json(state, inputs)


def _difference(before: dict, now: dict) -> str:
    """'other labels', 'seed 1 (not 0)' ...: what tells two builds apart, for an error message."""
    before = {"preprocessing": 1, **before}  # the first one was not recorded
    changed = [
        f"{name} {before[name]} (not {now[name]})"
        for name in now
        if name != "rows" and name in before and before[name] != now[name]
    ]
    if before.get("rows") != now["rows"] and before.get("seed") == now["seed"]:  # the seed orders the rows
        changed.insert(0, "other labels")
    return ", ".join(changed) or "the same inputs, but incomplete"


def _entries(folder: Path) -> int:
    """Records committed so far."""
    if not (folder / "data.mdb").is_file():
        return 0
    with _writable(folder) as env:
        return env.stat()["entries"]


def _remove(out: Path) -> None:
    """Delete what a build makes and nothing else; first what says that it is finished, or that it can go on."""
    _state(out).unlink(missing_ok=True)
    for name in ("meta.json", "data.mdb", "lock.mdb", "list.txt", "rejects.csv", "journal.tsv"):
        for split in SPLITS:
            with suppress(NotADirectoryError):
                (out / split / name).unlink(missing_ok=True)
    for split in SPLITS:
        if (out / split).is_dir() and not any((out / split).iterdir()):
            (out / split).rmdir()


def _remove_state(out: Path) -> None:
    """Delete what only an unfinished build needs."""
    for split in SPLITS:
        (out / split / "journal.tsv").unlink(missing_ok=True)
    _state(out).unlink(missing_ok=True)


# --- building --------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """One split. `first`: number of its first row over all splits; `done`, `records`: rows and records so far."""

    folder: Path
    rows: pl.DataFrame
    first: int
    done: int
    records: int


def _build_splits(out: Path, splits: dict[str, pl.DataFrame], common: dict, jobs: int | None) -> dict[str, dict]:
    seen: dict[bytes, int] = {}  # hash of a picture file -> number of its row, counted over all splits
    ids = pl.concat([rows["id"] for rows in splits.values()])
    parts, first = [], 0
    for split, rows in splits.items():
        (out / split).mkdir(exist_ok=True)
        done, records = _go_on(out / split, first, seen)
        parts.append(Part(out / split, rows, first, done, records))
        first += len(rows)
    tasks = chain.from_iterable(_tasks(part.rows[part.done :], common["inputs"]) for part in parts)
    with (
        closing(parallel.threads(_encode, tasks, jobs)) as lists,
        tqdm(total=len(ids), initial=sum(part.done for part in parts), unit="img", disable=None) as bar,
    ):
        answers = chain.from_iterable(lists)
        for part in parts:
            bar.set_description(part.folder.name)
            if not (part.folder / "meta.json").is_file():
                _fill(part, answers, seen, bar)
                _finish(part, ids, common)
    return {part.folder.name: paths.read_json(part.folder / "meta.json") for part in parts}


def _go_on(folder: Path, first: int, seen: dict[bytes, int]) -> tuple[int, int]:
    """Cut the journal back to what LMDB has committed; (rows, records) that are done. Their pictures go into `seen`."""
    committed = _entries(folder)
    rows = records = length = 0
    with open(folder / "journal.tsv", "ab+") as journal:
        journal.seek(0)
        for line in journal:
            if not line.endswith(b"\n") or (line[:1] == b"+" and records == committed):
                break
            if line[:1] == b"+":
                records += 1
                seen[bytes.fromhex(line.split(b"\t")[1].decode())] = first + rows
            rows += 1
            length += len(line)
        journal.truncate(length)
    if records < committed:
        raise SelfieError(f"the journal of {folder} is shorter than its database: start anew with --force")
    return rows, records


def _fill(part: Part, answers: Iterator[Record | str], seen: dict[bytes, int], bar: tqdm) -> None:
    """Take the answers for the rest of the split's rows and commit them in chunks."""
    lines: list[str] = []
    chunk: list[tuple[bytes, bytes]] = []
    size, records = 0, part.records
    with _writable(part.folder) as env, open(part.folder / "journal.tsv", "a") as journal:
        for row, row_id in enumerate(part.rows["id"][part.done :], part.first + part.done):
            answer = next(answers)
            if isinstance(answer, str):
                lines.append(f"-\t{answer}\n")
            elif (same := seen.setdefault(answer.file_hash, row)) != row:
                lines.append(f"=\t{same}\n")
            else:
                lines.append(f"+\t{answer.file_hash.hex()}\t{hashlib.sha256(answer.value).hexdigest()}\n")
                chunk.append((_key(records, row_id), answer.value))
                size += len(answer.value)
                records += 1
            if len(lines) == CHUNK_ROWS or size >= CHUNK_BYTES:
                _commit(env, journal, chunk, lines)
                size = 0
            bar.update()
        _commit(env, journal, chunk, lines)


def _tasks(rows: pl.DataFrame, options: dict) -> Iterator[Task]:
    for part in rows.select("path", "label").iter_slices(TASK_ROWS):
        yield Task(options["images"], options["size"], options["quality"], part.rows())


def _encode(task: Task) -> list[Record | str]:
    """Worker: the Datum of every picture, or the reason why there is none."""
    cv2.setNumThreads(1)  # the workers share the cores already
    return [_encode_one(task, path, label) for path, label in task.rows]


def _encode_one(task: Task, path: str, label: int) -> Record | str:
    if CONTROL_CHARACTER.search(path):
        return "control character in the path"  # it would break list.txt
    try:
        data = image.load(os.path.join(task.images, path))
        bgr = image.decode_square(data, task.size)
    except BadImage as error:
        return str(error)
    value = datum.encode_raw(bgr, label) if task.quality is None else datum.encode_jpeg(bgr, label, task.quality)
    return Record(hashlib.blake2b(data, digest_size=16).digest(), value)


def _commit(env: lmdb.Environment, journal, chunk: list[tuple[bytes, bytes]], lines: list[str]) -> None:
    """Journal first, then all records in one transaction; empties both lists."""
    journal.writelines(lines)
    journal.flush()
    os.fsync(journal.fileno())
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


@contextmanager
def _writable(folder: Path) -> Iterator[lmdb.Environment]:
    """The folder's LMDB environment. Its own lock file is not used: OUT is locked, and on a full disk LMDB would die
    of SIGBUS in that file's memory map."""
    file = folder / "data.mdb"
    size = max(SMALLEST_MAP, file.stat().st_size if file.exists() else 0)
    with lmdb.open(str(folder), map_size=size, lock=False, mode=0o644) as env:
        yield env


def _key(number: int, row_id: str) -> bytes:
    """`%08d_<id>`. Control characters become '_' (list.txt has one line per record, with tabs), and what exceeds
    LMDB's 511 bytes is cut off; keys differ by their number anyway."""
    clean = CONTROL_CHARACTER.sub("_", row_id)
    return f"{number:08d}_{clean}".encode()[:511].decode(errors="ignore").encode()


# --- finishing -------------------------------------------------------------------------------------------------------


def _finish(part: Part, ids: pl.Series, common: dict) -> None:
    """Write list.txt, rejects.csv and, last, meta.json from the rows and the journal. `ids`: of all splits' rows."""
    folder, rows = part.folder, part.rows
    reasons: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    records = 0
    content = hashlib.sha256()
    with (
        paths.atomic_write(folder / "list.txt") as listing,
        paths.atomic_write(folder / "rejects.csv") as rejects,
        open(folder / "journal.tsv") as journal,
    ):
        table = csv.writer(rejects, lineterminator="\n")
        table.writerow(["id", "path", "reason"])
        for line, (row_id, path, label) in zip(journal, rows.select("id", "path", "label").iter_rows()):
            kind, value, *value_hash = line.rstrip("\n").split("\t")
            if kind == "+":
                key = _key(records, row_id)
                content.update(key + b"\0" + bytes.fromhex(value_hash[0]))
                listing.write(f"{key.decode()}\t{label}\t{path}\n")
                labels[label] += 1
                records += 1
            else:
                reason = f"same image as {ids[int(value)]}" if kind == "=" else value
                reasons["same image" if kind == "=" else reason] += 1
                table.writerow([row_id, path, reason])
    if not records:
        os.truncate(folder / "journal.tsv", 0)  # so that the next start tries again
        raise SelfieError(
            f"none of the {len(rows)} pictures of split {folder.name} can be used "
            f"({_counts(reasons)}): is --images right?"
        )
    paths.write_json(
        folder / "meta.json",
        {
            "split": folder.name,
            "count": records,
            "labels": {str(label): labels[label] for label in sorted(labels)},
            "rejects": dict(sorted(reasons.items())),
            "content": content.hexdigest(),
            **common,
        },
    )


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def _versions() -> dict[str, str]:
    names = ("selfie", "lmdb", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{name: importlib.metadata.version(name) for name in names},
    }


@contextmanager
def _clear_write_errors(out: Path) -> Iterator[None]:
    """A full disk, or any other failure of LMDB to write, as one line."""
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
