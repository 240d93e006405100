#!/usr/bin/env python3
"""Hold a run against the published continuum: does our net order those selfies as Karpathy's did?

Scores the continuum's tiles (cut by tools/cut_figures.py), leaving out those that the run may have seen, and prints
Spearman's correlation with the published row, beside what mere brightness reaches. Writes compare.json,
continuum_scores.csv and compare.jpg (their order on the left, ours on the right) into the run folder.
"""

from pathlib import Path

from selfie import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--figures", type=Path, help="what cut_figures.py wrote (default: data/figures)")
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    args = parser.parse_args(argv)

    from selfie import compare, image, paths, runs
    run = runs.find(args.run)
    figures = args.figures or paths.DATA / "figures"
    scored, result = compare.continuum(run, figures, args.gpu)
    paths.write_csv(run.folder / "continuum_scores.csv", scored)
    paths.write_json(run.folder / "compare.json", result)
    image.write(run.folder / "compare.jpg", compare.picture(scored, figures))
    print(f"published continuum: {result['tiles']} tiles; {result['left_out']} left out, labelled as well")
    for name in ("score", "brightness"):
        value = result[f"spearman_{name}"]
        print(f"  Spearman of {name:10} with the published row  {value['value']:.2f}   "
              f"(95 % interval {value['low']:.2f} to {value['high']:.2f})")
    print(f"{run.folder / 'compare.jpg'}: their order on the left, ours on the right")


if __name__ == "__main__":
    cli.run(main)
