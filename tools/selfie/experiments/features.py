"""Features: what a net sees in each selfie (fc7 in the post), one row each, in a file that need not fit in memory.

    OUT/features.npy   N x D float32, row by row; np.load(..., mmap_mode="r")
    OUT/features.csv   name,score of each row
    OUT/rejects.csv    name,reason: every name of the list is a row or stands here
    OUT/meta.json      run, blob, source, counts, hashes. Written last: without it the export is not finished

A blob with an extent in space is averaged over it (SqueezeNet's fire9/concat, 512 x 13 x 13, gives 512 numbers).

How a killed export resumes. After each batch its rows are appended to features.npy and synced; then its names are
appended to the journal, OUT/journal.jsonl. So the journal is never ahead of the rows: an export that starts again cuts
rows without a line off and goes on with the first name that has none. Batches are the same as without the interruption,
so the numbers are, too. The header of features.npy holds the number of rows, so it is filled in at the end.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import locks, parallel, paths, places, shapes
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal
from selfie.common.names import shown, unquoted
from selfie.common.work import Row, Work, Workers
from selfie.data import datum, image, tables
from selfie.data.image import Preprocessing
from selfie.data.lmdb_reader import Database
from selfie.net.caffe_net import ScoringNet
from selfie.runs import evaluate, net_work, score
from selfie.runs.run_folder import Run
from selfie.runs.score import Entry, Scored

INPUTS = {
    "blob": str,
    "caffemodel": str,
    "source": ({"database": str}, {"files": str}),
    "names": int,
    "names_sha256": str,
}
META = {"run": str, "variant": str, "inputs": INPUTS, "rows": int, "columns": int, "rejects": dict}  # of meta.json
COLUMNS = {"score": float, "reason": str, "features": bytes}  # of a cluster's work; features: D float32
AT_ONCE = 256  # rows of a cluster that are written at once
SHOWN = Preprocessing((0.0, 0.0, 0.0), image.IMAGE_SIZE)  # of pictures that people are to see
HEADER = 128  # bytes before the first row of a .npy file; numpy pads its header to a multiple of 64

log = logging.getLogger(__name__)


# --- where pictures come from ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Pictures in files; names are relative to `folder`, spelled as names.shown does. One listed twice counts once."""

    listed: list[str]
    folder: Path

    @cached_property
    def names(self) -> list[str]:
        """The names, once each, in the order of the list."""
        return list(dict.fromkeys(self.listed))

    def read(self, names: list[str], preprocessing: Preprocessing = SHOWN) -> Iterator[tuple[str, np.ndarray | str]]:
        """Yield (name, size x size x 3 picture, or the reason why there is none), in the order of `names`."""
        files: list[Entry] = [str(self.folder / unquoted(name)) for name in names]
        read_ahead = score.read_ahead(files, evaluate.BATCH, preprocessing)
        for name, (_, picture) in zip(names, read_ahead):
            yield name, picture if isinstance(picture, np.ndarray) else str(picture.error)

    def record(self) -> dict:
        """Describe the source for meta.json."""
        return {"files": str(self.folder)}


