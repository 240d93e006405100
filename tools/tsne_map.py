#!/usr/bin/env python3
"""Lay selfies out so that those that look alike to the net lie close together: the post's t-SNE map of fc7.

Without --features, the features of the run's test selfies are exported first, to <run>/features/<split>. Written to
--out (default <run>/map): map.csv (name,x,y,score), exact.jpg, grid.jpg, reduced.jpg and viewer/index.html, which any
browser opens. With --place the finished map stays as it is, and the given pictures are placed into it.

The map needs openTSNE, which `make setup` installs (requirements-map.txt).
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfie.common import cli
from selfie.common.splits import SPLITS

if TYPE_CHECKING:
    import polars

    from selfie.experiments.features import Features
    from selfie.runs.run_folder import Run


def main(argv: Sequence[str] | None = None) -> None:
    args = make_parser().parse_args(argv)

    import json

    from selfie.experiments import tsne
    from selfie.experiments.features import listed
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    out = args.out or run.folder / "map"
    if args.place:
        placed = tsne.place(tsne.load(out), run, listed(args.place), args.gpu)
        if args.json:
            print(json.dumps(placed.to_dicts(), indent=2, ensure_ascii=False))
        else:
            print_places(placed, out)
        return
    info = tsne.make(features_of(run, args), out, args.perplexity, args.seed, args.cells)
    if args.json:
        print(json.dumps(info, indent=2))
        return
    print(
        f"{out}: {info['selfies']} selfies as {info['run']} sees them, {info['components']} principal components "
        f"({info['variance_kept']:.0%} of the variance), perplexity {info['perplexity']:g}"
    )
    print(f"open {out}/viewer/index.html in a browser")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--split", choices=SPLITS, default="test", help="selfies of the map (default: %(default)s)")
    what.add_argument(
        "--features", type=Path, metavar="DIR", help="folder that export_fc7.py wrote, instead of a split"
    )
    what.add_argument("--place", nargs="+", metavar="PATH", help="place these pictures into the finished map")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the map")
    parser.add_argument(
        "--perplexity",
        type=float,
        default=30,
        metavar="P",
        help="about how many neighbours of a selfie count (default: %(default)s)",
    )
    parser.add_argument(
        "--cells", type=cli.positive, metavar="N", help="cells per side of the grid (default: 40, less for small maps)"
    )
    cli.add_seed(parser, of="the map")
    cli.add_gpu(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def features_of(run: Run, args: argparse.Namespace) -> Features:
    """Load the features of --features, or export those of the run's split."""
    from selfie.experiments.features import Records, export, load

    if args.features:
        return load(args.features)
    out = run.folder / "features" / args.split
    return export(run, Records(run.database(args.split)), out, gpu=args.gpu, force=True)


def print_places(placed: polars.DataFrame, out: Path) -> None:
    for row in placed.to_dicts():
        print(
            f"{row['name']}: x {row['x']:.2f}, y {row['y']:.2f}, score {row['score']:.1%}, most like "
            f"{row['neighbour']}\n  {out}/viewer/index.html#x={row['x']:.3f}&y={row['y']:.3f}"
        )


if __name__ == "__main__":
    cli.run(main)
