#!/usr/bin/env python3
"""Evaluate a run on its held-out test selfies: accuracy with a 95 % interval, AUC, confusion matrix.

Writes <split>_evaluation.json, <split>_evaluation.png and <split>_scores.csv into the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_split(parser)
    cli.add_gpu(parser)
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the summary")
    args = parser.parse_args(argv)

    from selfie.runs import evaluate, run_folder

    result = evaluate.evaluate(run_folder.find(args.run), args.split, args.gpu)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_summary(result)


def print_summary(result: dict) -> None:
    low, high = result["accuracy_95"]
    confusion = result["confusion"]
    print(f"{result['run']} on {result['selfies']} {result['split']} selfies ({result['good']} good)")
    print(
        f"accuracy  {result['accuracy']:.1%}   (95 % interval {low:.1%} to {high:.1%}; majority-class baseline "
        f"{result['majority_class']:.1%})"
    )
    print(f"AUC       {result['auc']:.3f}")
    print("             called good   called bad")
    for name in ("good", "bad"):
        print(f"{name:>9}  {confusion[f'{name}_called_good']:>13}{confusion[f'{name}_called_bad']:>13}")


if __name__ == "__main__":
    cli.run(main)
