#!/usr/bin/env python3
"""Score selfies: files, folders, or '-' for a list of files on standard input.

The score is the net's probability, in percent, that a selfie is *good*: liked more than others with the same audience.
The percentile is its place among the validation selfies of the run. Pictures that cannot be read are named, the others
are scored, and the exit code is 1.
"""

import sys

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    parser.add_argument("--batch", type=int, default=16, help="pictures per forward pass (default: %(default)s)")
    parser.add_argument("--jobs", type=int, metavar="N", help="pictures read at a time (default: one per core)")
    parser.add_argument("--sort", action="store_true", help="best first, unreadable ones last")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line")
    form.add_argument("--csv", action="store_true", help="path,score,percentile,error; score in [0, 1]")
    args = parser.parse_args(argv)
    if args.batch < 1:
        parser.error("--batch must be at least 1")
    if args.jobs is not None and args.jobs < 1:
        parser.error("--jobs must be at least 1")

    from selfie.runs import run_folder, score

    run = run_folder.find(args.run)
    scored = score.score(run, score.expand(args.paths, sys.stdin), args.gpu, args.batch, args.jobs)
    if args.sort:
        scored = sorted(scored, key=lambda one: -1 if one.score is None else one.score, reverse=True)
    write = write_json if args.json else write_csv if args.csv else write_table
    return 1 if write(scored) else 0


def write_json(scored):
    import dataclasses
    import json

    bad = 0
    for one in scored:
        bad += one.error is not None
        print(json.dumps(dataclasses.asdict(one), ensure_ascii=False))
    return bad


def write_csv(scored):
    import csv

    bad = 0
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "score", "percentile", "error"])
    for one in scored:
        bad += one.error is not None
        writer.writerow([one.path, one.score, one.percentile, one.error])
    return bad


def write_table(scored):
    bad = 0
    print(" score  percentile  selfie")
    for one in scored:
        if one.error is None:
            print(f"{100 * one.score:5.1f}%  {one.percentile:9.1f}%  {one.path}")
        else:
            bad += 1
            print(f"error: {one.path}: {one.error}", file=sys.stderr)
    return bad


if __name__ == "__main__":
    cli.run(main)
