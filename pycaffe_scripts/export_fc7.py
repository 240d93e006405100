#!/usr/bin/env python3
"""Export what the net sees in each picture: fc7, or another blob, as one memory-mapped .npy with the list of names.

Pictures are files, folders, '-' for a list of files on standard input, or --split: the selfies of the run's own
database. The folder --out gets features.npy (N x D float32), features.csv (name and score of each row), rejects.csv
(what could not be read, and why) and meta.json. Blobs with an extent in space are averaged over it. Memory stays flat,
and an export that was killed goes on where it stopped when it is started again.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.realpath(f"{__file__}/../../tools"))  # before .venv is there, too

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli
from selfie.common.splits import SPLITS


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "paths", nargs="*", default=[], metavar="PATH", help="file, folder, or - for a list of names on standard input"
    )
    what.add_argument("--split", choices=SPLITS, help="selfies of the run's database")
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--blob", help="blob to export (default: the variant's features, for vgg16 and demo fc7)")
    parser.add_argument(
        "--batch", type=cli.positive, default=16, metavar="N", help="pictures per forward pass (default: %(default)s)"
    )
    cli.add_cluster(parser)
    parser.add_argument("--force", action="store_true", help="replace features of other inputs in --out")
    parser.add_argument("--json", action="store_true", help="print meta.json instead of the summary")
    args = parser.parse_args(argv)

    import json

    from selfie.cluster import mapper
    from selfie.data import listing
    from selfie.experiments.features import Files, Records, export, listed
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    source = (
        Records(run.database(args.split))
        if args.split
        else Files(listed(args.paths, listing.from_standard_input()), Path.cwd())
    )
    with mapper.workers(args.scheduler, args.workers, args.shards or f"{args.out}.shards", args.shard_rows) as workers:
        meta = export(run, source, args.out, args.blob, args.gpu, args.batch, args.force, workers).meta
    if args.json:
        print(json.dumps(meta, indent=2))
        return
    print(f"{args.out}/features.npy: {meta['rows']} x {meta['columns']}, {meta['inputs']['blob']} of {meta['run']}")
    for reason, count in meta["rejects"].items():
        print(f"left out: {count} ({reason}), see {args.out}/rejects.csv")


if __name__ == "__main__":
    cli.run(main)
