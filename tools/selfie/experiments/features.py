"""Features: what a net sees in each selfie (fc7 in the post), one row each, in a file that need not fit in memory.

    OUT/features.npy   N x D float32, row by row; np.load(..., mmap_mode="r")
    OUT/features.csv   name,score of each row
    OUT/rejects.csv    name,reason: every name of the list is a row or stands here
    OUT/meta.json      run, blob, source, counts, hashes. Written last: without it the export is not finished

A blob with an extent in space is averaged over it (SqueezeNet's fire9/concat, 512 x 13 x 13, gives 512 numbers).

How a killed export goes on. After each batch its rows are appended to features.npy and synced; then its lines are
appended to OUT/journal.jsonl and synced. So the journal is never ahead of the rows: an export that starts again cuts
rows without a line off and goes on with the first name that has none. Batches are the same as without the interruption,
so the numbers are, too. The header of features.npy holds the number of rows, so it is filled in at the end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.data import datum, image
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net
from selfie.runs import evaluate, score
from selfie.runs.run_folder import Run
from selfie.runs.score import Scored

HEADER = 128  # bytes before the first row of a .npy file; numpy pads its header to a multiple of 64

log = logging.getLogger(__name__)


# --- where pictures come from ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Pictures in files; names are relative to `folder`. A name that is listed twice counts once."""

    listed: list[str]
    folder: Path

    @cached_property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.listed))

    def read(self, names: list[str]) -> Iterator[tuple[str, np.ndarray | str]]:
        """(name, 256 x 256 x 3 picture, or the reason why there is none), in the order of `names`."""
        read_ahead = score.read_ahead([str(self.folder / name) for name in names], evaluate.BATCH)
        for name, (_, picture) in zip(names, read_ahead):
            yield name, picture if isinstance(picture, np.ndarray) else picture.error

    def record(self) -> dict:
        return {"files": str(self.folder)}


