#!/usr/bin/env python3
"""Train heads on the post's best and worst tiles: the recipe is chosen without looking at anything else.

Cross-validates every recipe of tools/selfie/original/recipes.py on the training tiles (--lmdb, made of what
tools/cut_figures.py --whole-continuum writes), chooses one by the rule in reach.py beside it, and writes it to
runs/reach/NET/choice.json. Then --run trains it in a run folder; without --run the continuum is ordered by every
recipe: runs/reach/NET/reach.json. What is trained already is not trained again. Needs the net's ImageNet weights, or
some of --weights; recipes that read layers which these lack are left out.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli

HELD_OUT = "{recipe:16} log-loss {log_loss:.4f} +- {standard_error:.4f}  AUC {auc:.4f}  ({about})"
ON_CONTINUUM = "{recipe:16} Spearman {value:.2f} ({low:.2f} to {high:.2f}){mark}"
BESIDE = "  {:24} {value:.2f} ({low:.2f} to {high:.2f})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--net", default="squeezenet", help="squeezenet, vgg16 or vgg16_torchvision (default: %(default)s)"
    )
    parser.add_argument(
        "--lmdb", type=Path, default="data/figures/lmdb", metavar="DIR", help="the tiles (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", metavar="NAME", help="other weights of the net: a caffemodel, or vgg16_notop (default: the net's)"
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="train the chosen recipe in this run folder, and stop")
    parser.add_argument("--choose-only", action="store_true", help="stop before the continuum is looked at")
    args = parser.parse_args(argv)

    from selfie.original import reach

    chosen_from = reach.usable(args.net, args.weights)
    where, results = reach.place(args.net, args.lmdb, args.weights), []
    for result in reach.cross_validate(chosen_from, where):
        results.append(result)
        print(HELD_OUT.format(**result), flush=True)
    chosen = reach.write_choice(results, where)
    print(f"chosen: {chosen}")
    if args.run:
        recipe = next(each for each in chosen_from if each.name == chosen)
        print(f"{reach.trained(recipe, where, args.run, chosen_from).folder}: {recipe.about}")
    elif not args.choose_only:
        for result, beside in reach.order_continuum(results, chosen, chosen_from, where):
            mark = "  <- chosen" if result["recipe"] == chosen else ""
            print(ON_CONTINUUM.format(**result, **result["continuum"], mark=mark), flush=True)
            for name, measure in (beside or {}).items():
                print(BESIDE.format(name, **measure), flush=True)


if __name__ == "__main__":
    cli.run(main)
