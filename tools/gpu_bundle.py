#!/usr/bin/env python3
"""Pack the Caffe that is built for GPUs for a machine that has CUDA and PyTorch, and maybe nothing else.

Writes parts of at most --part MiB, bundle.json and unpack.py into --out. On the other machine, with all of them in one
folder: python3 unpack.py. The bundle brings its own Python and libraries; it wants an x86-64 Linux with this system's
glibc or a newer one, and CUDA's libraries, as wheels or in /usr/local.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--caffe", type=Path, metavar="DIR", help="installed build (default: the one in use)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: build/gpu-bundle)")
    parser.add_argument(
        "--part", type=cli.positive, default=60, metavar="MIB", help="size of a part (default: %(default)s)"
    )
    parser.add_argument(
        "--preset",
        type=int,
        default=6,
        choices=range(10),
        metavar="0-9",
        help="xz compression level (default: %(default)s)",
    )
    parser.add_argument("--cpu", action="store_true", help="accept a CPU build, to test the packing")
    args = parser.parse_args(argv)

    from selfie.bench import bundle
    from selfie.common import paths
    from selfie.net import pycaffe

    if args.caffe is None:
        pycaffe.binary()
    if not args.cpu and args.caffe is None:
        pycaffe.check_gpu_build()
    caffe = paths.existing(args.caffe or paths.BUILD / "caffe", "Caffe build").resolve()
    parts = bundle.pack(caffe, (args.out or paths.BUILD / "gpu-bundle").absolute(), args.part << 20, args.preset)
    for part in parts:
        print(f"{part}  {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
