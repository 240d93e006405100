"""A caffemodel written layer by layer, so that one of half a gigabyte never stands in memory as a whole.

A caffemodel is a serialised NetParameter. Messages of protobuf that stand one behind the other are one message, and a
field of bytes or packed numbers is its tag, its length and its content; so layers are written as they come, and their
numbers straight from their arrays. protobuf makes the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from selfie.common import paths
from selfie.net import pycaffe

LENGTH_DELIMITED = 2  # protobuf's wire type of messages and packed numbers
LARGEST = (1 << 31) - 1  # bytes that protobuf reads as one message
NAME_TAG = bytes([1 << 3 | LENGTH_DELIMITED])  # of a net's name, the first field
SHORT = 127  # bytes of a name whose length is one byte


def write(path: str | os.PathLike, name: str, layers: Iterable[tuple[str, str, list[np.ndarray]]]) -> None:
    """Write a net's weights as a caffemodel, atomically.

    layers   (name, type, float32 arrays) of each layer; weights first, then the bias
    """
    pb = pycaffe.caffe_pb2()
    with paths.atomic_write(path, "wb") as file:
        file.write(pb.NetParameter(name=name).SerializeToString())
        for layer, kind, arrays in layers:
            _write_layer(file, pb, pb.LayerParameter(name=layer, type=kind).SerializeToString(), arrays)
        if file.tell() > LARGEST:
            raise ValueError(f"{path} has over 2 GB, which Caffe cannot read")


def net_name(path: str | os.PathLike) -> str:
    """Read the name of a caffemodel's net, where it stands first, as Caffe and `write` put it; "" where it does not."""
    with open(paths.regular(Path(path)), "rb") as file:
        start = file.read(2 + SHORT)
    name = start[2 : 2 + start[1]] if start[:1] == NAME_TAG and len(start) > 1 and start[1] <= SHORT else b""
    return name.decode(errors="replace")


def _write_layer(file: IO[bytes], pb: pycaffe.Message, described: bytes, arrays: list[np.ndarray]) -> None:
    """Write one layer: what describes it, then its blobs."""
    fields = pb.LayerParameter.DESCRIPTOR.fields_by_name
    values = [np.ascontiguousarray(array, "<f4") for array in arrays]
    heads = [_blob_head(pb, array) for array in values]
    marks = [_tag(fields["blobs"], len(head) + array.nbytes) for head, array in zip(heads, values)]
    size = len(described) + sum(len(mark) + len(head) + array.nbytes for mark, head, array in zip(marks, heads, values))
    file.write(_tag(pb.NetParameter.DESCRIPTOR.fields_by_name["layer"], size) + described)
    for mark, head, array in zip(marks, heads, values):
        file.write(mark + head)
        file.write(array.data.cast("B"))


def _blob_head(pb: pycaffe.Message, array: np.ndarray) -> bytes:
    """Return what stands before a blob's numbers: its shape, and the tag of the packed numbers."""
    shape = pb.BlobProto(shape=pb.BlobShape(dim=array.shape)).SerializeToString()
    return shape + _tag(pb.BlobProto.DESCRIPTOR.fields_by_name["data"], array.nbytes)


def _tag(field: pycaffe.Message, length: int) -> bytes:
    """Return a length-delimited field's tag and length."""
    return _varint(field.number << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Encode a number as protobuf does: seven bits to a byte, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
