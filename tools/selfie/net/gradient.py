"""Gradients down to the picture: plain, guided, and Zeiler and Fergus's deconvolution, of any blob of a net."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from selfie.common.errors import SelfieError
from selfie.net import caffe_net, pycaffe

RULES = ("gradient", "guided", "deconvolution")


def parse(prototxt: Path):
    """A prototxt as NetParameter. SelfieError if it is not one."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(prototxt.read_text(), pycaffe.caffe_pb2().NetParameter())
    except text_format.ParseError as error:
        raise SelfieError(f"{prototxt} is not a prototxt: {error}") from error


def up_to(message, blob: str):
    """The part of a NetParameter that makes `blob`: no later layers. SelfieError if there is no such blob."""
    writers = [number for number, layer in enumerate(message.layer) if blob in layer.top]
    if not writers:
        names = dict.fromkeys(top for layer in message.layer for top in layer.top)
        raise SelfieError(f"the net has no blob '{blob}': choose one of {', '.join(names)}")
    part = type(message)()
    part.CopyFrom(message)
    del part.layer[writers[-1] + 1 :]
    return part


def load(message, caffemodel: Path | None = None, gpu: int | None = None):
    """A NetParameter as a caffe.Net with these weights, whose backward pass goes down to its inputs."""
    part = type(message)()
    part.CopyFrom(message)
    part.force_backward = True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.prototxt"
        file.write_text(str(part))
        return caffe_net.load(file, caffemodel, gpu)


def backward(caffe_net, blob: str, diff: np.ndarray, rule: str = "gradient") -> np.ndarray:
    """Send `diff` (of the blob's shape) from `blob`, the last of the net, down to the data: N x 3 x H x W.

    After a forward pass. The rules differ in the ReLUs alone. "gradient": the derivative, which passes where the ReLU
    was active. "deconvolution": passes where what comes down is positive (Zeiler and Fergus 2013, arXiv:1311.2901; max
    pooling goes back through its switches under every rule). "guided": where both hold (Springenberg et al. 2014,
    arXiv:1412.6806).
    """
    for each in caffe_net.blobs.values():
        each.diff[...] = 0
    caffe_net.blobs[blob].diff[...] = diff
    if rule == "gradient":
        caffe_net.backward()
    else:
        for number in reversed(range(len(caffe_net.layers))):
            _layer_backward(caffe_net, number, rule)
    return caffe_net.blobs["data"].diff.copy()


def _layer_backward(caffe_net, number: int, rule: str) -> None:
    """The backward pass of one layer under a rule."""
    name = caffe_net._layer_names[number]
    if caffe_net.layers[number].type == "ReLU":
        bottom, top = (caffe_net.blobs[names[name][0]] for names in (caffe_net.bottom_names, caffe_net.top_names))
        positive = np.maximum(top.diff, 0)
        if rule == "deconvolution":
            bottom.diff[...] = positive
            return
        top.diff[...] = positive
    caffe_net._backward(number, number)
