"""Readings: what a frozen net makes of each selfie of a database, computed once and kept, for heads to learn from.

    OUT/train.f32, val.f32   the records of each database in order: views x numbers, float32
    OUT/train.csv, val.csv   key and label of each record
    OUT/meta.json            what they depend on; written last: without it they are not finished

A killed computation goes on after its last whole batch, with the same result. Readings serve every variant of the same
frozen net that reads no more than what is there: other blobs, poolings or views are a choice of columns and rows.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import locks, parallel, paths, shapes
from selfie.common.errors import SelfieError
from selfie.data import datum, tables
from selfie.data.lmdb_reader import Database
from selfie.net import architectures, caffe_net
from selfie.net.caffe_net import ScoringNet
from selfie.net.prototxt import dump
from selfie.net.variants import Readout, Variant
from selfie.runs import evaluate

SPLITS = ("train", "val")  # both are learned from, and both are held out: see selfie.runs.heads
META = {"inputs": dict, "readout": {"views": [str]}, "parts": [[str, str, int]], "rows": dict.fromkeys(SPLITS, int)}


@dataclass(frozen=True)
class View:
    """A way to show a picture: where its crop lies (shares of the room that it has), mirrored, and how light."""

    top: float = 0.5
    left: float = 0.5
    mirrored: bool = False
    light: float = 1.0

    def of(self, pictures: np.ndarray, crop: int) -> np.ndarray:
        """Return N x crop x crop x 3 views of N x size x size x 3 uint8 pictures."""
        room = pictures.shape[1] - crop
        top, left = int(self.top * room), int(self.left * room)
        shown = pictures[:, top : top + crop, left : left + crop]
        if self.mirrored:
            shown = shown[:, :, ::-1]
        if self.light != 1:
            shown = np.clip(np.rint(shown * self.light), 0, 255).astype(np.uint8)
        return shown


CORNERS = {"top_left": (0, 0), "top_right": (0, 1), "bottom_left": (1, 0), "bottom_right": (1, 1)}
VIEWS = {
    "centre": View(),  # as selfies are scored
    "mirror": View(mirrored=True),
    **{name: View(*place) for name, place in CORNERS.items()},
    **{f"{name}_mirror": View(*place, mirrored=True) for name, place in CORNERS.items()},
    **{f"light_{percent}": View(light=percent / 100) for percent in (60, 80, 120, 140)},
}


@dataclass(frozen=True)
class Readings:
    """Finished readings in a folder."""

    folder: Path
    meta: dict

    def keys(self, split: str) -> pl.DataFrame:
        """Return key and label of each record of a split. SelfieError where these are not all."""
        file = self.folder / f"{split}.csv"
        keys = tables.read(file, {"key": pl.String, "label": pl.Int64})
        if keys.height != self.meta["rows"][split]:
            raise self._damaged(file)
        return keys

    def of(self, readout: Readout, split: str) -> np.ndarray:
        """Return what a readout reads of a split: records x views x numbers, float32. SelfieError where some lack."""
        file = self.folder / f"{split}.f32"
        width = sum(width for _, _, width in self.meta["parts"])
        shape = self.meta["rows"][split], len(self.meta["readout"]["views"]), width
        if paths.existing_file(file).stat().st_size != 4 * math.prod(shape):
            raise self._damaged(file)
        stored = np.memmap(file, np.float32, "r", shape=shape)
        views = [self.meta["readout"]["views"].index(view) for view in readout.views]
        columns = self.columns(readout)
        return np.asarray(stored[:, views][..., columns])

    def _damaged(self, file: Path) -> SelfieError:
        return SelfieError(f"{file} is damaged, it is not as long as its meta.json says: delete its folder")

    def columns(self, readout: Readout) -> np.ndarray:
        """Return the columns that a readout reads, in its order."""
        starts = np.cumsum([0, *(width for _, _, width in self.meta["parts"])])
        place = {
            (blob, pool): np.arange(start, start + width)
            for (blob, pool, width), start in zip(self.meta["parts"], starts)
        }
        return np.concatenate([place[part] for part in readout.parts])


def compute(variant: Variant, pretrained: Path, lmdb: Path, out: Path, gpu: int | None = None) -> Readings:
    """Compute the readings of a variant's databases train and val below `lmdb`, or go on with it, or find it done.

    What is in `out` of other inputs is replaced. SelfieError if a database or the weights cannot be used.
    """
    assert variant.readout is not None
    computation = _Computation(variant, pretrained, lmdb, out, gpu)
    with locks.folder(out, patience=600):
        return computation.finished() or computation.run()


class _Computation:
    def __init__(self, variant: Variant, pretrained: Path, lmdb: Path, out: Path, gpu: int | None) -> None:
        self.variant, self.pretrained, self.lmdb, self.out, self.gpu = variant, pretrained, lmdb, out, gpu
        assert variant.readout is not None
        self.readout = variant.readout
        self.inputs = {
            "net": [variant.architecture, variant.shrink, variant.smooth],
            "preprocessing": [list(variant.mean), variant.crop, variant.preprocessing.size],
            "weights": paths.sha256(pretrained),
            **{split: self._meta(split)["content"] for split in SPLITS},
        }

    def _meta(self, split: str) -> dict:
        with Database(self.lmdb / split) as records:
            return records.meta

    def finished(self) -> Readings | None:
        """Return the finished readings of the same inputs that hold at least what is read; None if there are none."""
        if not (self.out / "meta.json").exists():
            return None
        meta = shapes.read(self.out / "meta.json", META, "delete its folder")
        there = Readings(self.out, meta)
        held = {(blob, pool) for blob, pool, _ in meta["parts"]}
        enough = held >= set(self.readout.parts) and set(self.readout.views) <= set(meta["readout"]["views"])
        return there if enough and meta["inputs"] == self.inputs else None

    def run(self) -> Readings:
        """Compute what is missing."""
        begun = {**self.inputs, "readout": self._recorded()}
        if not (self.out / "inputs.json").exists() or paths.read_json(self.out / "inputs.json") != begun:
            paths.empty(self.out, keep=(locks.LOCK,))
            paths.write_json(self.out / "inputs.json", begun)
        net = self._net()
        width = net.blobs["features"].shape[1]
        rows = {split: self._split(net, split, width) for split in SPLITS}
        parts = [[*part, net.blobs[_pooled(*part)].shape[1]] for part in self.readout.parts]
        meta = {"inputs": self.inputs, "readout": self._recorded(), "parts": parts, "rows": rows}
        paths.write_json(self.out / "meta.json", meta)
        (self.out / "inputs.json").unlink()
        return Readings(self.out, meta)

    def _recorded(self) -> dict:
        return {name: list(getattr(self.readout, name)) for name in ("blobs", "pools", "views")}

    def _net(self) -> ScoringNet:
        """Load the frozen net up to its features, with the pretrained weights."""
        message = architectures.build(self.variant, "deploy")
        last = next(number for number, layer in enumerate(message["layer"]) if layer["name"] == "features")
        del message["layer"][last + 1 :]
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(dump(message))
            file.flush()
            net = caffe_net.load(file.name, self.pretrained, self.gpu)
        return ScoringNet(net, self.variant.preprocessing, self.gpu)

    def _split(self, net: ScoringNet, split: str, width: int) -> int:
        """Compute what is missing of a split, batch by batch, then its keys; the number of its records."""
        record = 4 * width * len(self.readout.views)
        with (
            Database(self.lmdb / split) as records,
            open(self.out / f"{split}.f32", "ab") as file,
            tqdm(total=len(records), unit="selfie", desc=f"reading {split}", disable=None) as bar,
        ):
            done = min(len(records), file.tell() // record)
            done -= done % evaluate.BATCH if done < len(records) else 0  # batches are those without the interruption
            file.truncate(done * record)
            bar.update(done)
            for batch in parallel.batches(islice(records, done, None), evaluate.BATCH):
                file.write(self._read(net, np.stack([picture for _, picture, _ in batch])).tobytes())
                file.flush()
                os.fsync(file.fileno())
                bar.update(len(batch))
            labels = [(key, datum.label_of(value)) for key, value in records.items()]
            paths.write_csv(self.out / f"{split}.csv", pl.DataFrame(labels, schema=["key", "label"], orient="row"))
            return len(records)

    def _read(self, net: ScoringNet, pictures: np.ndarray) -> np.ndarray:
        """Read N pictures: N x views x numbers."""
        views = [VIEWS[name].of(pictures, self.variant.crop) for name in self.readout.views]
        return np.stack([net.forward(view, ("features",))[0].reshape(len(pictures), -1) for view in views], axis=1)


def _pooled(blob: str, pool: str) -> str:
    """Return the blob that holds what is read of another one."""
    return f"{blob.partition('/')[0]}_{pool.lower()}" if pool else blob
