"""Caffe as a contender beside PyTorch, in a process of its own (`python -m selfie.bench.caffe_peer`)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from selfie.common.worker import serve
from selfie.net import architectures, caffe_net, device, pycaffe, variants
from selfie.net.prototxt import dump

SOLVER = 'net: "{net}"\nbase_lr: 1e-6\nlr_policy: "fixed"\nmomentum: 0.9\nweight_decay: 0.0005\nrandom_seed: 2015\n'


class Ours:
    """One net at a time: for scoring (its deploy form), or for training (with its solver)."""

    def __init__(self) -> None:
        self.solver = self.net = None
        self.gpu: int | None = None

    def hello(self, gpu: int | None) -> dict:
        """Choose the device; what this is."""
        self.gpu = gpu
        device.use_device(gpu)
        return {"caffe": pycaffe.caffe().__version__}

    def prepare(self, variant: str, batch: int, training: bool) -> dict:
        """Make a variant's net with random weights, and random pictures.

        Answers with the number of parameters and the multiply-accumulates per picture, forward and in training.
        """
        self.release()
        described, rng = variants.get(variant), np.random.default_rng(2015)
        with tempfile.TemporaryDirectory() as folder:
            file, solver = Path(folder, "net.prototxt"), Path(folder, "solver.prototxt")
            file.write_text(dump(architectures.with_input(described, batch, training)))
            if training:
                solver.write_text(SOLVER.format(net=file))
                self.solver = pycaffe.caffe().SGDSolver(str(solver))
                self.net = self.solver.net
                self.net.blobs["label"].data[...] = np.arange(batch) % described.classes
            else:
                self.net = caffe_net.load(file, gpu=self.gpu)
        for weights, *_ in self.net.params.values():  # as He et al. 2015: numbers of about 1 everywhere
            scale = (2 * weights.shape[0] / weights.count) ** 0.5
            weights.data[...] = scale * rng.standard_normal(weights.data.shape, np.float32)
        self.net.blobs["data"].data[...] = rng.standard_normal(self.net.blobs["data"].data.shape, np.float32)
        macs = caffe_net.macs(self.net)
        return {
            "parameters": caffe_net.parameter_count(self.net),
            "forward_macs": macs.forward,
            "training_macs": macs.training,
        }

    def release(self) -> dict:
        """Give the memory back."""
        self.solver = self.net = None
        return {}

    def forward(self, count: int) -> dict:
        """Seconds for `count` passes that score; the probabilities come to the host."""
        begin = time.perf_counter()
        for _ in range(count):
            self.net.forward()["prob"].copy()
        return {"seconds": time.perf_counter() - begin}

    def training(self, count: int) -> dict:
        """Seconds for `count` steps: forward, backward, update; the loss comes to the host."""
        begin = time.perf_counter()
        self.solver.step(count)
        loss = float(self.net.blobs["loss"].data)
        self.net.params[next(iter(self.net.params))][0].data.sum()  # after the last update
        return {"seconds": time.perf_counter() - begin, "loss": loss}


if __name__ == "__main__":
    ours = Ours()
    serve({name: getattr(ours, name) for name in ("hello", "prepare", "release", "forward", "training")})
