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

from pathlib import Path

from selfie.common import cli

KINDS = ("continuum", "best", "worst", "males", "posneg", "celebs")


def main(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    for name in ("rows", "columns", "top"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.cell is not None and not 16 <= args.cell <= 1024:
        parser.error("--cell must be 16 to 1024")
    if bool(args.paths) != (args.kind == "celebs"):
        parser.error("celebs, and nothing else, needs files or folders of pictures")
    if args.kind == "males" and (args.manifest is None) == (args.list is None):
        parser.error("males needs --manifest with the attribute of --where, or --list")
    if args.kind == "posneg" and args.scores:
        parser.error("training selfies are not scored: leave --scores out")

    import json

    from selfie.data import image
    from selfie.experiments import grids
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    default = grids.LAYOUTS[args.kind]
    layout = grids.Layout(args.rows or default.rows, args.columns or default.columns, args.cell or default.cell)
    picture, tiles = {"celebs": draw_celebs, "posneg": draw_examples}.get(args.kind, draw_scored)(args, run, layout)
    out = args.out or run.folder / f"{args.kind}.jpg"
    image.write(out, picture)
    if args.json:
        print(
            json.dumps(
                {"picture": str(out), "kind": args.kind, "columns": layout.columns, "cell": layout.cell, "tiles": tiles}
            )
        )
    else:
        print(f"{out}: {len(tiles)} selfies, {picture.shape[1]} x {picture.shape[0]} pixels")


def make_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("kind", nargs="?", default="continuum", choices=KINDS, help="(default: %(default)s)")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="celebs: pictures, or folders of them")
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--rows", type=int, help="(default: as in the post)")
    parser.add_argument("--columns", type=int, help="(default: as in the post)")
    parser.add_argument("--cell", type=int, metavar="PX", help="side of a selfie (default: as in the post)")
    parser.add_argument("--scores", action="store_true", help="print each selfie's score, in percent, on it")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="scored selfies to draw")
    parser.add_argument("--manifest", metavar="M", help="males: table with the attribute")
    parser.add_argument(
        "--where",
        default="is_female=-1",
        metavar="COLUMN=NUMBER",
        help="males: the attribute and its value (default: %(default)s, as in UCF's)",
    )
    parser.add_argument("--list", metavar="FILE", help="males: ids picked by hand, one on a line")
    parser.add_argument("--top", type=int, default=2000, help="males: how many of the best to look at")
    parser.add_argument("--seed", type=int, default=2015, help="posneg: which examples (default: %(default)s)")
    parser.add_argument("--gpu", type=int, help="celebs: GPU to use (default: CPU)")
    parser.add_argument("--out", type=Path, help="JPEG or PNG file to write")
    parser.add_argument("--json", action="store_true", help="print which selfies are drawn, in order")
    return parser


def draw_scored(args, run, layout):
    from selfie.experiments import grids

    scored = grids.scored(run, args.split)
    if args.kind == "males":
        chosen = grids.picked(scored.head(args.top), wanted_ids(args), layout)
    else:
        chosen = {"continuum": grids.spread, "best": grids.best, "worst": grids.worst}[args.kind](scored, layout)
    picture = grids.draw(run.database(args.split), chosen, layout, args.scores)
    return picture, chosen.select("key", "score").to_dicts()


def wanted_ids(args):
    from selfie.common.errors import SelfieError
    from selfie.experiments import grids

    if args.list:
        return grids.ids_listed(args.list)
    column, _, value = args.where.partition("=")
    try:
        return grids.ids_with(args.manifest, column, float(value))
    except ValueError as error:
        raise SelfieError(f"--where {args.where}: expected COLUMN=NUMBER") from error


def draw_examples(args, run, layout):
    from selfie.experiments import grids

    folder = run.database("train")
    bad, good = grids.examples(folder, layout, args.seed)
    tiles = [{"key": key, "label": label} for label, keys in enumerate((bad, good)) for key in keys]
    return grids.side_by_side(folder, bad, good, layout), tiles


def draw_celebs(args, run, layout):
    from selfie.experiments import grids

    some = grids.celebrities(run, args.paths, args.gpu)[: layout.count]
    return grids.gallery(some, layout, args.scores), [{"path": one.path, "score": one.score} for one in some]


if __name__ == "__main__":
    cli.run(main)