@dataclass(frozen=True)
class Records:
    """Pictures in a finished database; names are its keys."""

    folder: Path

    @cached_property
    def names(self) -> list[str]:
        """The database's keys, in its order."""
        with Database(self.folder) as records:
            return records.keys()

    def read(self, names: list[str], preprocessing: Preprocessing = SHOWN) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (key, size x size x 3 picture) of those keys that are in `names`, in the database's order.

        Its pictures were brought to the run's detail when it was built (Run.database), so only their size may differ.
        """
        wanted = set(names)
        with Database(self.folder) as records:
            for key, value in records.items(min(wanted, default=None)):
                if key in wanted:
                    wanted.remove(key)
                    yield key, image.square(datum.decode(value)[0], preprocessing.size)
                if not wanted:
                    return

    def record(self) -> dict:
        """Describe the source for meta.json."""
        return {"database": str(self.folder)}


def listed(names: Iterable[str], listing: Iterable[str] = ()) -> list[str]:
    """List files and the pictures in folders, as score.expand does, spelled as names.shown does, as tables hold text.

    SelfieError for a folder without pictures, or one that cannot be opened.
    """
    files = []
    for name in score.expand(names, listing):
        if isinstance(name, Scored):
            raise SelfieError(f"{shown(name.path)}: {name.error}")
        files.append(shown(name))
    return files


# --- finished features -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """A finished export: `matrix` (N x D float32, memory-mapped), `table` (columns name, score) and meta.json."""

    folder: Path
    meta: dict

    @cached_property
    def matrix(self) -> np.ndarray:
        """The features, N x D float32, memory-mapped. SelfieError for a file that is not that."""
        file = paths.existing_file(self.folder / "features.npy")
        try:
            matrix = np.lib.format.open_memmap(file, mode="r")
        except OSError:
            raise
        except Exception as error:  # whatever numpy stumbles over in a header
            raise self._damaged(file) from error
        if matrix.dtype != np.float32 or matrix.shape != (self.meta["rows"], self.meta["columns"]):
            raise self._damaged(file)
        return matrix

    @cached_property
    def table(self) -> pl.DataFrame:
        """Name and score of each row. SelfieError where these are not all."""
        file = self.folder / "features.csv"
        table = tables.read(file, {"name": pl.String, "score": pl.Float64})
        if table.height != self.meta["rows"] or any(table.null_count().row(0)):
            raise self._damaged(file)
        return table

    def _damaged(self, file: Path) -> SelfieError:
        rows, columns = self.meta["rows"], self.meta["columns"]
        return SelfieError(
            f"{file} does not hold the {rows} x {columns} features of its meta.json: delete {self.folder}, and export "
            "again"
        )

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.table["name"])}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the D numbers of one selfie. KeyError for a name that is not there."""
        return self.matrix[self.rows[name]]

    def pictures(self) -> Iterator[np.ndarray]:
        """Yield the 256 x 256 x 3 picture of each row, in order. SelfieError where it cannot be read any more."""
        place, names = self.meta["inputs"]["source"], self.table["name"].to_list()
        source = Records(Path(place["database"])) if "database" in place else Files(names, Path(place["files"]))
        read = 0
        for (name, picture), expected in zip(source.read(names), names):
            if isinstance(picture, str) or name != expected:
                break
            yield picture
            read += 1
        if read < len(names):
            raise SelfieError(f"the picture {names[read]} of {self.folder} cannot be read any more: export again")


def load(folder: str | os.PathLike) -> Features:
    """Open the finished export in `folder`; SelfieError if there is none."""
    folder = Path(folder)
    if not (folder / "meta.json").exists():
        raise SelfieError(f"{folder} holds no finished features: run pycaffe_scripts/export_fc7.py --out {folder}")
    meta = shapes.read(folder / "meta.json", META)
    if not (folder / "features.npy").exists():
        raise SelfieError(f"{folder} holds no features: its features.npy is missing")
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
    workers: Workers | None = None,
) -> Features:
    """Write the features of all pictures of `source` to the folder `out`, or go on with a killed export of the same.

    They are computed here, or by `workers`. `blob` is the run's variant's features unless named. What is finished with
    the same inputs is left as it is; with other inputs it is a SelfieError, or replaced when `force` is set.
    """
    out, blob = Path(out), blob or run.variant.features
    inputs = _inputs(run, source, blob)
    if _same(out / "meta.json", inputs, force):
        return load(out)
    net = run.net(gpu)
    net.require(blob)
    with locks.folder(out):
        if not _same(out / "inputs.json", {**inputs, "batch": batch}, force):
            _begin(out, {**inputs, "batch": batch})
        width = net.blobs[blob].shape[1]  # channels: space is averaged over
        with (
            Journal(out / "journal.jsonl", valid=_is_line) as journal,
            open(out / "features.npy", "ab") as matrix,
            tqdm(
                total=len(source.names), initial=len(journal), unit="selfie", disable=True if workers else None
            ) as bar,
        ):
            _recover(matrix, journal, width)
            done: Iterable[tuple[np.ndarray, list[list]]]
            if workers is None:
                groups = parallel.batches(source.read(source.names[len(journal) :], net.preprocessing), batch)
                done = (_forward(net, blob, group) for group in groups)
            else:
                done = _by_workers(workers, _work(run, net, source, blob, batch), source.names, len(journal))
            for features, lines in done:
                matrix.write(features.tobytes())
                matrix.flush()
                os.fsync(matrix.fileno())
                journal.append(*lines)
                bar.update(len(lines))
        return _finish(out, journal, width, {"run": str(run.folder), "variant": run.variant.name, "inputs": inputs})


