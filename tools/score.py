#!/usr/bin/env python3
"""Score selfies: files, folders, or '-' for a list of files on standard input.

The score is the net's probability, in percent, that a selfie is *good*: liked more than others with the same audience.
The percentile is its place among the validation selfies of the run. Pictures that cannot be read are named, the others
are scored, and the exit code is 1 (with --lenient only where no picture at all could be scored). What else a folder
holds is counted on standard error. Odd names are told in quotes, with escapes (docs/data.md).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from selfie.common import cli, names

if TYPE_CHECKING:
    from selfie.runs.score import Scored


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, folder, or - for a list of names on standard input"
    )
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument(
        "--batch", type=cli.positive, default=16, metavar="N", help="pictures per batch (default: %(default)s)"
    )
    cli.add_jobs(parser, "pictures read at a time")
    cli.add_cluster(parser)
    parser.add_argument("--sort", action="store_true", help="best first, unreadable ones last")
    parser.add_argument("--lenient", action="store_true", help="exit code 0 if at least one picture was scored")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line")
    form.add_argument("--csv", action="store_true", help="path,score,percentile,error; score in [0, 1]")
    args = parser.parse_args(argv)

    from selfie.cluster import mapper
    from selfie.data import listing
    from selfie.runs import run_folder, score

    run = run_folder.find(args.run)
    entries = score.expand(args.paths, listing.from_standard_input())
    counts = {"scored": 0, "unreadable": 0}
    with mapper.workers(args.scheduler, args.workers, args.shards or run.folder / "shards", args.shard_rows) as workers:
        pictures = counted(score.score(run, entries, args.gpu, args.batch, args.jobs, workers), counts)
        if args.sort:
            pictures = sorted(pictures, key=lambda one: -1 if one.score is None else one.score, reverse=True)
        if args.json:
            write_json(pictures)
        elif args.csv:
            write_csv(pictures)
        else:
            write_table(pictures, str(run.folder))
    return 1 if counts["unreadable"] and not (args.lenient and counts["scored"]) else 0


def counted(pictures: Iterable[Scored], counts: dict[str, int]) -> Iterator[Scored]:
    for one in pictures:
        counts["scored" if one.error is None else "unreadable"] += 1
        yield one


def write_json(pictures: Iterable[Scored]) -> None:
    import json

    for one in pictures:
        print(names.json_printable(json.dumps(dataclasses.asdict(one), ensure_ascii=False)))


def write_csv(pictures: Iterable[Scored]) -> None:
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "score", "percentile", "error"])
    for one in pictures:
        writer.writerow([names.shown(one.path), one.score, one.percentile, one.error])


def write_table(pictures: Iterable[Scored], run: str) -> None:
    """Print a heading where there is something to score, then a line for each picture; errors on stderr."""
    heading = f" score  percentile  selfie (scored by {run})"
    for one in pictures:
        if one.error is not None:
            cli.tell_error(f"{names.shown(one.path)}: {one.error}")
            continue
        if heading:
            print(heading)
            heading = ""
        print(f"{100 * one.score:5.1f}%  {one.percentile:9.1f}%  {names.shown(one.path)}")


if __name__ == "__main__":
    cli.run(main)
