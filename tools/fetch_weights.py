#!/usr/bin/env python3
"""Fetch a net's pretrained weights into weights/, verified.

A folder named by the environment variable SELFIE_MIRROR is searched first; otherwise the file is downloaded, with
resume. NAME: vgg16 (528 MB), vgg_face (large), squeezenet (660 kB, decoded into a caffemodel), mtcnn (2 MB, the face
detector). A variant's name stands for the weights it starts from.
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME")
    args = parser.parse_args(argv)

    from selfie.common import paths
    from selfie.net import variants, weights

    name = variants.VARIANTS[args.name].weights if args.name in variants.VARIANTS else args.name
    if name in ("", "demo"):
        print(f"{args.name} needs no download: 'make demo' makes its weights")
        return
    folder = weights.obtain(name)
    print("\n".join(str(path.relative_to(paths.ROOT)) for path in sorted(folder.glob("*.caffemodel"))))


if __name__ == "__main__":
    cli.run(main)
