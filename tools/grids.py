#!/usr/bin/env python3
"""Draw the test selfies of a run from best to worst: the continuum of the post, 20 rows of 12.

Needs the scores that `make eval` writes. The picture is <run>/continuum.jpg unless --out says otherwise.
"""

from pathlib import Path

from selfie import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--out", type=Path, help="JPEG or PNG file to write")
    args = parser.parse_args(argv)
    if args.rows < 1 or args.columns < 1:
        parser.error("--rows and --columns must be at least 1")

    from selfie import grids, image, runs
    run = runs.find(args.run)
    out = args.out or run.folder / "continuum.jpg"
    image.write(out, grids.continuum(run, args.rows, args.columns))
    print(f"{out}: best on the top row, worst on the bottom row")


if __name__ == "__main__":
    cli.run(main)
