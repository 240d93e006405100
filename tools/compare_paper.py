#!/usr/bin/env python3
"""Hold a run against the original: the published figures as a test set, and its protocol, statement by statement.

Needs the published figures, in SELFIE_MIRROR or data/figures/ (--download gets those that are missing), and for the
linear probe beside our score SqueezeNet's weights (make weights VARIANT=squeezenet). Tiles that the run was trained on
are left out of every test. A test whose figure is missing says how to get it. Writes into the run folder:
  compare.html           one self-contained page: the numbers, their continuum beside ours, the protocol
  compare.json           the same for programs
  compare.jpg, compare_rows.png   the continuum in their order and in ours; mean rank by published row
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--download", action="store_true", help="download the figures that are missing")
    parser.add_argument(
        "--crops",
        choices=("dense", "grid", "random"),
        default="dense",
        help="how our best crop is searched (default: %(default)s)",
    )
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    args = parser.parse_args(argv)

    from dataclasses import asdict

    from selfie.common import paths
    from selfie.data import image
    from selfie.original import compare, figures, page, protocol
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    if args.download:
        figures.fetch_all()
    found = compare.Comparison(run, args.gpu)
    result = found.result(args.crops)
    result["protocol"] = [asdict(row) for row in protocol.table(run, len(found.seen))]
    result["arithmetic"] = protocol.arithmetic()
    pictures = {}
    if "why_not" not in result["continuum"]:
        image.write(run.folder / "compare.jpg", picture := found.picture())
        found.draw_rows(run.folder / "compare_rows.png")
        pictures = {
            "The published continuum: their order on the left, ours on the right, best on top.": picture,
            "Mean rank of the tiles of each published row.": run.folder / "compare_rows.png",
        }
    paths.write_json(run.folder / "compare.json", result)
    for row in page.lines(result):
        print("{:48} {:32} {:>18}  {:>5}  {}".format(*row))
    for figure, overlap, chance, theirs, their_gain, ours, our_gain, last in page.crop_lines(result):
        told = f"IoU {overlap}, random {chance}; theirs {theirs} ({their_gain}), ours {ours} ({our_gain})"
        print(f"best crop, {figure}: {last if our_gain == page.NOTHING else told}")
    print(page.write(run, result, pictures))


if __name__ == "__main__":
    cli.run(main)
