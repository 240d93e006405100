#!/usr/bin/env python3
"""Evaluate a run on its held-out test selfies: accuracy and AUC with 95 % intervals, confusion matrix, calibration.

Intervals take users as independent, not selfies: most of those of one user are good, or most are bad. The accuracy is
given by margin, too: of the outer thirds and deciles of what the labels were cut from, where the label is clear. ECE is
the expected calibration error: how far scores are from the shares of good selfies among those that have them.
Writes <split>_evaluation.json and .png, <split>_reliability.png and <split>_scores.csv into the run folder.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import json
from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_split(parser)
    cli.add_gpu(parser)
    cli.add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the summary")
    args = parser.parse_args(argv)

    from selfie.cluster import mapper
    from selfie.runs import evaluate, run_folder

    run = run_folder.find(args.run)
    with mapper.workers(args.scheduler, args.workers, args.shards or run.folder / "shards", args.shard_rows) as workers:
        result = evaluate.evaluate(run, args.split, args.gpu, workers)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_summary(result)


def print_summary(result: dict) -> None:
    from selfie.common.clusters import of_users
    from selfie.runs.evaluate import calibration_sentence

    low, high = result["accuracy_95"]
    confusion = result["confusion"]
    selfies = f"{result['selfies']} {result['split']} selfies{of_users(result)}"
    print(f"{result['run']} on {selfies}, {result['good']} good")
    print(
        f"accuracy  {result['accuracy']:.1%}   (95 % interval {low:.1%} to {high:.1%}; majority-class baseline "
        f"{result['majority_class']:.1%})"
    )
    between = "   ({:.3f} to {:.3f})".format(*result["auc_95"]) if result["auc_95"] else ""
    print(f"AUC       {result['auc']:.3f}{between}")
    print(f"ECE       {calibration_sentence(result['calibration'])}")
    print("             called good   called bad")
    for name in ("good", "bad"):
        print(f"{name:>9}  {confusion[f'{name}_called_good']:>13}{confusion[f'{name}_called_bad']:>13}")
    if result["margins"]:
        print("margin of the label  selfies   users  accuracy")
    for row in result["margins"]:
        low, high = row["accuracy_95"]
        counts = f"{row['selfies']:>7} {row['users']:>7}"
        print(f"  {row['margin']:17}  {counts}  {row['accuracy']:>8.1%}   ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    cli.run(main)
