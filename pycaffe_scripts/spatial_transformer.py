#!/usr/bin/env python3
"""Ascend the score with a spatial transformer, and see that it gets stuck or drifts.

The net looks at a picture through an affine transformation; the gradient of its score moves the six parameters, from
several starts: the whole picture first, the others at random. Once all six are free, once only scale and translation
are, within the picture. Printed beside the best crop of a random and of a global grid search over the same crops.
All steps of a path follow the gradient's direction with a length that shrinks to zero.

Written to --out: NAME.png (the paths over the picture, and the score along them) and NAME.json (all of the paths).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.realpath(f"{__file__}/../../tools"))  # before .venv is there, too

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if not (0 < args.min_scale < 1 and 0 < args.step <= 2):
        parser.error("--step must be above 0 and at most 2, and --min-scale between 0 and 1")

    from selfie.common import paths
    from selfie.data import image
    from selfie.experiments import spatial_transformer
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    bgr = image.read_named(args.path)
    ascents, searches = spatial_transformer.compare(
        run,
        bgr,
        paths=args.starts,
        steps=args.steps,
        step=args.step,
        min_scale=args.min_scale,
        count=args.count,
        grid=args.grid,
        seed=args.seed,
        gpu=args.gpu,
    )
    folder, name = args.out or run.folder / "transformer", Path(args.path).stem
    record = {
        "run": str(run.folder),
        "path": args.path,
        "original": searches["grid"].original,
        "ascents": {title: ascent.report() for title, ascent in ascents.items()},
        "searches": {
            title: {"best": result.best[0][1], "crops": result.forwards, "seconds": result.seconds}
            for title, result in searches.items()
        },
    }
    paths.write_json(folder / f"{name}.json", record)
    spatial_transformer.draw(folder / f"{name}.png", bgr, ascents, searches)
    if args.json:
        import json

        print(json.dumps(record))
    else:
        print_table(record)
        print(folder / f"{name}.png")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("path", metavar="SELFIE", help="file of the picture")
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument(
        "--starts", type=cli.up_to(10_000), default=8, metavar="N", help="paths of each ascent (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=cli.up_to(100_000), default=60, metavar="N", help="steps of each path (default: %(default)s)"
    )
    parser.add_argument(
        "--step",
        type=float,
        default=0.05,
        metavar="S",
        help="length of the first step, in half pictures; they shrink to 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--min-scale",
        type=float,
        default=0.4,
        metavar="S",
        help="side of the smallest crop as a fraction of the picture's (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=cli.up_to(1_000_000),
        default=1000,
        metavar="N",
        help="crops of the random search (default: %(default)s)",
    )
    parser.add_argument(
        "--grid",
        type=cli.up_to(200),
        default=10,
        metavar="N",
        help="steps of the grid per parameter (default: %(default)s)",
    )
    cli.add_seed(parser, of="the starts and the random search")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: <run>/transformer)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def print_table(record: dict) -> None:
    from statistics import median

    print(
        f"the whole picture scores {100 * record['original']:.1f}% (scored by {record['run']}); scores in percent:\n"
        f"{'':33}best  median of ends  ends below grid  beyond  seconds"
    )
    grid = record["searches"]["grid"]["best"]
    for title, ascent in record["ascents"].items():
        ends = ascent["ends"]
        below = f"{sum(end < grid for end in ends)} of {len(ends)}"
        print(
            f"{title:32}{100 * max(ends):5.1f}  {100 * median(ends):14.1f}  {below:>15}  "
            f"{100 * median(ascent['beyond']):5.1f}%  {ascent['seconds']:7.1f}"
        )
    for title, search in record["searches"].items():
        name = f"{title}, {search['crops']} crops"
        print(f"{name:32}{100 * search['best']:5.1f}{'':41}  {search['seconds']:7.1f}")
    print("beyond: how much of the last glimpse lies beyond the edges of the picture, median")


if __name__ == "__main__":
    cli.run(main)
