#!/usr/bin/env python3
"""Cut the published figures into tiles: best 100 and worst 300 as a labelled split, the continuum as a test.

Writes into --out:
  tiles/<figure>_RR_CC.png   every tile, all of one size and one coding history, so that neither tells the figure
  labels.csv                 id,path,label,split,user,audience,group,likes: best = 1, worst = 0; paths start in tiles/
  continuum.csv              id,path,row,column,duplicate_of: the published order, row 0 best; duplicate_of names the
                             labelled tile that shows the same selfie: leave such rows out of a test
Figures that are not here are looked for in SELFIE_MIRROR, then downloaded.
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--out", default="data/figures", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--size",
        type=int,
        default=32,
        metavar="S",
        help="side of every tile in pixels, at most 48; at 32 the figures' different histories leave "
        "the least trace (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument(
        "--whole-continuum",
        action="store_true",
        help="keep selfies of the continuum out of labels.csv instead of marking them in continuum.csv",
    )
    args = parser.parse_args(argv)

    from pathlib import Path

    import cv2
    from tqdm import tqdm

    from selfie.common import paths
    from selfie.original import figures

    out = Path(args.out)
    for name in ("best", "worst", "continuum"):
        figures.fetch(name)
    tiles, labels, continuum = figures.labelled(args.size, args.seed, args.whole_continuum)
    for tile in tqdm(tiles, "tiles", disable=None):
        with paths.atomic_write(out / "tiles" / tile.file, "wb") as file:
            file.write(cv2.imencode(".png", tile.bgr)[1])
    for frame, name in ((labels, "labels.csv"), (continuum, "continuum.csv")):
        paths.write_csv(out / name, frame)
    print(f"{len(tiles)} tiles of {args.size} x {args.size} pixels in {out / 'tiles'}")
    for split in ("train", "val", "test"):
        part = labels.filter(labels["split"] == split)["label"]
        print(f"  {split:5}  {(part == 1).sum():3} good  {(part == 0).sum():3} bad")
    duplicates = continuum["duplicate_of"].count()
    print(f"  continuum  {len(continuum)}, of which {duplicates} are also in labels.csv")


if __name__ == "__main__":
    cli.run(main)
