"""Net surgery: a trained net whose fully connected layers become convolutions, so that it scores all windows at once.

A fully connected layer over a K x S x S map is a convolution with kernels of S x S: the same numbers in the same order
(Long, Shelhamer, Darrell 2015, arXiv:1411.4038). On an input as large as the net was trained on it gives one value, the
net's own; on a larger one it gives a map with the value of every window, one window per stride.
"""

from __future__ import annotations

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data.image import IMAGE_SIZE
from selfie.net import caffe_net
from selfie.net.variants import Variant

SUFFIX = "-conv"  # fc6 becomes fc6-conv: another name, so that Caffe does not try to copy weights of another shape
TOLERANCE = 1e-4  # two orders of summation of the same float32 numbers
TOLERANCE_TF32 = 1e-2  # on a GPU the convolution may take TF32, where the layer for one window does not


def convolutional(variant: Variant, donor, gpu: int | None = None):
    """A variant's deploy_conv net (a caffe.Net) with the weights of `donor`, its deploy net.

    Both nets must give the same probabilities for one window, or SelfieError.
    """
    if not variant.deploy:
        raise SelfieError(f"variant {variant.name} has no net for scoring many windows: take a run of another one")
    prototxt = paths.PROTOTXT / variant.deploy / "deploy_conv.prototxt"
    grown = caffe_net.load(prototxt, gpu=gpu)
    transplant(donor, grown)
    noise = np.random.default_rng(0).normal(0, 60, donor.blobs["data"].data[:1].shape)
    apart = np.abs(_probabilities(donor, noise) - _probabilities(grown, noise)).max()
    if not apart < (TOLERANCE if gpu is None else TOLERANCE_TF32):
        raise SelfieError(f"{prototxt} is not the net that was trained: their probabilities differ by {apart:.2g}")
    return grown


def transplant(donor, grown) -> None:
    """Copy the weights of one caffe.Net into another, whose layer <name>-conv takes those of <name>.

    SelfieError unless every layer of both takes part and gives as many numbers as it takes.
    """
    names = {name: name.removesuffix(SUFFIX) for name in grown.params}
    if odd := set(names.values()) ^ set(donor.params):
        raise SelfieError(f"the nets do not match: layer {min(odd)} is in one of them only")
    for name, source in names.items():
        for taker, giver in zip(grown.params[name], donor.params[source]):
            if taker.count != giver.count:
                raise SelfieError(
                    f"the nets do not match: {source} has {tuple(giver.shape)} weights, "
                    f"{name} wants {tuple(taker.shape)}"
                )
            taker.data.flat = giver.data.flat


def steps(grown, crop: int) -> int:
    """How many strides of a convolutional net make the side of a 256-pixel picture: found by asking the net.

    16 for SqueezeNet (stride 16), 8 for the others (stride 32). SelfieError if the net's map does not start and end
    with the input, or if strides do not fit into 256 pixels.
    """
    single, double = (_map_side(grown, side) for side in (crop, crop + IMAGE_SIZE))
    if single != 1 or IMAGE_SIZE % (double - 1):
        raise SelfieError(
            f"the net gives {single} and {double} values for {crop} and {crop + IMAGE_SIZE} pixels: "
            f"windows cannot be told from that"
        )
    return double - 1


def _map_side(grown, side: int) -> int:
    grown.blobs["data"].reshape(1, 3, side, side)
    grown.reshape()
    return grown.blobs["prob"].shape[-1]


def _probabilities(loaded, data: np.ndarray) -> np.ndarray:
    """What a net says of 1 x 3 x crop x crop numbers: (bad, good)."""
    loaded.blobs["data"].reshape(*data.shape)
    loaded.reshape()
    loaded.blobs["data"].data[...] = data
    loaded.forward()
    return loaded.blobs["prob"].data.reshape(-1).copy()
