#!/usr/bin/env python3
"""Evaluate a run on its held-out test selfies: accuracy with a 95 % interval, AUC, confusion matrix.

Writes <split>_evaluation.json, <split>_evaluation.png and <split>_scores.csv into the run folder.
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the summary")
    args = parser.parse_args(argv)

    import json

    from selfie.runs import evaluate, run_folder

    result = evaluate.evaluate(run_folder.find(args.run), args.split, args.gpu)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    low, high = result["accuracy_95"]
    confusion = result["confusion"]
    print(f"{result['run']} on {result['selfies']} {args.split} selfies ({result['good']} good)")
    print(
        f"accuracy  {result['accuracy']:.1%}   (95 % interval {low:.1%} to {high:.1%}; always giving the commoner "
        f"answer: {result['commoner']:.1%})"
    )
    print(f"AUC       {result['auc']:.3f}")
    print("             called good   called bad")
    for name in ("good", "bad"):
        print(f"{name:>9}  {confusion[f'{name}_called_good']:>13}{confusion[f'{name}_called_bad']:>13}")


if __name__ == "__main__":
    cli.run(main)
