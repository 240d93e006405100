"""Gradients down to the picture: plain, guided, and Zeiler and Fergus's deconvolution, of any blob of a net."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from selfie.common.errors import SelfieError
from selfie.net import caffe_net
from selfie.net.pycaffe import Message, Net

RULES = ("gradient", "guided", "deconvolution")


def up_to(message: Message, blob: str) -> Message:
    """Return the part of a NetParameter that makes `blob`. SelfieError if there is no such blob."""
    writers = [number for number, layer in enumerate(message.layer) if blob in layer.top]
    if not writers:
        names = dict.fromkeys(top for layer in message.layer for top in layer.top)
        raise SelfieError(f"the net has no blob '{blob}': choose one of {', '.join(names)}")
    part = type(message)()
    part.CopyFrom(message)
    del part.layer[writers[-1] + 1 :]
    return part


def load(message: Message, caffemodel: Path | None = None, gpu: int | None = None) -> Net:
    """Load a NetParameter with these weights as a caffe.Net whose backward pass goes down to its inputs."""
    part = type(message)()
    part.CopyFrom(message)
    part.force_backward = True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.prototxt"
        file.write_text(str(part))
        return caffe_net.load(file, caffemodel, gpu)


def backward(net: Net, blob: str, diff: np.ndarray, rule: str = "gradient") -> np.ndarray:
    """Propagate `diff` (of the blob's shape) from `blob`, the net's last, down to the data: N x 3 x H x W float32.

    Call it after a forward pass. The rules differ in the ReLUs alone:

    gradient        the derivative, which passes where the ReLU was active
    deconvolution   passes where what comes down is positive (Zeiler and Fergus 2013, arXiv:1311.2901; max pooling goes
                    back through its switches under every rule)
    guided          passes where both hold (Springenberg et al. 2014, arXiv:1412.6806)
    """
    for each in net.blobs.values():
        each.diff[...] = 0
    net.blobs[blob].diff[...] = diff
    if rule == "gradient":
        net.backward()
    else:
        for number in reversed(range(len(net.layers))):
            _layer_backward(net, number, rule)
    return net.blobs["data"].diff.copy()


def _layer_backward(net: Net, number: int, rule: str) -> None:
    """Propagate back through one layer under a rule."""
    name = net._layer_names[number]
    if net.layers[number].type == "ReLU":
        bottom, top = (net.blobs[names[name][0]] for names in (net.bottom_names, net.top_names))
        positive = np.maximum(top.diff, 0)
        if rule == "deconvolution":
            bottom.diff[...] = positive
            return
        top.diff[...] = positive
    net._backward(number, number)
