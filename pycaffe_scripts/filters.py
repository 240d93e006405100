#!/usr/bin/env python3
"""Show how a run's net sees: what excites its filters, and the feature maps of one selfie.

For filters of one layer it finds the patches of the run's test selfies that excite them most, each exactly as large as
what the filter's unit sees, and what in those patches does it: by deconvolution (Zeiler and Fergus) and by guided
gradients. Without --blob and --filters: twelve filters, at random, at the end of the third stage, as in the post.
Writes patches.png, guided.png, deconvolution.png and patches.json into <run>/filters/<blob>.

With --maps it draws the feature maps of a selfie, layer by layer, instead: into <run>/maps/<name of the file>.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.realpath(f"{__file__}/../../tools"))  # before .venv is there, too

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfie.common import cli

if TYPE_CHECKING:
    from selfie.runs.run_folder import Run


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument("--blob", help="blob whose filters are shown (default: the last of the third stage)")
    parser.add_argument(
        "--filters", type=cli.natural, nargs="+", metavar="N", help="filters to show (default: some at random)"
    )
    parser.add_argument(
        "--count", type=cli.positive, default=12, metavar="N", help="filters to choose (default: %(default)s)"
    )
    parser.add_argument(
        "--top", type=cli.positive, default=9, metavar="N", help="patches per filter (default: %(default)s)"
    )
    cli.add_split(parser, "selfies to look through")
    parser.add_argument(
        "--limit", type=cli.positive, default=2000, metavar="N", help="how many of them at most (default: %(default)s)"
    )
    cli.add_seed(parser, of="the choice of filters")
    parser.add_argument("--maps", metavar="SELFIE", help="draw the feature maps of this file instead")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: <run>/filters/<blob>, <run>/maps/<name>)"
    )
    parser.add_argument("--json", action="store_true", help="print the patches as JSON")
    args = parser.parse_args(argv)

    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    (draw_maps if args.maps else draw_patches)(run, args)


def draw_maps(run: Run, args: argparse.Namespace) -> None:
    from selfie.data import image
    from selfie.experiments import feature_maps

    picture = run.preprocessing.square(image.read_named(args.maps))
    folder = args.out or run.folder / "maps" / Path(args.maps).stem
    print_files(feature_maps.draw(feature_maps.compute(run, picture, args.gpu), folder))


def draw_patches(run: Run, args: argparse.Namespace) -> None:
    import json

    from selfie.common import paths
    from selfie.experiments import filters

    blob, patches = filters.find(
        run,
        args.blob,
        args.filters,
        count=args.count,
        top=args.top,
        split=args.split,
        limit=args.limit,
        seed=args.seed,
        gpu=args.gpu,
    )
    folder = args.out or run.folder / "filters" / blob.replace("/", "_")
    files = filters.draw(run, blob, patches, folder, args.split, args.gpu)
    record = {
        "run": str(run.folder),
        "blob": blob,
        "split": args.split,
        "filters": [[patch._asdict() for patch in of_filter] for of_filter in patches],
    }
    paths.write_json(folder / "patches.json", record)
    if args.json:
        print(json.dumps(record))
    else:
        print_files([*files, folder / "patches.json"])


def print_files(files: Sequence[Path]) -> None:
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    cli.run(main)
