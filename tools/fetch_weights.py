#!/usr/bin/env python3
"""Fetch pretrained weights into weights/NAME, from a local mirror, by download, or from a file in another form.

NAME, or a variant's name, which stands for the weights it starts from:
  vgg16              528 MB, ImageNet: the original
  vgg16_torchvision  528 MB, ImageNet: torchvision's, which are other weights, fed with another mean
  vgg16_notop        59 MB, ImageNet: the convolutions of vgg16, without the fully connected layers
  vgg_face           large, faces; no checksum was ever published: give one (--checksum), or say --unverified
  squeezenet         660 kB, ImageNet, decoded into a caffemodel
  mtcnn              2 MB, the face detector
Files are used only if their checksum is the one pinned here, or given; run.json records which. The folder named by the
environment variable SELFIE_MIRROR is searched first; downloads resume where they stopped.

Who has VGG16 from another framework need not download it (but needs h5py for Keras' files):
  tools/fetch_weights.py vgg16 --from vgg16_weights_tf_dim_ordering_tf_kernels.h5
  tools/fetch_weights.py vgg16_notop --from vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5
  tools/fetch_weights.py vgg16_torchvision --from vgg16-397923af.pth
Keras' newer layouts (.h5 of a whole model, .weights.h5) and torchvision's as .safetensors are read as well. No code in
a .pth is executed.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="weights, or a variant that starts from them")
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="VGG16 as Keras or torchvision have it, to be converted"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--checksum", metavar="SUM", help="what vgg_face, or FILE, must have: sha256: and 64 digits")
    trust.add_argument("--unverified", action="store_true", help="use vgg_face, or FILE, without a checksum")
    args = parser.parse_args(argv)

    from selfie.common import download
    from selfie.net import variants, weights

    name = variants.VARIANTS[args.name].weights if args.name in variants.VARIANTS else args.name
    checksum = download.checksum(args.checksum) if args.checksum else ""
    if args.file is not None:
        print_weights(weights.convert(name or args.name, args.file, checksum, args.unverified))
        return
    if name == "":
        print(f"{args.name} starts from random weights: there is nothing to download")
        return
    if name == "demo":
        print(f"{args.name} needs no download: 'make demo' makes its weights")
        return
    print_weights(weights.obtain(name, checksum, args.unverified))


def print_weights(folder: Path) -> None:
    from selfie.common import paths

    print("\n".join(paths.shown(path) for path in sorted(folder.glob("*.caffemodel"))))


if __name__ == "__main__":
    cli.run(main)
