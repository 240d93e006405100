"""Nets loaded, checked against their weights, fed as they were trained, and run in batches."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data.image import Preprocessing
from selfie.net import architectures, device, memory, pycaffe
from selfie.net.prototxt import dump
from selfie.net.pycaffe import Blob, Message, Net
from selfie.net.variants import Variant

Shapes = dict[str, list[tuple[int, ...]]]  # layer -> shapes of its learned blobs


class ScoringNet:
    """A net that takes pictures: what a caffe.Net needs to know besides.

    net             the caffe.Net; its input is "data", its answer, where it has one, "prob" = (bad, good)
    preprocessing   how pictures become its input
    gpu             where it computes; None: on the CPU
    """

    def __init__(self, net: Net, preprocessing: Preprocessing, gpu: int | None = None) -> None:
        self.net, self.preprocessing, self.gpu = net, preprocessing, gpu
        self._taken = 0  # bytes of the GPU's memory that our largest batch took

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """The net's blobs by name."""
        return self.net.blobs

    def require(self, blob: str) -> None:
        """Raise SelfieError, with the names that there are, unless the net has this blob."""
        if blob not in self.blobs:
            raise SelfieError(f"the net has no blob '{blob}': choose one of {', '.join(self.blobs)}")

    def forward(self, pictures: np.ndarray, blobs: tuple[str, ...] = ("prob",)) -> list[np.ndarray]:
        """Run N x size x size x 3 uint8 BGR pictures through the net; copies of the named blobs, N first."""
        for name in blobs:
            self.require(name)
        values = self.preprocessing.prepare(pictures)
        data = self.blobs["data"]
        if data.shape[0] != len(values):
            self._check_memory(len(values))
            data.reshape(*values.shape)
            self.net.reshape()
        data.data[...] = values
        self.net.forward()
        return [self.blobs[name].data.copy() for name in blobs]

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        """Return the probability of *good* of N x size x size x 3 uint8 BGR pictures: N float32 in [0, 1]."""
        return self.forward(pictures)[0].reshape(len(pictures), -1)[:, 1]

    def squared_scores(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Return the scores of H x W x 3 uint8 BGR pictures of any sizes, each squashed to a square first."""
        return self.scores(np.stack([self.preprocessing.square(bgr) for bgr in pictures]))

    def _check_memory(self, batch: int) -> None:
        """Raise SelfieError if the net's GPU has no room for a larger batch, before Caffe fails halfway."""
        if self.gpu is not None and batch > self.blobs["data"].shape[0]:
            need = memory.scoring(self.net)
            free, total = device.memory(self.gpu)
            memory.check(need, batch, self.gpu, device.Gpu("", free + self._taken, total), "scoring")
            self._taken = need.total(batch)  # from now on, of what is free


def load(prototxt: str | os.PathLike, caffemodel: str | os.PathLike | None = None, gpu: int | None = None) -> Net:
    """Load a caffe.Net in the TEST phase onto the CPU or a GPU.

    SelfieError where Caffe refuses one of them, or where the weights are not those of the net: in a layer that it does
    not find, Caffe would silently keep random ones.
    """
    prototxt = paths.existing_file(prototxt, "prototxt")
    device.use_device(gpu)
    with pycaffe.errors_of_user():
        net = pycaffe.caffe().Net(str(prototxt), pycaffe.caffe().TEST)
        _check_names(net, prototxt)
        if caffemodel is not None:
            check_weights(parameter_shapes(net), caffemodel)
            net.copy_from(str(caffemodel))
    return net


def _check_names(net: Net, prototxt: Path) -> None:
    """Raise SelfieError if a layer or a blob has a name that is no text; Caffe itself takes any bytes."""
    try:
        _ = net.blobs, list(net._layer_names)
    except UnicodeDecodeError as error:
        raise SelfieError(f"{prototxt}: the name {error.object!r} is not UTF-8") from error


def untrained(variant: Variant) -> Net:
    """Load a variant's own net for one picture, with random weights, on the CPU."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(dump(architectures.build(variant, "deploy")))
        file.flush()
        return load(file.name)


# --- weights ---------------------------------------------------------------------------------------------------------


def parameter_shapes(net: Net) -> Shapes:
    """Return the shapes of a caffe.Net's learned blobs by layer."""
    return {name: [tuple(blob.shape) for blob in blobs] for name, blobs in net.params.items()}


def learned_layers(variant: Variant) -> Shapes:
    """Return the shapes of a variant's learned layers, as Caffe itself makes them."""
    return parameter_shapes(untrained(variant))


def parameter_count(net: Net) -> int:
    """Count the learned numbers of a caffe.Net."""
    return sum(blob.count for blobs in net.params.values() for blob in blobs)


def caffemodel_shapes(path: str | os.PathLike) -> Shapes:
    """Read the shapes of a caffemodel's blobs by layer, the old V1 format included. SelfieError if it is not one."""
    path = paths.existing_file(path, "caffemodel")
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().NetParameter(), path)
    layers = [*message.layer, *message.layers]
    if broken := [layer.name for layer in layers if not all(map(_is_whole, layer.blobs))]:
        raise SelfieError(f"{path} is damaged: the weights of {_some(broken)} are not as many as their shape says")
    shapes = {layer.name: [_shape(blob) for blob in layer.blobs] for layer in layers if layer.blobs}
    if not shapes:
        raise SelfieError(f"{path} is not a caffemodel: it holds no weights")
    return shapes


