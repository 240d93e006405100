"""The memory that a net will need: an estimate from its blobs, so that a batch that cannot fit is refused beforehand.

It counts what Caffe allocates on a CPU with its own kernels, and tests compare it with what such a run really takes. A
GPU run allocates the same blobs; what cuDNN and the driver take besides is not known before, only bounded
(`workspace`). So a batch is refused if its blobs alone do not fit, and the batch that is offered leaves room for more.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from selfie.common.errors import SelfieError
from selfie.net import device
from selfie.net.pycaffe import Net

BYTES = 4  # of a float, and of an index
PREFETCHED = 4  # batches that a Data layer holds: prefetch_count of caffe.proto
HANDLES = 300 * 2**20  # for cuBLAS, cuDNN and the driver: assumed, not measured


@dataclass(frozen=True)
class Need:
    """Bytes that do not depend on the batch, and bytes for each picture of it."""

    fixed: int
    per_picture: int

    def total(self, batch: int) -> int:
        """Return the bytes for a batch."""
        return self.fixed + batch * self.per_picture

    def largest_batch(self, limit: int) -> int:
        """Return how many pictures fit into `limit` bytes; 0 or less: not even one."""
        return (limit - self.fixed) // self.per_picture


def scoring(net: Net) -> Need:
    """Estimate forward passes with a caffe.Net: weights, one buffer per convolution, and every blob's data."""
    return Need(BYTES * (_weights(net) + _columns(net)), BYTES * (_data(net) + _indices(net)) // _batch(net))


def training(net: Net, test_batch: int, history: int = 1) -> Need:
    """Estimate a training whose net computes as `net` does from "data" on, with its test net, which shares the weights.

    Both read databases. `history`: copies of the weights that the solver keeps (1 with momentum).
    """
    batch, pixels = _batch(net), net.blobs["data"].count
    blobs = _data(net) + _indices(net) - pixels  # the data blob itself is one of those read ahead
    tested = (blobs + PREFETCHED * pixels) * test_batch // batch
    return Need(
        BYTES * ((2 + history) * _weights(net) + 2 * _columns(net) + tested),
        BYTES * (blobs + _gradients(net) + PREFETCHED * pixels) // batch,
    )


def workspace(total: int) -> int:
    """Return the most bytes that cuDNN may take on a GPU of `total` bytes (patch 0036), with HANDLES."""
    given = os.environ.get("CAFFE_CUDNN_WORKSPACE_MB", "")
    return HANDLES + (int(given) << 20 if given.isdecimal() else min(total // 8, 4 << 30))


def check(need: Need, batch: int, number: int, gpu: device.Gpu, what: str) -> None:
    """Raise SelfieError if `batch` pictures cannot fit on GPU `number`; it says which batch would."""
    if gpu.total and need.total(batch) > gpu.free:
        raise SelfieError(f"GPU {number} has not enough memory: {what} {sentence(need, batch, gpu)}")


def sentence(need: Need, batch: int, gpu: device.Gpu) -> str:
    """Say what a batch needs, what was free, and which batch would fit; half of it where the estimate cannot tell."""
    needed, free = (f"{size / 1e9:.1f} GB" for size in (need.total(batch), gpu.free))
    about = f"in batches of {batch} needs about {needed} (an estimate)"
    if not gpu.total:
        return f"{about}; how much is free is not known: try {max(1, batch // 2)}"
    fits = need.largest_batch(gpu.free - workspace(gpu.total))
    if fits >= batch:
        return f"{about} of {free} free, and more than that: try {max(1, batch // 2)}"
    offer = f"a batch of {fits} would fit" if fits > 0 else "not even one picture would fit"
    return f"{about} of {free} free; {offer}"


def _batch(net: Net) -> int:
    return net.blobs["data"].shape[0]


def _weights(net: Net) -> int:
    return sum(blob.count for blobs in net.params.values() for blob in blobs)


def _data(net: Net) -> int:
    """Count the numbers in all blobs. The copies that Caffe's split layers show are one memory with what they copy."""
    return sum(blob.count for name, blob in net.blobs.items() if "_split_" not in name)


def _gradients(net: Net) -> int:
    """Count the gradients of all blobs above the first learned layer; a split layer's copies have their own."""
    below: set[str] = set()
    for name in net._layer_names:
        if name in net.params:
            break
        below.update(net.top_names[name])
    return sum(blob.count for name, blob in net.blobs.items() if name not in below)


def _indices(net: Net) -> int:
    """Count the indices of max pooling, one for each maximum (average pooling, which has none, is counted, too)."""
    return sum(
        net.blobs[net.top_names[name][0]].count
        for name, layer in zip(net._layer_names, net.layers)
        if layer.type == "Pooling"
    )


def _columns(net: Net) -> int:
    """Count the buffers in which convolutions lay out one picture for a matrix product; 1 x 1 ones need none."""
    total = 0
    for name, layer in zip(net._layer_names, net.layers):
        if layer.type == "Convolution":
            _, inputs, *kernel = layer.blobs[0].shape
            if list(kernel) != [1, 1]:
                total += inputs * math.prod(kernel) * math.prod(net.blobs[net.top_names[name][0]].shape[2:])
    return total
