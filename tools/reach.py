#!/usr/bin/env python3
"""Train on the post's best and worst tiles alone, and order its continuum: the recipe is chosen without looking at it.

Cross-validates every recipe of tools/selfie/reach.py on the training tiles, chooses one by the rule written there,
writes it to runs/reach/choice.json, and only then scores the continuum: runs/reach/reach.json. What is trained already
is not trained again. Needs the published figures and SqueezeNet's weights; half an hour on two cores.
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--choose-only", action="store_true", help="stop before the continuum is looked at")
    args = parser.parse_args(argv)

    import numpy as np

    from selfie.common import paths, stats
    from selfie.net import weights
    from selfie.original import compare, figures, reach

    for name in ("best", "worst", "continuum"):
        figures.fetch(name)
    weights.obtain("squeezenet")
    where = reach.place()
    results = []
    for recipe in reach.RECIPES:
        results.append(
            {"recipe": recipe.name, "about": recipe.about, **reach.judge(reach.held_out(recipe, reach.SEEDS[0], where))}
        )
        print(
            "{recipe:16} log-loss {log_loss:.3f} +- {standard_error:.3f}  AUC {auc:.3f}  ({about})".format(
                **results[-1]
            ),
            flush=True,
        )
    chosen = reach.choose(results)["recipe"]
    paths.write_json(where.runs / "choice.json", {"chosen": chosen, "recipes": results})
    print(f"chosen: {chosen}")
    if args.choose_only:
        return
    for result, recipe in sorted(zip(results, reach.RECIPES), key=lambda one: one[1].name != chosen):
        seeds = reach.SEEDS if recipe.name == chosen else reach.SEEDS[:1]
        tiles, values = reach.order(recipe, seeds, where)
        published = np.array([-tile.row for tile in tiles])
        result |= {"nets": len(seeds) * reach.FOLDS, "continuum": stats.spearman_report(values, published)}
        print(
            "{recipe:16} Spearman {value:.2f} ({low:.2f} to {high:.2f}), {nets} nets{mark}".format(
                **result, **result["continuum"], mark="  <- chosen" if recipe.name == chosen else ""
            ),
            flush=True,
        )
        if recipe.name == chosen:
            beside = compare.ordered({"score": values, **compare.baselines(tiles)}, published)
            for name, one in beside.items():
                print("  {:24} {value:.2f} ({low:.2f} to {high:.2f})".format(name, **one), flush=True)
        paths.write_json(where.runs / "reach.json", {"chosen": chosen, "beside": beside, "recipes": results})


if __name__ == "__main__":
    cli.run(main)
