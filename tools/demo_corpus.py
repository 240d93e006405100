#!/usr/bin/env python3
"""Make the embedded demo corpus: selfie-like pictures with planted popularity rules, from nothing but scikit-image.

Writes OUT/images, OUT/manifest.csv, OUT/truth.csv (the planted attributes, never for training) and OUT/planted.json;
with --pretraining instead the short task that the demo net is trained on first: OUT/images, OUT/labels.csv and
OUT/classes.txt. An earlier corpus in OUT is replaced; a folder that holds anything else is left alone without --force.
The same --users and --seed give the same files for any number of --jobs.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--users",
        type=cli.up_to(10_000_000),
        default=1000,
        metavar="N",
        help="users, about 4 posts each (default: %(default)s)",
    )
    cli.add_seed(parser, 0)
    parser.add_argument("--pretraining", action="store_true", help="make the pretraining task instead")
    parser.add_argument(
        "--best",
        metavar="LABELS",
        help="only print the accuracy of the best possible classifier on the test split of these labels of the corpus "
        "in OUT",
    )
    cli.add_jobs(parser)
    parser.add_argument("--force", action="store_true", help="write into a folder that holds something else")
    args = parser.parse_args(argv)

    from selfie.data.demo_corpus import corpus
    from selfie.data.demo_corpus.optimum import best_on_test

    if args.best:
        best = best_on_test(args.out, args.best)
        print(
            f"the best possible classifier on the same {best['rows']} selfies: {best['realised']:.1%} right "
            f"({best['expected']:.1%} +- {best['standard_error']:.1%} expected; it knows all but the luck)"
        )
        return
    if args.pretraining:
        made = corpus.make_pretraining(args.out, args.seed, args.jobs, args.force)
        print(f"{made['rows']} crops of {made['classes']} pictures in {args.out}")
        return
    made = corpus.make(args.out, args.users, args.seed, args.jobs, args.force)
    print(
        f"{made['rows']} posts of {made['users']} users in {args.out}, as of {made['as_of']}; planted trouble: "
        + ", ".join(f"{name} {count}" for name, count in made["trouble"].items())
    )


if __name__ == "__main__":
    cli.run(main)
