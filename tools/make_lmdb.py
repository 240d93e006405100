#!/usr/bin/env python3
"""Build the LMDB databases that Caffe trains on, one per split, from labelled selfies.

Reads labels.csv (columns id, path, label, split; made by tools/label.py) and writes OUT/train, OUT/val and OUT/test,
each with data.mdb, list.txt, rejects.csv and, last, meta.json: a database without meta.json is not finished.
Pictures are squashed to SIZE x SIZE and stored as JPEG of high quality, or with --raw as plain pixels (five times the
space, no second loss, and no decoding while training).

A build that was killed resumes when it is started again with the same options. Pictures that cannot be used, and
repeated ones, are listed in rejects.csv with the reason; they are no error. With --verify DIR nothing is built: all
records of the databases in DIR are read and compared with the hashes of their build.

Example: python3 tools/make_lmdb.py --labels data/labels.csv --images data/images --out data/lmdb
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--labels", metavar="CSV", help="labelled selfies: id,path,label,split")
    parser.add_argument("--images", metavar="DIR", help="folder that the paths are relative to")
    parser.add_argument("--out", metavar="DIR", help="folder of the databases")
    parser.add_argument("--raw", action="store_true", help="store plain pixels, not JPEG")
    parser.add_argument("--quality", type=int, default=95, metavar="Q", help="JPEG quality, 1-100 (default: 95)")
    parser.add_argument("--size", type=int, help="side of the stored pictures in pixels (default: 256)")
    parser.add_argument(
        "--detail",
        type=int,
        default=0,
        metavar="D",
        help="reduce pictures to so many pixels before they are brought to that size, and whatever the run scores "
        "later as well: for pictures so small that larger ones would look sharper than any of them (default: do not)",
    )
    cli.add_jobs(parser, "threads that read pictures")
    cli.add_cluster(parser)
    cli.add_seed(parser, 0, "the order of records")
    parser.add_argument("--force", action="store_true", help="replace databases that are already in OUT")
    cli.add_outside(parser)
    parser.add_argument("--verify", type=Path, metavar="DIR", help="check the databases in DIR instead of building")
    args = parser.parse_args(argv)
    built_from = {"--labels": args.labels, "--images": args.images, "--out": args.out}
    if args.verify and any(built_from.values()):
        parser.error("--verify builds nothing: it goes without --labels, --images and --out")
    if not args.verify and not all(built_from.values()):
        parser.error(f"missing: {', '.join(name for name, value in built_from.items() if not value)} (or --verify DIR)")

    from selfie.cluster import mapper
    from selfie.data import image, lmdb_verify, lmdb_writer

    if args.verify:
        for folder, count in lmdb_verify.verify(args.verify).items():
            print(f"{folder}: {count} records, all as they were built")
        return
    shards = args.shards or f"{args.out}.shards"
    with mapper.workers(args.scheduler, args.workers, shards, args.shard_rows) as workers:
        metas = lmdb_writer.build(
            args.labels,
            args.images,
            args.out,
            size=image.IMAGE_SIZE if args.size is None else args.size,
            detail=args.detail,
            raw=args.raw,
            quality=args.quality,
            jobs=args.jobs,
            seed=args.seed,
            force=args.force,
            outside=args.outside,
            workers=workers,
        )
    print_summary(metas)


def print_summary(metas: dict[str, dict]) -> None:
    """Print what is in the databases: records, labels, and how many pictures were rejected for which reason."""
    for split, meta in metas.items():
        labels = ", ".join(f"{count} of label {label}" for label, count in meta["labels"].items())
        if len(meta["labels"]) > 5:
            labels = f"{len(meta['labels'])} labels"
        print(f"{split:5}  {meta['count']} records ({labels}), {sum(meta['rejects'].values())} rejects")
        for reason, count in sorted(meta["rejects"].items(), key=lambda item: -item[1]):
            print(f"       {count} x {reason}")


if __name__ == "__main__":
    cli.run(main)
