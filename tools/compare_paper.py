#!/usr/bin/env python3
"""Compare a run with the original: the published figures as a test set, and its protocol, statement by statement.

Needs the published figures, in SELFIE_MIRROR or data/figures/ (--download gets those that are missing), and for the
linear probe beside our score SqueezeNet's weights (make weights VARIANT=squeezenet). Tiles that the run was trained on
are left out of every test. A test whose figure is missing says how to get it. Writes into the run folder:
  compare.html           one self-contained page: the numbers, their continuum beside ours, the protocol
  compare.json           the same for programs
  compare.jpg, compare_rows.png   the continuum in their order and in ours; mean rank by published row
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli

METHODS = ("dense", "grid", "random")  # of selfie.experiments.crops, which is slow to import


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    parser.add_argument("--download", action="store_true", help="download the figures that are missing")
    parser.add_argument(
        "--crops", choices=METHODS, default="dense", help="how our best crop is searched (default: %(default)s)"
    )
    cli.add_gpu(parser)
    args = parser.parse_args(argv)

    from selfie.original import compare, figures, page
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    if args.download:
        figures.fetch_all()
    comparison = compare.Comparison(run, args.gpu)
    result = comparison.result(args.crops)
    file = comparison.write(result)
    for line in page.test_lines(result):
        print("{:48} {:32} {:>18}  {:>5}  {}".format(*line))
    print(page.USERS)
    print("\n".join(page.crop_sentences(result)))
    print(file)


if __name__ == "__main__":
    cli.run(main)
