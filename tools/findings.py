#!/usr/bin/env python3
"""Find what good selfies have in common, and compare it with each claim of the post.

Measures light, noise, contrast, colour, border, sharpness and faces of the selfies that `make eval` scored, takes every
numeric column of --manifest as well, and asks of each rule what it says beyond all the others: once about the net's
score, once about the labels. Writes findings.json, findings.csv, findings.png and <split>_properties.csv into the run
folder.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
import os
from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.resamples < 100:
        parser.error("--resamples must be at least 100")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before any BLAS is loaded: the work is split over pictures

    from selfie.data import manifest
    from selfie.experiments import findings
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    reading = manifest.Reading(dict(args.map), args.decimal)
    result = findings.find(run, args.split, args.manifest, args.detector, args.jobs, args.seed, args.resamples, reading)
    if args.json or args.csv:
        print((run.folder / f"findings.{'json' if args.json else 'csv'}").read_text(), end="")
        return
    for against, title in (("score", f"Against the score of {run.folder}"), ("labels", "Against the labels")):
        print_tables(title, result[against], result["users_known"])


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_split(parser, "scored selfies to measure")
    parser.add_argument("--manifest", metavar="FILE", help="table with id; its face columns and numbers are used")
    cli.add_table(parser)
    parser.add_argument(
        "--detector",
        choices=("auto", "mtcnn", "lbp"),
        help="look for faces again (default: the manifest's face columns; without them auto)",
    )
    parser.add_argument(
        "--resamples",
        type=cli.positive,
        default=1000,
        metavar="N",
        help="bootstrap resamples (default: %(default)s)",
    )
    cli.add_seed(parser, of="the bootstrap")
    cli.add_jobs(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print findings.json instead of the tables")
    form.add_argument("--csv", action="store_true", help="print findings.csv instead of the tables")
    return parser


def print_tables(title: str, effects: dict, users_known: bool) -> None:
    from selfie.common.clusters import of_users

    selfies = f"{effects['selfies']} selfies{of_users({**effects, 'users_known': users_known})}"
    findings = ", ".join(effects["findings"]) or "none"
    print(f"{title}, {selfies}. Findings: {findings}\n")
    print(f"  {'rule':<15}{'partial correlation':<26}{'p (Holm)':>9}  claim of the post: verdict")
    for row in effects["rules"]:
        claim = f"{row['claim']}: {row['verdict'].upper()}" if row["claim"] else ""
        print(
            f"{'*' if row['finding'] else ' '} {row['rule']:<15}{interval(row, 'partial')}  {claim}"
            f"{' (' + row['why'] + ')' if row['why'] else ''}"
        )
    alone, beyond = "Cliff's delta, alone", "partial correlation"
    print(f"\n  {'property':<15}{alone:<26}{'p (Holm)':>9}  {beyond:<26}{'p (Holm)':>9}")
    for row in effects["properties"]:
        print(f"  {row['property']:<15}{interval(row, 'delta')}  {interval(row, 'partial')}")
    print()


def interval(row: dict, field: str) -> str:
    """Write an effect, its interval and its p value, 35 characters wide."""
    if field not in row:
        return f"{'-':<26}{'-':>9}"
    p = row[f"{field}_p"]
    written = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"{row[field]:+.2f}  ({row[field + '_low']:+.2f} to {row[field + '_high']:+.2f})   {written:>9}"


if __name__ == "__main__":
    cli.run(main)
