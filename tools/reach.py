#!/usr/bin/env python3
"""Train on the post's best and worst tiles alone, and order its continuum: the recipe is chosen without looking at it.

Cross-validates every recipe of tools/selfie/original/recipes.py on the training tiles, chooses one by the rule in
reach.py beside it, writes it to runs/reach/choice.json, and only then scores the continuum: runs/reach/reach.json. What
is trained already is not trained again. Needs the published figures and SqueezeNet's weights; half an hour on two
cores.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfie.common import cli

HELD_OUT = "{recipe:16} log-loss {log_loss:.3f} +- {standard_error:.3f}  AUC {auc:.3f}  ({about})"
ON_CONTINUUM = "{recipe:16} Spearman {value:.2f} ({low:.2f} to {high:.2f}), {nets} nets{mark}"
BESIDE = "  {:24} {value:.2f} ({low:.2f} to {high:.2f})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--choose-only", action="store_true", help="stop before the continuum is looked at")
    args = parser.parse_args(argv)

    from selfie.original import reach

    reach.obtain()
    where, results = reach.place(), []
    for result in reach.cross_validate(where):
        results.append(result)
        print(HELD_OUT.format(**result), flush=True)
    chosen = reach.write_choice(results, where)
    print(f"chosen: {chosen}")
    if args.choose_only:
        return
    for result, beside in reach.order_continuum(results, chosen, where):
        mark = "  <- chosen" if result["recipe"] == chosen else ""
        print(ON_CONTINUUM.format(**result, **result["continuum"], mark=mark), flush=True)
        for name, measure in (beside or {}).items():
            print(BESIDE.format(name, **measure), flush=True)


if __name__ == "__main__":
    cli.run(main)