def caffemodel_blobs(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """Read the weights in a caffemodel of ours by layer, float64. SelfieError if it is not one."""
    shapes = caffemodel_shapes(path)
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().NetParameter(), Path(path))
    return {
        layer.name: [np.array(blob.data).reshape(shape) for blob, shape in zip(layer.blobs, shapes[layer.name])]
        for layer in message.layer
        if layer.blobs
    }


def check_weights(wanted: Shapes, caffemodel: str | os.PathLike, fresh: tuple[str, ...] = ()) -> None:
    """Raise SelfieError unless every layer in `wanted`, but those in `fresh`, finds its weights in the caffemodel."""
    there = caffemodel_shapes(caffemodel)
    missing = [name for name in wanted if name not in fresh and name not in there]
    if missing:
        raise SelfieError(f"{caffemodel} is of another net: it has no weights for {_some(missing)}")
    for name, shapes in wanted.items():
        if name in there and not (len(shapes) == len(there[name]) and all(map(_fits, there[name], shapes))):
            raise SelfieError(
                f"{caffemodel} is of another net: {name} has weights of shape {_listed(there[name])}, "
                f"the net wants {_listed(shapes)}"
            )


def _shape(blob: Message) -> tuple[int, ...]:
    """Return a BlobProto's shape, in the new format or the old one of four numbers."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return OldShape((blob.num, blob.channels, blob.height, blob.width))


class OldShape(tuple):
    """A shape in the old format, which leading ones fill up to four axes."""


def _fits(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether Caffe takes a stored blob for one of the shape that it wants; otherwise it aborts."""
    if not isinstance(stored, OldShape):
        return stored == wanted
    return len(wanted) <= len(stored) and (1,) * (len(stored) - len(wanted)) + wanted == stored


def _is_whole(blob: Message) -> bool:
    """Tell whether a BlobProto has as many numbers as its shape says; otherwise Caffe aborts."""
    return math.prod(_shape(blob)) == (len(blob.data) or len(blob.double_data))


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# --- work ------------------------------------------------------------------------------------------------------------


class Macs(NamedTuple):
    """Multiply-accumulates for one picture: in a forward pass, and in a training step (forward and backward)."""

    forward: int
    training: int


def macs(net: Net) -> Macs:
    """Count the multiply-accumulates per picture of a caffe.Net's convolutions and fully connected layers.

    Counted as in the definition, not as an algorithm like Winograd's may save them. Training takes as many again by
    weights and by data, the latter not below the first learned layer, which nobody asks for.
    """
    layers = [
        layer.blobs[0].count * math.prod(net.blobs[net.top_names[name][0]].shape[2:])
        for name, layer in zip(net._layer_names, net.layers)
        if layer.type in ("Convolution", "InnerProduct")
    ]
    return Macs(sum(layers), 3 * sum(layers) - layers[0])
