#!/usr/bin/env python3
"""Measure how fast everything is, beside its peers on the same work, and print a table of this machine.

Groups: start (commands' start-up), nets (VGG16 and SqueezeNet on the CPU beside Caffe without oneDNN and, of ONNX
Runtime, OpenVINO and PyTorch, those that 'pip install -r requirements-bench.txt' installed), lmdb (beside Caffe's
convert_imageset), scoring (beside the bare net), faces, labels, crops (dense search beside random crops), growth (time
and memory at 1,000, 10,000 and 100,000); and, only where it is named, cluster (two workers beside one machine, at
10,000 pictures: ten minutes more). Contenders take turns. The numbers go to OUT/bench.json, row by row,
a plot of growth to OUT/growth.png; pictures, nets and tables to work on are made in OUT once, about 3 GB.
docs/benchmarks.md has the tables of several machines.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli

GROUPS = ("start", "nets", "lmdb", "scoring", "faces", "labels", "crops", "growth")  # with NAMED, cpu.GROUPS
NAMED = ("cluster",)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*GROUPS, *NAMED),
        metavar="GROUP",
        help="measure these groups again, keep the others",
    )
    parser.add_argument("--quick", action="store_true", help="less work: a few minutes instead of twenty")
    parser.add_argument(
        "--pictures", type=cli.positive, metavar="N", help="of group cluster (default: 10,000; with --quick 1,000)"
    )
    parser.add_argument("--side", type=cli.positive, metavar="PX", help="of these (default: 320)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for all it makes (default: build/bench)")
    args = parser.parse_args(argv)

    from selfie.bench import cpu
    from selfie.bench.record import table
    from selfie.common import paths

    out = args.out or paths.BUILD / "bench"
    report = cpu.measure(out, args.only or GROUPS, args.quick, args.pictures, args.side)
    print(*table(report, (*GROUPS, *NAMED)), sep="\n")


if __name__ == "__main__":
    cli.run(main)