@dataclass(frozen=True)
class Records:
    """Pictures in a finished database; names are its keys."""

    folder: Path

    @cached_property
    def names(self) -> list[str]:
        with Database(self.folder) as records:
            return records.keys()

    def read(self, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        """(key, 256 x 256 x 3 picture) of those keys that are in `names`, in the database's order."""
        wanted = set(names)
        with Database(self.folder) as records:
            for key, value in records.items():
                if key in wanted:
                    yield key, image.square(datum.decode(value)[0])

    def record(self) -> dict:
        return {"database": str(self.folder)}


def listed(names: Iterable[str], listing: Iterable[str] = ()) -> list[str]:
    """score.expand, but a folder without pictures is a SelfieError."""
    found = score.expand(names, listing)
    for one in found:
        if isinstance(one, Scored):
            raise SelfieError(f"{one.path}: {one.error}")
    return found


# --- finished features -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """A finished export: `matrix` (N x D float32, memory-mapped), `table` (columns name, score) and meta.json."""

    folder: Path
    meta: dict

    @cached_property
    def matrix(self) -> np.ndarray:
        return np.load(self.folder / "features.npy", mmap_mode="r")

    @cached_property
    def table(self) -> pl.DataFrame:
        return pl.read_csv(self.folder / "features.csv", schema={"name": pl.String, "score": pl.Float64})

    @cached_property
    def rows(self) -> dict[str, int]:
        """Name -> its row."""
        return {name: row for row, name in enumerate(self.table["name"])}

    def __getitem__(self, name: str) -> np.ndarray:
        """The D numbers of one selfie. KeyError for a name that is not there."""
        return self.matrix[self.rows[name]]

    def pictures(self) -> Iterator[np.ndarray]:
        """The 256 x 256 x 3 picture of each row, in order. SelfieError where it cannot be read any more."""
        place, names = self.meta["inputs"]["source"], self.table["name"].to_list()
        source = Records(Path(place["database"])) if "database" in place else Files(names, Path(place["files"]))
        read = 0
        for (name, picture), expected in zip(source.read(names), names):
            if isinstance(picture, str) or name != expected:
                break
            yield picture
            read += 1
        if read < len(names):
            raise SelfieError(f"the picture {names[read]} of {self.folder} cannot be read any more: export anew")


def load(folder: str | os.PathLike) -> Features:
    """The finished export in `folder`; SelfieError if there is none."""
    folder = Path(folder)
    if not (folder / "meta.json").exists():
        raise SelfieError(f"{folder} holds no finished features: run pycaffe_scripts/export_fc7.py --out {folder}")
    meta = paths.read_json(folder / "meta.json")
    if "inputs" not in meta or not (folder / "features.npy").exists():
        raise SelfieError(f"{folder} holds no features: its meta.json was not written by export_fc7.py")
    return Features(folder, meta)


# --- the export ------------------------------------------------------------------------------------------------------


def export(
    run: Run,
    source: Files | Records,
    out: str | os.PathLike,
    blob: str | None = None,
    gpu: int | None = None,
    batch: int = evaluate.BATCH,
    force: bool = False,
) -> Features:
    """Write the features of all pictures of `source` to the folder `out`, or go on with a killed export of the same.

    `blob` is the run's variant's features unless named. What is finished with the same inputs is left as it is; with
    other inputs it is a SelfieError, or replaced when `force` is set.
    """
    out, blob = Path(out), blob or run.variant.features
    inputs = _inputs(run, source, blob)
    if _same(out / "meta.json", inputs, force):
        return load(out)
    scorer = run.net(gpu)
    if blob not in scorer.blobs:
        raise SelfieError(f"the net has no blob '{blob}': choose one of {', '.join(scorer.blobs)}")
    with paths.locked(out):
        if not _same(out / "inputs.json", {**inputs, "batch": batch}, force):
            _begin(out, {**inputs, "batch": batch})
        width = scorer.blobs[blob].shape[1]  # channels: space is averaged over
        done = _recover(out, width)
        with (
            open(out / "features.npy", "ab") as rows,
            open(out / "journal.jsonl", "ab") as journal,
            tqdm(total=len(source.names), initial=done, unit="selfie", disable=None) as bar,
        ):
            for group in parallel.batches(source.read(source.names[done:]), batch):
                features, lines = _forward(scorer, run, blob, group)
                _append(rows, features.tobytes())
                _append(journal, "".join(json.dumps(line) + "\n" for line in lines).encode())
                bar.update(len(group))
        return _finish(out, width, {"run": str(run.folder), "variant": run.variant.name, "inputs": inputs})


def _inputs(run: Run, source: Files | Records, blob: str) -> dict:
    """What the numbers depend on."""
    if not source.names:
        raise SelfieError("nothing to export: the list is empty")
    try:
        listed = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise SelfieError(f"a file's name is not UTF-8: rename {error.object[:200]!a}") from error
    return {
        "blob": blob,
        "caffemodel": paths.sha256(run.caffemodel),
        "source": source.record(),
        "names": len(source.names),
        "names_sha256": listed,
    }


def _same(file: Path, inputs: dict, force: bool) -> bool:
    """Is the export that `file` tells of one of these inputs? SelfieError if it is of others, unless `force` is set."""
    if not file.exists():
        return False
    found = paths.read_json(file)
    found = found.get("inputs", found)
    if found != inputs and not force:
        changed = ", ".join(name for name in inputs if found.get(name) != inputs[name])
        raise SelfieError(f"{file.parent} holds features of other inputs ({changed}): give another --out, or --force")
    return found == inputs


def _begin(out: Path, inputs: dict) -> None:
    """A new export: what an earlier one left goes, its meta.json first."""
    for name in ("meta.json", "inputs.json", "journal.jsonl", "features.npy", "features.csv", "rejects.csv"):
        (out / name).unlink(missing_ok=True)
    paths.write_json(out / "inputs.json", inputs)


def _forward(scorer, run: Run, blob: str, group: list[tuple[str, np.ndarray | str]]) -> tuple[np.ndarray, list[list]]:
    """Features of the readable pictures of a batch, and for each of its names [name, score] or [name, null, reason]."""
    pictures = [picture for _, picture in group if isinstance(picture, np.ndarray)]
    if not pictures:
        return np.empty(0, np.float32), [[name, None, reason] for name, reason in group]
    data, prob = caffe_net.forward(scorer, np.stack(pictures), run.variant, (blob, "prob"))
    features = data.reshape(*data.shape[:2], -1).mean(axis=2, dtype=np.float64).astype(np.float32)
    scores = iter(prob.reshape(len(prob), -1)[:, 1].tolist())
    return features, [
        [name, next(scores)] if isinstance(picture, np.ndarray) else [name, None, picture] for name, picture in group
    ]


def _append(file, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _recover(out: Path, width: int) -> int:
    """Cut what a kill left half written; the number of names that are done. A new export gets its empty header."""
    journal, matrix = out / "journal.jsonl", out / "features.npy"
    journal.touch()
    matrix.touch()
    whole, done, rows = 0, 0, 0
    with open(journal, "rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            done += 1
            rows += json.loads(line)[1] is not None
        file.truncate(whole)
    os.truncate(matrix, HEADER + 4 * width * rows)
    if done:
        log.info("going on after %d pictures", done)
    return done


def _lines(out: Path) -> Iterable[list]:
    with open(out / "journal.jsonl", "rb") as file:
        yield from map(json.loads, file)


def _finish(out: Path, width: int, meta: dict) -> Features:
    """Tables, the header of features.npy, then meta.json; the journal goes last."""
    done = pl.DataFrame(
        [(line[0], line[1]) for line in _lines(out) if line[1] is not None],
        schema={"name": pl.String, "score": pl.Float64},
        orient="row",
    )
    rejects = pl.DataFrame(
        [(line[0], line[2]) for line in _lines(out) if line[1] is None],
        schema={"name": pl.String, "reason": pl.String},
        orient="row",
    )
    if done.is_empty():
        raise SelfieError(f"none of {len(rejects)} pictures can be read: {rejects['name'][0]}: {rejects['reason'][0]}")
    with open(out / "features.npy", "rb+") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (len(done), width)}
        )
        if file.tell() != HEADER:
            raise ValueError(f"numpy wrote a header of {file.tell()} bytes, room was left for {HEADER}")
        os.fsync(file.fileno())
    paths.write_csv(out / "features.csv", done)
    paths.write_csv(out / "rejects.csv", rejects)
    paths.write_json(
        out / "meta.json",
        {**meta, "rows": len(done), "columns": width, "rejects": dict(sorted(Counter(rejects["reason"]).items()))},
    )
    (out / "inputs.json").unlink()
    (out / "journal.jsonl").unlink()
    return load(out)
