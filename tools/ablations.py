#!/usr/bin/env python3
"""The post's ablations: with and without dropout; from ImageNet, from faces, from nothing; several seeds of each.

Trains every arm in <out>/<net>-<arm>-seed<n> (what is finished is not trained again, what was stopped goes on), scores
all on the same test selfies and writes <out>/<net>.json. --net demo takes ten minutes on two cores with --epochs 3 and
needs what `make demo` leaves; --net vgg16 --gpu 0 is the post's own.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--net", default="demo", help="demo, squeezenet or vgg16 (default: %(default)s)")
    parser.add_argument("--lmdb", type=Path, metavar="DIR", help="databases (default: data/lmdb; demo: its own)")
    parser.add_argument(
        "--seeds", type=cli.up_to(1000), default=3, metavar="N", help="trainings of each arm (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=float, metavar="N", help="length in epochs (default: as the solver says)")
    parser.add_argument("--gpu", help="GPU to use, or several: 0,1 (default: CPU)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs (default: runs/ablations)")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error("--seeds must be at least 2: one training has no spread")

    from selfie.common import paths
    from selfie.experiments import ablations

    out = args.out or paths.RUNS / "ablations"
    lmdb = args.lmdb or paths.DATA / ("demo/lmdb" if args.net == "demo" else "lmdb")
    seeds = tuple(range(2015, 2015 + args.seeds))
    result = ablations.run(ablations.Plan(args.net, lmdb, seeds, out, args.epochs, args.gpu))
    paths.write_json(out / f"{args.net}.json", result)
    print_table(result)


def print_table(result: dict) -> None:
    from selfie.common.clusters import of_users

    net, seeds = result["net"], len(result["seeds"])
    users = of_users({"users": result["test_users"], "users_known": result["users_known"]})
    print(f"{net}: accuracy on {result['test_selfies']} test selfies{users}, mean of {seeds} seeds")
    for row in result["arms"]:
        line = f"  {row['arm']:10} {row['accuracy']:6.1%}"
        if apart := row.get("difference"):
            line += f"   {apart['value']:+.1%} ({apart['low']:+.1%} to {apart['high']:+.1%})"
            line += f"   {row['finding'] or 'no claim of the post'}: {row['verdict']}"
        print(line)


if __name__ == "__main__":
    cli.run(main)
