"""Caffe as a contender beside PyTorch, in a process of its own (`python -m selfie.bench.caffe_peer`)."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from selfie.common.worker import serve
from selfie.net import architectures, caffe_net, device, memory, pycaffe, variants
from selfie.net.prototxt import dump
from selfie.net.pycaffe import Net

COMMANDS = ("hello", "prepare", "release", "forward", "answers", "memory", "take", "training")
SOLVER = 'net: "{net}"\nbase_lr: 1e-6\nlr_policy: "fixed"\nmomentum: 0.9\nweight_decay: 0.0005\nrandom_seed: 2015\n'


class Solver(Protocol):
    """A caffe.SGDSolver, as far as it is used here."""

    net: Net

    def step(self, count: int) -> None: ...


class Ours:
    """One net at a time: for scoring (its deploy form), or for training (with its solver)."""

    def __init__(self) -> None:
        self.solver: Solver | None = None
        self.net: Net | None = None
        self.gpu: int | None = None

    def hello(self, gpu: int | None) -> dict:
        """Choose the device: a GPU, or None, the CPU. Answers with Caffe's version."""
        self.gpu = gpu
        device.use_device(gpu)
        return {"caffe": pycaffe.caffe().__version__}

    def prepare(self, variant: str, batch: int, training: bool) -> dict:
        """Make a variant's net with random weights, and random pictures.

        Answers with the number of parameters and the multiply-accumulates per picture, forward and in training.
        """
        self.release()
        described = variants.get(variant)
        with tempfile.TemporaryDirectory() as folder:
            file, solver_file = Path(folder, "net.prototxt"), Path(folder, "solver.prototxt")
            file.write_text(dump(architectures.with_input(described, batch, training)))
            if training:
                solver_file.write_text(SOLVER.format(net=file))
                solver: Solver = pycaffe.caffe().SGDSolver(str(solver_file))
                self.solver, net = solver, solver.net
                net.blobs["label"].data[...] = np.arange(batch) % described.classes
            else:
                net = caffe_net.load(file, gpu=self.gpu)
        fill(net)
        self.net = net
        macs = caffe_net.macs(net)
        return {
            "parameters": caffe_net.parameter_count(net),
            "forward_macs": macs.forward,
            "training_macs": macs.training,
        }

    def release(self) -> dict:
        """Give the memory back."""
        self.solver = self.net = None
        return {}

    def forward(self, count: int) -> dict:
        """Time `count` forward passes; the probabilities come to the host."""
        assert self.net is not None, "prepare comes first"
        begin = time.perf_counter()
        for _ in range(count):
            self.net.forward()["prob"].copy()
        return {"seconds": time.perf_counter() - begin}

    def answers(self, file: str) -> dict:
        """Write the values of all blobs into an .npz file; answers with their names, in the order of the layers."""
        assert self.net is not None, "prepare comes first"
        values: dict[str, Any] = {name: blob.data for name, blob in self.net.blobs.items() if "_split_" not in name}
        np.savez(file, **values)
        return {"blobs": list(values)}

    def memory(self) -> dict:
        """Answer with the bytes that are taken on the device, and that the net is estimated to need there.

        On a GPU what others take counts, too; on the CPU it is what this process has.
        """
        if self.gpu is None:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            taken = pages * resource.getpagesize()
        else:
            free, total = device.memory(self.gpu)
            taken = total - free
        if self.net is None:
            return {"taken": taken, "estimate": 0}
        need = memory.scoring(self.net) if self.solver is None else memory.training(self.net, 0)
        return {"taken": taken, "estimate": need.total(self.net.blobs["data"].shape[0])}

    def take(self, spare: int) -> dict:
        """Take the GPU's memory but for `spare` bytes. Answers with how many bytes that are."""
        assert self.gpu is not None, "a GPU's"
        return {"taken": device.take(self.gpu, spare)}

    def training(self, count: int) -> dict:
        """Time `count` iterations: forward, backward, update; the loss comes to the host."""
        assert self.net is not None and self.solver is not None, "prepare comes first"
        begin = time.perf_counter()
        self.solver.step(count)
        loss = float(self.net.blobs["loss"].data)
        self.net.params[next(iter(self.net.params))][0].data.sum()  # after the last update
        return {"seconds": time.perf_counter() - begin, "loss": loss}


def fill(net: Net) -> None:
    """Fill weights and pictures at random, so that numbers are of about 1 everywhere (He et al. 2015)."""
    rng = np.random.default_rng(2015)
    for weights, *_ in net.params.values():
        scale = (2 * weights.shape[0] / weights.count) ** 0.5
        weights.data[...] = scale * rng.standard_normal(weights.data.shape, np.float32)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].data.shape, np.float32)


if __name__ == "__main__":
    ours = Ours()
    serve({name: getattr(ours, name) for name in COMMANDS})
