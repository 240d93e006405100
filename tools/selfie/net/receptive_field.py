"""Receptive fields: which pixels of its input a unit of a net sees, exactly, read off the net's layers.

A unit's box is walked back layer by layer. A convolution or pooling of kernel k (dilated by d), stride s and padding p
makes rows [first, last] of its output from rows [first s - p, last s - p + (k - 1) d] of its input; what lies outside
of the input is padding, or the overhang of Caffe's pooling (which rounds its output up), and is cut off. Where
branches meet, the box is the smallest that holds all of theirs. Compare Araujo et al. 2019, Computing Receptive Fields
of Convolutional Neural Networks (Distill).
"""

from __future__ import annotations

from typing import NamedTuple

from selfie.common.errors import SelfieError
from selfie.net.pycaffe import Message

POINTWISE = ("ReLU", "Power", "Dropout", "Softmax", "Concat", "BatchNorm")  # a unit sees only its own place


class Box(NamedTuple):
    """Rows top <= y < bottom and columns left <= x < right of a blob."""

    top: int
    left: int
    bottom: int
    right: int

    def union(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def within(self, height: int, width: int) -> Box:
        """Return the part inside a map of this size."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))


def field(
    message: Message, sizes: dict[str, tuple[int, int]], blob: str, row: int, column: int, clip: bool = True
) -> Box:
    """Return the box of "data" that the units of `blob` at (row, column) see.

    message   the net's NetParameter
    sizes     (height, width) of its blobs, (1, 1) for a fully connected one
    clip      cut off what lies outside of the input; otherwise the box has its full size, reaching into the padding,
              which is the same for all units of a blob, unless a layer on the way sees the whole picture

    SelfieError for a layer of unknown geometry.
    """
    boxes = {blob: Box(row, column, row + 1, column + 1)}
    for layer in reversed(message.layer):
        above = [boxes.pop(top) for top in set(layer.top) if top in boxes and layer.bottom]
        for box in above:
            for bottom in layer.bottom:
                below = _seen(layer, box, sizes[bottom])
                if clip:
                    below = below.within(*sizes[bottom])
                boxes[bottom] = below.union(boxes[bottom]) if bottom in boxes else below
    return boxes["data"]


def _seen(layer: Message, box: Box, size: tuple[int, int]) -> Box:
    """Return what a layer reads of a bottom of this size to write `box` of its top."""
    if layer.type in POINTWISE:
        return box
    if layer.type == "InnerProduct" or (layer.type == "Pooling" and layer.pooling_param.global_pooling):
        return Box(0, 0, *size)
    if layer.type not in ("Convolution", "Pooling"):
        raise SelfieError(f"the receptive field of layer '{layer.name}' of type {layer.type} is not known")
    kernel, stride, pad, dilation = _window(layer)
    first = [place * stride - pad for place in box[:2]]
    last = [(place - 1) * stride - pad + (kernel - 1) * dilation for place in box[2:]]
    return Box(*first, *(place + 1 for place in last))


def _window(layer: Message) -> tuple[int, int, int, int]:
    """Read kernel, stride, pad and dilation of a square window. SelfieError where it is not square."""
    settings = layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
    if any(settings.HasField(f"{name}_h") for name in ("kernel", "stride", "pad")):
        raise SelfieError(f"the window of layer '{layer.name}' is not square")
    if layer.type == "Pooling":
        return settings.kernel_size, settings.stride, settings.pad, 1
    fields = ((settings.kernel_size, 1), (settings.stride, 1), (settings.pad, 0), (settings.dilation, 1))
    kernel, stride, pad, dilation = (values[0] if values else default for values, default in fields)
    return kernel, stride, pad, dilation
