#!/usr/bin/env python3
"""Draw many selfies as one picture, in the geometry of the post's figures.

  continuum   the test selfies from best to worst, 20 rows of 12
  best        the best 100
  worst       the worst 300, at most 48 pixels each, so that nobody can be recognised
  males       the best of those among the top 2000 that the manifest, or a list, says are male: nothing here guesses it
  posneg      bad and good training selfies, drawn at random, side by side
  celebs      any pictures, files or folders: scored and sorted, best first

All but celebs need the database of the run; all but celebs and posneg the scores that `make eval` writes. The picture
is <run>/<kind>.jpg unless --out says otherwise.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli

KINDS = ("continuum", "best", "worst", "males", "posneg", "celebs")


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.cell is not None and not 16 <= args.cell <= 1024:
        parser.error("--cell must be 16 to 1024")
    if bool(args.paths) != (args.kind == "celebs"):
        parser.error("celebs, and nothing else, needs files or folders of pictures")
    if args.kind == "males" and (args.manifest is None) == (args.list is None):
        parser.error("males needs --manifest with the attribute of --where, or --list")
    if args.kind == "posneg" and args.scores:
        parser.error("training selfies are not scored: leave --scores out")

    from selfie.data import image
    from selfie.experiments import grids
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    default = grids.LAYOUTS[args.kind]
    layout = grids.Layout(args.rows or default.rows, args.columns or default.columns, args.cell or default.cell)
    if args.kind == "celebs":
        picture, tiles = grids.files_grid(run, args.paths, layout, args.scores, args.gpu)
    elif args.kind == "posneg":
        picture, tiles = grids.examples_grid(run, layout, args.seed)
    else:
        ids = wanted_ids(args) if args.kind == "males" else None
        picture, tiles = grids.scored_grid(
            run, args.kind, layout, args.split, with_scores=args.scores, ids=ids, top=args.top
        )
    out = args.out or run.folder / f"{args.kind}.jpg"
    image.write(out, picture)
    if args.json:
        import json

        shape = {"columns": layout.columns, "cell": layout.cell}
        print(json.dumps({"picture": str(out), "run": str(run.folder), "kind": args.kind, **shape, "tiles": tiles}))
    else:
        height, width = picture.shape[:2]
        print(f"{out}: {len(tiles)} selfies, {width} x {height} pixels (run {run.folder})")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "kind", nargs="?", default="continuum", choices=KINDS, help="grid to draw (default: %(default)s)"
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="celebs: pictures, or folders of them")
    cli.add_run(parser)
    parser.add_argument("--rows", type=cli.positive, metavar="N", help="rows of the grid (default: as in the post)")
    parser.add_argument(
        "--columns", type=cli.positive, metavar="N", help="columns of the grid (default: as in the post)"
    )
    parser.add_argument("--cell", type=cli.positive, metavar="PX", help="side of a selfie (default: as in the post)")
    parser.add_argument("--scores", action="store_true", help="print each selfie's score, in percent, on it")
    cli.add_split(parser, "scored selfies to draw")
    parser.add_argument("--manifest", metavar="FILE", help="males: table with the attribute")
    cli.add_table(parser)
    parser.add_argument(
        "--where",
        default="is_female=-1",
        metavar="COLUMN=NUMBER",
        help="males: the attribute and its value (default: %(default)s, as in UCF's)",
    )
    parser.add_argument("--list", metavar="FILE", help="males: ids picked by hand, one on a line")
    parser.add_argument(
        "--top",
        type=cli.positive,
        default=2000,
        metavar="N",
        help="males: how many of the best to look at (default: %(default)s)",
    )
    cli.add_seed(parser, of="posneg's examples")
    parser.add_argument("--gpu", type=int, metavar="N", help="celebs: GPU to use (default: CPU)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JPEG or PNG file to write")
    parser.add_argument("--json", action="store_true", help="print which selfies are drawn, in order")
    return parser


def wanted_ids(args: argparse.Namespace) -> set[str]:
    """Read the ids that --list names, or that --manifest has with the attribute of --where."""
    from selfie.common.errors import SelfieError
    from selfie.data import manifest
    from selfie.experiments import grids

    if args.list:
        return grids.ids_listed(args.list)
    column, _, value = args.where.partition("=")
    try:
        number = float(value)
    except ValueError as error:
        raise SelfieError(f"--where {args.where}: expected COLUMN=NUMBER") from error
    return grids.ids_with(args.manifest, column, number, manifest.Reading(dict(args.map), args.decimal))


if __name__ == "__main__":
    cli.run(main)
