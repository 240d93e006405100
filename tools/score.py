#!/usr/bin/env python3
"""Score selfies: files, folders, or '-' for a list of files on standard input.

The score is the net's probability, in percent, that a selfie is *good*: liked more than others with the same audience.
The percentile is its place among the validation selfies of the run. Pictures that cannot be read are named, the others
are scored, and the exit code is 1 (with --lenient only where no picture at all could be scored). What else a folder
holds is counted on standard error. Odd names are told in quotes, with escapes (docs/data.md).

Where the run's net is an ensemble, low and high are a 95 % interval of the score, and unlike is the percentage of the
selfies that it learned from which are closer to their average than this picture. From 95 % on the net does not know
such pictures: the table says so, and the interval is all that a score can be. With --html a page is written as well:
each photo, its score and what it means, its best crop, and which properties moved it.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfie.common import cli, names

if TYPE_CHECKING:
    from selfie.runs.score import Scored

FIELDS = ("path", "score", "percentile", "error")  # of each picture; runs with heads say more


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
    parser.add_argument(
        "--html", type=Path, metavar="DIR", help="write a page as well: the photos, what moved their scores, best crops"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line")
    form.add_argument(
        "--csv", action="store_true", help="path,score,percentile,error (low,high,unlike); scores in [0, 1]"
    )
    args = parser.parse_args(argv)

    from selfie.cluster import mapper
    from selfie.data import listing
    from selfie.runs import run_folder, score, trust

    run = run_folder.find(args.run)
    entries = score.expand(args.paths, listing.from_standard_input())
    if args.html is not None:
        from selfie.experiments import score_page

        entries = score_page.without_page(entries, args.html)
    counts = {"scored": 0, "unreadable": 0}
    shown: list[Scored] = []
    more = score.JUDGED if trust.of(run) is not None else ()
    with mapper.workers(args.scheduler, args.workers, args.shards or run.folder / "shards", args.shard_rows) as workers:
        pictures = score.score(run, entries, args.gpu, args.batch, args.jobs, workers)
        pictures = counted(pictures, counts, shown if args.html is not None else None)
        if args.sort:
            pictures = sorted(pictures, key=lambda one: -1 if one.score is None else one.score, reverse=True)
        if args.json:
            write_json(pictures, more)
        elif args.csv:
            write_csv(pictures, more)
        else:
            write_table(pictures, str(run.folder), bool(more))
    if args.html is not None:
        page = score_page.write(run, shown, args.html, args.gpu)
        print(f"the page: {names.shown(page)}", file=sys.stderr)
    return 1 if counts["unreadable"] and not (args.lenient and counts["scored"]) else 0


def counted(pictures: Iterable[Scored], counts: dict[str, int], kept: list[Scored] | None) -> Iterator[Scored]:
    for one in pictures:
        if kept is not None:
            kept.append(one)
        counts["scored" if one.error is None else "unreadable"] += 1
        yield one


def write_json(pictures: Iterable[Scored], more: Sequence[str]) -> None:
    import json

    for one in pictures:
        values = {name: getattr(one, name) for name in (*FIELDS, *more)}
        print(names.json_printable(json.dumps(values, ensure_ascii=False)))


def write_csv(pictures: Iterable[Scored], more: Sequence[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow([*FIELDS, *more])
    for one in pictures:
        writer.writerow([names.shown(one.path), *(getattr(one, name) for name in (*FIELDS[1:], *more))])


def write_table(pictures: Iterable[Scored], run: str, spread: bool) -> None:
    """Print a heading where there is something to score, then a line for each picture; errors on stderr."""
    heading = f" score  percentile  {'      interval  ' * spread}selfie (scored by {run})"
    for one in pictures:
        if one.error is not None:
            cli.tell_error(f"{names.shown(one.path)}: {one.error}")
            continue
        if heading:
            print(heading)
            heading = ""
        between = f"{100 * one.low:5.1f} - {100 * one.high:5.1f}%  " if spread else ""
        unknown = "  (unlike what this net learned from)" if one.unknown else ""
        print(f"{100 * one.score:5.1f}%  {one.percentile:9.1f}%  {between}{names.shown(one.path)}{unknown}")


if __name__ == "__main__":
    cli.run(main)
