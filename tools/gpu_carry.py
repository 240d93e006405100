#!/usr/bin/env python3
"""Collect what tools/gpu_check.sh takes on a machine with a GPU, PyTorch and no network: at most 60 MiB.

The newest wheel of Caffe for GPUs in dist/ that has upstream's tests inside (TESTS=1 CUDA=13 docker/build_wheels.sh),
the published tiles and SqueezeNet's weights. Carry it there in a checkout of this commit, in the same place.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--dist", type=Path, metavar="DIR", help="where the wheel is (default: dist)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: build/gpu-carry)")
    args = parser.parse_args(argv)

    from selfie.bench import carry
    from selfie.common import paths

    out = carry.gather(args.dist or paths.ROOT / "dist", (args.out or paths.BUILD / "gpu-carry").absolute())
    print(f"{out}  {carry.size(out) / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
