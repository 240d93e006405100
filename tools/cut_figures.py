#!/usr/bin/env python3
"""Cut the published figures into tiles: best 100 and worst 300 as a labelled split, the continuum as a test.

Writes into --out:
  tiles/<figure>_RR_CC.png   every tile, resized and re-encoded identically, so that only the selfie tells its figure
  labels.csv                 id,path,label,split,user,audience,group,likes: best = 1, worst = 0; paths start in tiles/
  labels.report.json         by which rule they are good or bad, for what a score means
  continuum.csv              id,path,row,column,duplicate_of: the published order, row 0 best; duplicate_of names the
                             labelled tile that shows the same selfie: leave such rows out of a test
Figures that are not here are looked for in SELFIE_MIRROR, then downloaded.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli
from selfie.common.splits import SPLITS


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default="data/figures", metavar="DIR", help="folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=cli.positive,
        default=32,
        metavar="S",
        help="side of every tile in pixels, at most 48; 32 best hides how differently the figures were scaled and "
        "compressed (default: %(default)s)",
    )
    cli.add_seed(parser, 0, "the split")
    parser.add_argument(
        "--whole-continuum",
        action="store_true",
        help="keep selfies of the continuum out of labels.csv instead of marking them in continuum.csv",
    )
    args = parser.parse_args(argv)

    from selfie.original import figures, tile_labels

    for name in tile_labels.GRIDS:
        figures.fetch(name)
    labelled = tile_labels.labelled(args.size, args.seed, args.whole_continuum)
    tile_labels.write(args.out, labelled)
    print(f"{len(labelled.tiles)} tiles of {args.size} x {args.size} pixels in {args.out / 'tiles'}")
    for split in SPLITS:
        part = labelled.labels.filter(labelled.labels["split"] == split)["label"]
        print(f"  {split:5}  {(part == 1).sum():3} good  {(part == 0).sum():3} bad")
    duplicates = labelled.continuum["duplicate_of"].count()
    print(f"  continuum  {len(labelled.continuum)}, of which {duplicates} are also in labels.csv")


if __name__ == "__main__":
    cli.run(main)