def _inputs(run: Run, source: Files | Records, blob: str) -> dict:
    """List what the numbers depend on, for meta.json."""
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
    """Tell whether `file` describes an export of these inputs. SelfieError if of others, unless `force` is set."""
    if not file.exists():
        return False
    recorded = paths.read_json(file)
    recorded = recorded.get("inputs", recorded)
    if not isinstance(recorded, dict):  # damaged: it describes nothing
        recorded = {}
    if recorded != inputs and not force:
        changed = ", ".join(name for name in inputs if recorded.get(name) != inputs[name])
        raise SelfieError(f"{file.parent} holds features of other inputs ({changed}): give another --out, or --force")
    return recorded == inputs


def _begin(out: Path, inputs: dict) -> None:
    """Start a new export: remove what an earlier one left, its meta.json first."""
    for name in ("meta.json", "inputs.json", "journal.jsonl", "features.npy", "features.csv", "rejects.csv"):
        (out / name).unlink(missing_ok=True)
    paths.write_json(out / "inputs.json", inputs)


def _forward(net: ScoringNet, blob: str, group: list[tuple[str, np.ndarray | str]]) -> tuple[np.ndarray, list[list]]:
    """Compute the features of a batch's readable pictures, and its lines [name, score] or [name, null, reason]."""
    pictures = [picture for _, picture in group if isinstance(picture, np.ndarray)]
    if not pictures:
        return np.empty(0, np.float32), [[name, None, reason] for name, reason in group]
    data, prob = net.forward(np.stack(pictures), (blob, "prob"))
    features = data.reshape(*data.shape[:2], -1).mean(axis=2, dtype=np.float64).astype(np.float32)
    scores = iter(prob.reshape(len(prob), -1)[:, 1].tolist())
    return features, [
        [name, next(scores)] if isinstance(picture, np.ndarray) else [name, None, picture] for name, picture in group
    ]


def _is_line(line: object) -> bool:
    """Whether a value can be a record of the journal: [name, score], or [name, null, reason]."""
    kinds = [type(value) for value in line] if isinstance(line, list) else []
    return kinds in ([str, float], [str, type(None), str]) and paths.is_text(line)


# --- workers of a cluster --------------------------------------------------------------------------------------------


def _work(run: Run, net: ScoringNet, source: Files | Records, blob: str, batch: int) -> Work:
    """Describe the work of exporting: a row is a score and the features, or the reason why there are none."""
    place = {kind: os.path.abspath(folder) for kind, folder in source.record().items()}
    parameters = {**net_work.parameters(run, net.gpu, batch), "blob": blob, "source": place}
    probe = places.seen((unquoted(name) for name in source.names), place["files"]) if "files" in place else None
    return Work("features", rows_of, parameters, COLUMNS, "reason", batch, net_work.memory_of(net, batch), probe)


def rows_of(parameters: dict, names: list[str]) -> Iterator[Row]:
    """In a worker: the COLUMNS of each name."""
    net, place = net_work.net_of(parameters), parameters["source"]
    source = Records(Path(place["database"])) if "database" in place else Files(names, Path(place["files"]))
    for group in parallel.batches(source.read(names, net.preprocessing), parameters["batch"]):
        features, lines = _forward(net, parameters["blob"], group)
        rows = iter(features)
        for _, scored, *reason in lines:
            yield (None, reason[0], None) if scored is None else (scored, None, next(rows).tobytes())


def _by_workers(workers: Workers, work: Work, names: list[str], start: int) -> Iterator[tuple[np.ndarray, list[list]]]:
    """Yield the features and lines of names[start:], a few at a time."""
    for group in parallel.batches(zip(names[start:], workers(work, names, start)), AT_ONCE):
        data = b"".join(features for _, (_, _, features) in group if features is not None)
        lines = [[name, scored] if reason is None else [name, None, reason] for name, (scored, reason, _) in group]
        yield np.frombuffer(data, np.float32), lines


def _recover(matrix: BinaryIO, journal: Journal, width: int) -> None:
    """Cut off the rows of features.npy that the journal does not know; a new export gets room for the header."""
    matrix.truncate(HEADER + 4 * width * sum(line[1] is not None for line in journal))
    if len(journal):
        log.info("going on after %d pictures", len(journal))


def _finish(out: Path, journal: Journal, width: int, meta: dict) -> Features:
    """Write the tables, the header of features.npy, then meta.json; the journal goes last."""
    done = pl.DataFrame(
        [(line[0], line[1]) for line in journal if line[1] is not None],
        schema={"name": pl.String, "score": pl.Float64},
        orient="row",
    )
    rejects = pl.DataFrame(
        [(line[0], line[2]) for line in journal if line[1] is None],
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
