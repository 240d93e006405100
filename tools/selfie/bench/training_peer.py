"""A training on pictures, iteration by iteration, in a process of its own (`python -m selfie.bench.training_peer`).

It takes pycaffe, and none of the project's other packages: machines with a GPU may have no network. OpenCV and Pillow
decode the pictures, unless a file beside them holds them decoded.
The pictures of iteration i are always the same, so that a training can be compared with one on another device, and with
one that was stopped and resumed.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from selfie.common import paths
from selfie.common.worker import serve
from selfie.net import architectures, device, pycaffe, variants
from selfie.net.prototxt import dump
from selfie.net.pycaffe import Net
from selfie.net.variants import Variant

COMMANDS = ("begin", "train", "snapshot", "restore", "save")
SQUARES = "squares.npz"  # beside a labels.csv: the name of a picture -> it, decoded, size x size x 3 uint8 BGR
# As solver/squeezenet.prototxt, but at a constant rate.
SOLVER = (
    'net: "{net}"\nbase_lr: 0.0001\nlr_policy: "fixed"\nmomentum: 0.9\nweight_decay: 0.0002\nrandom_seed: 2015\n'
    'snapshot_prefix: "{prefix}"\n'
)


class Solver(Protocol):
    """A caffe.SGDSolver, as far as it is used here."""

    net: Net
    iter: int

    def step(self, count: int) -> None: ...
    def snapshot(self) -> None: ...
    def restore(self, solverstate: str) -> None: ...


class Training:
    """One training: `begin` comes first."""

    solver: Solver
    pictures: Pictures

    def begin(
        self, gpu: int | None, variant: str, batch: int, labels: str, caffemodel: str | None, prefix: str
    ) -> dict:
        """Choose the device and make the solver, of fixed seed, with the weights of a caffemodel where one is given.

        labels   a labels.csv, beside its folder of pictures
        prefix   of snapshots
        Answers with the number of pictures.
        """
        device.use_device(gpu)
        described = variants.get(variant)
        self.pictures = Pictures(Path(labels), described, batch)
        with tempfile.TemporaryDirectory() as folder:
            net, solver = Path(folder, "net.prototxt"), Path(folder, "solver.prototxt")
            net.write_text(dump(architectures.with_input(described, batch, training=True)))
            solver.write_text(SOLVER.format(net=net, prefix=prefix))
            self.solver = pycaffe.caffe().SGDSolver(str(solver))
        if caffemodel:
            self.solver.net.copy_from(caffemodel)
        return {"pictures": len(self.pictures.rows)}

    def train(self, count: int) -> dict:
        """Do `count` iterations; answers with the loss of each."""
        net, losses = self.solver.net, []
        for _ in range(count):
            net.blobs["data"].data[...], net.blobs["label"].data[...] = self.pictures.batch_of(self.solver.iter)
            self.solver.step(1)
            losses.append(float(net.blobs["loss"].data))
        return {"losses": losses}

    def snapshot(self) -> dict:
        """Write a snapshot; answers with the iteration, which its name ends in."""
        self.solver.snapshot()
        return {"iteration": self.solver.iter}

    def restore(self, solverstate: str) -> dict:
        """Go on from a snapshot."""
        self.solver.restore(solverstate)
        return {"iteration": self.solver.iter}

    def save(self, caffemodel: str) -> dict:
        """Write the weights."""
        self.solver.net.save(caffemodel)
        return {}


class Pictures:
    """The training pictures of a labels.csv, shuffled once, always the same way, round and round in batches.

    Where SQUARES is beside it, those in there.
    """

    def __init__(self, labels: Path, variant: Variant, batch: int) -> None:
        with labels.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        self.rows = [rows[number] for number in np.random.default_rng(2015).permutation(len(rows))]
        self.folder, self.variant, self.batch = labels.parent / "tiles", variant, batch
        self.file, self.squares = labels.parent / SQUARES, {}
        if self.file.exists():
            with np.load(self.file) as squares:
                self.squares = dict(squares)
            self.rows = [row for row in self.rows if row["path"] in self.squares]

    def batch_of(self, iteration: int) -> tuple[np.ndarray, list[int]]:
        """Return (pixels as the net takes them, labels) of an iteration."""
        rows = [self.rows[(iteration * self.batch + number) % len(self.rows)] for number in range(self.batch)]
        squares = np.stack([self._square(row["path"]) for row in rows])
        return self.variant.preprocessing.prepare(squares), [int(row["label"]) for row in rows]

    def _square(self, name: str) -> np.ndarray:
        """Return a picture decoded."""
        if name in self.squares:
            return self.squares[name]
        return self.variant.preprocessing.decode((self.folder / name).read_bytes())

    def decode(self) -> None:
        """Write SQUARES, with those of the first batch."""
        squares: dict[str, Any] = {row["path"]: self._square(row["path"]) for row in self.rows[: self.batch]}
        with paths.atomic_write(self.file, "wb") as file:
            np.savez_compressed(file, **squares)


if __name__ == "__main__":
    training = Training()
    serve({name: getattr(training, name) for name in COMMANDS})
