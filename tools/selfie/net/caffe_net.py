"""The only module that imports Caffe: nets are loaded, checked against their weights, and run in batches here."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import device, memory, pycaffe
from selfie.net.variants import Variant


def load(prototxt: str | os.PathLike, caffemodel: str | os.PathLike | None = None, gpu: int | None = None):
    """A caffe.Net in the TEST phase; its attribute `gpu` is where it computes.

    SelfieError where the weights are not those of the net: Caffe would abort on a wrong shape, and silently keep random
    weights in a layer that it does not find.
    """
    prototxt = paths.existing(prototxt, "prototxt")
    check_prototxt(prototxt)
    device.use_device(gpu)
    net = pycaffe.caffe().Net(str(prototxt), pycaffe.caffe().TEST)
    if caffemodel is not None:
        check_weights(parameter_shapes(net), caffemodel)
        net.copy_from(str(caffemodel))
    net.gpu = gpu
    return net


def check_prototxt(path: Path) -> None:
    """SelfieError if a net's prototxt cannot be parsed: Caffe itself would abort."""
    from google.protobuf import text_format

    try:
        text_format.Parse(path.read_text(), pycaffe.caffe_pb2().NetParameter())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SelfieError(f"{path} is not a net: {error}") from error


def parameter_shapes(net) -> dict[str, list[tuple[int, ...]]]:
    """Learned layers of a caffe.Net: name -> shapes of its blobs."""
    return {name: [tuple(blob.shape) for blob in blobs] for name, blobs in net.params.items()}


def caffemodel_shapes(path: str | os.PathLike) -> dict[str, list[tuple[int, ...]]]:
    """Learned layers of a caffemodel, the old V1 format included: name -> shapes. SelfieError if it is not one."""
    path = paths.existing(path, "caffemodel")
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().NetParameter(), path)
    shapes = {
        layer.name: [_shape(blob) for blob in layer.blobs] for layer in [*message.layer, *message.layers] if layer.blobs
    }
    if not shapes:
        raise SelfieError(f"{path} is not a caffemodel: it holds no weights")
    return shapes


def _shape(blob) -> tuple[int, ...]:
    """A blob's shape; old caffemodels pad theirs to four axes with leading ones, which are dropped for comparison."""
    return tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)


def check_weights(
    wanted: dict[str, list[tuple[int, ...]]], caffemodel: str | os.PathLike, fresh: tuple[str, ...] = ()
) -> None:
    """SelfieError unless every learned layer in `wanted`, but those in `fresh`, finds its weights in the caffemodel."""
    found = caffemodel_shapes(caffemodel)
    missing = [name for name in wanted if name not in fresh and name not in found]
    if missing:
        raise SelfieError(f"{caffemodel} is of another net: it has no weights for {_some(missing)}")
    for name, shapes in wanted.items():
        if name in found and [_bare(shape) for shape in shapes] != [_bare(shape) for shape in found[name]]:
            raise SelfieError(
                f"{caffemodel} is of another net: {name} has weights of shape {found[name][0]}, "
                f"the net wants {shapes[0]}"
            )


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def parameter_count(net) -> int:
    """Number of learned numbers in a caffe.Net."""
    return sum(blob.count for blobs in net.params.values() for blob in blobs)


class Multiplications(NamedTuple):
    """Of one picture: in a forward pass, and in a training step."""

    forward: int
    training: int


def multiplications(net) -> Multiplications:
    """Multiplications (each with an addition) of a caffe.Net's convolutions and fully connected layers, per picture.

    Counted as in the definition, not as an algorithm like Winograd's may save them. Training does as many again by
    weights and by data, the latter not below the first learned layer, which nobody asks for.
    """
    found = []
    for name, layer in zip(net._layer_names, net.layers):
        if layer.type in ("Convolution", "InnerProduct"):
            places = math.prod(net.blobs[net.top_names[name][0]].shape[2:])
            found.append(layer.blobs[0].count * places)
    return Multiplications(sum(found), 3 * sum(found) - found[0])


def forward(net, pictures: np.ndarray, variant: Variant, blobs: tuple[str, ...] = ("prob",)) -> list[np.ndarray]:
    """Run N x 256 x 256 x 3 uint8 BGR pictures through a deploy net; copies of the named blobs, N first."""
    for name in blobs:
        if name not in net.blobs:
            raise SelfieError(f"the net has no blob '{name}': choose one of {', '.join(net.blobs)}")
    data = image.prepare(pictures, variant.crop, variant.mean)
    if net.blobs["data"].shape[0] != len(data):
        _check_memory(net, len(data))
        net.blobs["data"].reshape(*data.shape)
        net.reshape()
    net.blobs["data"].data[...] = data
    net.forward()
    return [net.blobs[name].data.copy() for name in blobs]


def _check_memory(net, batch: int) -> None:
    """SelfieError if the net computes on a GPU that has no room for a larger batch: Caffe itself would abort."""
    number = getattr(net, "gpu", None)
    if number is not None and batch > net.blobs["data"].shape[0]:
        need = memory.scoring(net)
        free, total = device.memory(number)
        memory.check(need, batch, number, device.Gpu("", free + getattr(net, "taken", 0), total), "scoring")
        net.taken = need.total(batch)  # from now on, of what is free


def scores(net, pictures: np.ndarray, variant: Variant) -> np.ndarray:
    """The net's probability of *good* for each of N x 256 x 256 x 3 uint8 BGR pictures: N floats in [0, 1]."""
    return forward(net, pictures, variant)[0].reshape(len(pictures), -1)[:, 1]
