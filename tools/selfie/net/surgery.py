"""Net surgery: a trained net whose fully connected layers become convolutions, so that it scores all windows at once.

A fully connected layer over a K x S x S map is a convolution with kernels of S x S: the same numbers in the same order
(Long, Shelhamer, Darrell 2015, arXiv:1411.4038). On an input as large as the net was trained on it gives one value, the
net's own; on a larger one it gives a map with the value of every window, one window per stride.
"""

from __future__ import annotations

import os

import numpy as np

from selfie.common.errors import SelfieError
from selfie.net import caffe_net
from selfie.net.pycaffe import Net

SUFFIX = "-conv"  # fc6 becomes fc6-conv: another name, so that Caffe does not try to copy weights of another shape
TOLERANCE = 1e-4  # two orders of summation of the same float32 numbers
TOLERANCE_TF32 = 1e-2  # on a GPU the convolution may take TF32, where the layer for one window does not


def convolutional(prototxt: str | os.PathLike, net: Net, gpu: int | None = None) -> Net:
    """Load the deploy_conv prototxt of a net with that net's weights.

    SelfieError unless both nets give the same probabilities for one window.
    """
    conv_net = caffe_net.load(prototxt, gpu=gpu)
    transplant(net, conv_net)
    noise = np.random.default_rng(0).normal(0, 60, net.blobs["data"].data[:1].shape)
    difference = np.abs(_probabilities(net, noise) - _probabilities(conv_net, noise)).max()
    if not difference < (TOLERANCE if gpu is None else TOLERANCE_TF32):
        raise SelfieError(f"{prototxt} is not the net that was trained: their probabilities differ by {difference:.2g}")
    return conv_net


def transplant(net: Net, conv_net: Net) -> None:
    """Copy the weights of `net` into `conv_net`, whose layer <name>-conv takes those of <name>.

    SelfieError unless every layer of both takes part and gives as many numbers as it takes.
    """
    names = {name: name.removesuffix(SUFFIX) for name in conv_net.params}
    if unmatched := set(names.values()) ^ set(net.params):
        raise SelfieError(f"the nets do not match: layer {min(unmatched)} is in one of them only")
    for name, source in names.items():
        for target_blob, source_blob in zip(conv_net.params[name], net.params[source]):
            if target_blob.count != source_blob.count:
                raise SelfieError(
                    f"the nets do not match: {source} has {tuple(source_blob.shape)} weights, "
                    f"{name} wants {tuple(target_blob.shape)}"
                )
            target_blob.data[...] = source_blob.data.reshape(target_blob.data.shape)


def strides_per_side(conv_net: Net, crop: int, size: int) -> int:
    """Ask a convolutional net how many of its strides make the side of a picture of `size` pixels.

    For 256 pixels: 16 for SqueezeNet (stride 16), 8 for the others (stride 32). SelfieError if the net's map does not
    start and end with the input, or if strides do not fit into `size` pixels.
    """
    single, double = (_map_side(conv_net, side) for side in (crop, crop + size))
    if single != 1 or double < 2 or size % (double - 1):
        raise SelfieError(
            f"the net gives {single} and {double} values for {crop} and {crop + size} pixels: "
            f"windows cannot be told from that"
        )
    return double - 1


def _map_side(conv_net: Net, side: int) -> int:
    """Return the side of the net's map of scores for an input of side x side pixels."""
    conv_net.blobs["data"].reshape(1, 3, side, side)
    conv_net.reshape()
    return conv_net.blobs["prob"].shape[-1]


def _probabilities(net: Net, data: np.ndarray) -> np.ndarray:
    """Return a net's (bad, good) for 1 x 3 x crop x crop numbers."""
    net.blobs["data"].reshape(*data.shape)
    net.reshape()
    net.blobs["data"].data[...] = data
    net.forward()
    return net.blobs["prob"].data.reshape(-1).copy()
