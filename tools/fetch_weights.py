#!/usr/bin/env python3
"""Fetch pretrained weights into weights/NAME, from a local mirror or by download.

NAME, or a variant's name, which stands for the weights it starts from:
  vgg16       528 MB, ImageNet
  vgg_face    large, faces; no checksum was ever published: give one (--checksum), or say --unverified
  squeezenet  660 kB, ImageNet, decoded into a caffemodel
  mtcnn       2 MB, the face detector
Files are used only if their checksum is the one pinned here, or given; run.json records which. The folder named by the
environment variable SELFIE_MIRROR is searched first; downloads resume where they stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="weights, or a variant that starts from them")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--checksum", metavar="SUM", help="what vgg_face must have: sha256: and 64 hexadecimal digits")
    trust.add_argument("--unverified", action="store_true", help="use vgg_face without a checksum")
    args = parser.parse_args(argv)

    from selfie.common import download, paths
    from selfie.net import variants, weights

    name = variants.VARIANTS[args.name].weights if args.name in variants.VARIANTS else args.name
    if name == "":
        print(f"{args.name} starts from random weights: there is nothing to download")
        return
    if name == "demo":
        print(f"{args.name} needs no download: 'make demo' makes its weights")
        return
    checksum = download.checksum(args.checksum) if args.checksum else ""
    folder = weights.obtain(name, checksum, args.unverified)
    print("\n".join(paths.shown(path) for path in sorted(folder.glob("*.caffemodel"))))


if __name__ == "__main__":
    cli.run(main)
