#!/usr/bin/env python3
"""Lay selfies out so that those that look alike to the net lie close together: the post's t-SNE map of fc7.

Without --features, the features of the run's test selfies are exported first, to <run>/features/<split>. Written to
--out (default <run>/map): map.csv (name,x,y,score), exact.jpg, grid.jpg, reduced.jpg and viewer/index.html, which any
browser opens. With --place the finished map stays as it is, and the given pictures are placed into it.

The map needs openTSNE: .venv/bin/python -m pip install -r requirements-map.txt
"""

from pathlib import Path

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: %(default)s")
    what.add_argument("--features", type=Path, help="folder that export_fc7.py wrote, instead of a split")
    what.add_argument("--place", nargs="+", metavar="PATH", help="place these pictures into the finished map")
    parser.add_argument("--out", type=Path, help="folder of the map")
    parser.add_argument(
        "--perplexity",
        type=float,
        default=30,
        help="about how many neighbours a selfie is held against (default: %(default)s)",
    )
    parser.add_argument("--cells", type=int, help="cells per side of the grid (default: 40, less for small maps)")
    parser.add_argument("--seed", type=int, default=2015, help="default: %(default)s")
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args(argv)
    if args.cells is not None and args.cells < 1:
        parser.error("--cells must be at least 1")
    if args.seed < 0:
        parser.error("--seed must not be negative")

    import json

    from selfie.experiments import tsne
    from selfie.experiments.features import Records, export, listed, load
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    out = args.out or run.folder / "map"
    if args.place:
        placed = tsne.place(tsne.load(out), run, listed(args.place), args.gpu)
        print(json.dumps(placed.to_dicts(), indent=2, ensure_ascii=False) if args.json else told(placed, out))
        return
    features = (
        load(args.features)
        if args.features
        else export(
            run, Records(run.database(args.split)), run.folder / "features" / args.split, gpu=args.gpu, force=True
        )
    )
    info = tsne.make(features, out, args.perplexity, args.seed, args.cells)
    if args.json:
        print(json.dumps(info, indent=2))
        return
    print(
        f"{out}: {info['selfies']} selfies, {info['components']} principal components "
        f"({info['variance_kept']:.0%} of the variance), perplexity {info['perplexity']:g}"
    )
    print(f"open {out}/viewer/index.html in a browser")


def told(placed, out):
    return "\n".join(
        f"{one['name']}: x {one['x']:.2f}, y {one['y']:.2f}, score {one['score']:.1%}, most like "
        f"{one['neighbour']}\n  {out}/viewer/index.html#x={one['x']:.3f}&y={one['y']:.3f}"
        for one in placed.to_dicts()
    )


if __name__ == "__main__":
    cli.run(main)
