#!/usr/bin/env python3
"""Label selfies good or bad by their likes among selfies with the same audience, and split them by user.

Reads a manifest (a table with the columns id, path, user, followers, likes, tags, posted_at) and writes
labels: id,path,label,split,user,audience,group,likes, where label 1 is good and 0 is bad. Selfies are sorted by
audience = followers * (1 + TAG_BONUS * additional tags) and taken in groups of GROUP_SIZE; inside a group the half with
more likes is good. What each filter removed is printed and saved, with measurements of whether the groups are narrow
enough: how much larger the largest audience of a group is than its smallest, and the AUC of the audience inside groups.
(Over all selfies that AUC is nearly 0.5 by construction.) tools/selfie/data/labels.py says what the post of 2015
specifies and what had to be chosen.

--rule residual labels as another attempt did: by what log10(1 + likes) exceeds a straight line through log10(1 +
followers) and the number of tags, over all selfies; --keep deciles keeps only the best and the worst tenth. Its labels
have two more columns, measure (the residual) and place (from 0, the worst, to 1), and so have those of --rule median.

The report also has what knowing the user alone would tell, and intervals that take users, not selfies, as independent.

Ages count up to --as-of; where it is not given, to the newest post of the manifest. The result depends neither on the
order of the rows nor on the number of processes; the seed decides ties and the split.

Examples:
  python3 tools/label.py --manifest data/manifest.parquet --images data/images --out data/labels.csv --as-of 2015-10-25
  python3 tools/label.py --manifest data/manifest.parquet --rule residual --keep deciles --out data/deciles.csv
  python3 tools/label.py --manifest ucf.csv --rule median --out data/labels.csv
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfie.common import cli

LIMITS = ("as_of", "min_age_days", "min_followers", "max_followers", "max_tags", "keep_hidden_likes")
OF_RULE = {  # rule -> the options that mean something to it, beside those that all rules have
    "audience": ("group_size", "tag_bonus", *LIMITS),
    "residual": ("keep", *LIMITS),
    "median": (),
}
OF_ALL = ("rule", "split", "seed")


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    options = {*OF_ALL, *(name for names in OF_RULE.values() for name in names)}
    given = {name: value for name, value in vars(args).items() if name in options}
    rule = given.get("rule", "audience")
    unused = [f"--{name.replace('_', '-')}" for name in given if name not in (*OF_ALL, *OF_RULE[rule])]
    if unused:
        parser.error(f"{', '.join(unused)} cannot be used with --rule {rule}")
    out = Path(args.out)
    if out.suffix.lower() != ".csv":
        parser.error(f"--out {out}: labels are CSV, give a name that ends in .csv")
    report_path = Path(args.report) if args.report else out.with_suffix(".report.json")
    if len({os.path.realpath(path) for path in (args.manifest, out, report_path)}) < 3:
        parser.error("--manifest, --out and --report must be three different files")

    from selfie.cluster import mapper
    from selfie.common import locks, paths
    from selfie.data import label_filters, labels, manifest, tables
    from selfie.data.label_settings import Settings

    if "as_of" in given:
        given["as_of"] = label_filters.parse_date(given["as_of"])
    settings = Settings(**given)
    settings.check()
    shards = args.shards or f"{out}.shards"
    with (
        locks.file(out),  # also tells at once that it cannot be written
        mapper.workers(args.scheduler, args.workers, shards, args.shard_rows) as workers,
    ):
        reading = manifest.Reading(dict(args.map), args.decimal)
        selfies = labels.read(args.manifest, settings, reading, bool(args.images) and not args.outside)
        table, report = labels.label_selfies(selfies, settings, args.images, args.jobs, workers)
        notes = selfies.notes + report.pop("posted_at", [])
        tables.tell(args.manifest, notes)
        source = {"name": Path(args.manifest).name, "sha256": paths.sha256(args.manifest), "notes": notes}
        report = {"manifest": source, **report}
        paths.write_json(report_path, report)
        manifest.write(table, out)  # last: where there are labels, there is their report
    print_report(report)
    print(f"\n{out}, {report_path}")


def _parser() -> argparse.ArgumentParser:
    """Make the parser; only the options that were given stand in the parsed namespace, except files and --jobs."""
    parser = cli.parser(__doc__)
    parser.add_argument("--manifest", required=True, metavar="FILE", help="table of selfies, see docs/data.md")
    cli.add_table(parser)
    parser.add_argument("--out", required=True, metavar="CSV", help="labels to write")
    parser.add_argument("--report", metavar="JSON", help="report to write (default: OUT with .report.json)")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="folder that paths are relative to; with it, repeated pictures are recognised by content",
    )
    cli.add_outside(parser)
    cli.add_jobs(parser, "worker processes that read files")
    cli.add_cluster(parser)

    # The defaults are those of Settings; an option that is not given stays out of the namespace.
    def option(flag: str, **options: Any) -> None:
        parser.add_argument(flag, default=argparse.SUPPRESS, **options)

    option(
        "--rule",
        choices=tuple(OF_RULE),
        help="audience (default): likes within groups; residual: likes beyond what followers and tags explain; "
        "median: halves of the column 'popularity'",
    )
    option(
        "--keep", choices=("halves", "deciles"), help="rule residual: what is labelled (default: halves, that is all)"
    )
    option("--as-of", metavar="DATE", help="when the likes were counted, ISO 8601 (default: date of the newest post)")
    option("--group-size", type=int, metavar="N", help="selfies in a group, even (default: 100)")
    option("--tag-bonus", type=float, metavar="B", help="audience gained by a tag after the first (default: 0.02)")
    option("--min-age-days", type=float, metavar="D", help="days a selfie must have been online (default: 30)")
    option("--min-followers", type=int, metavar="N", help="fewest followers (default: 50)")
    option("--max-followers", type=int, metavar="N", help="most followers (default: 50000)")
    option("--max-tags", type=int, metavar="N", help="most tags (default: 20)")
    option(
        "--keep-hidden-likes",
        action="store_true",
        help="take likes as counts even where one value repeats improbably, as hidden likes do in exports",
    )
    option(
        "--split", type=_shares, metavar="A,B,C", help="shares of users in train, val and test (default: 0.9,0.05,0.05)"
    )
    option("--seed", type=cli.seed, metavar="S", help="random seed of ties and split (default: 0)")
    return parser


def _shares(text: str) -> tuple[float, ...]:
    """Read numbers separated by commas."""
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not three numbers like 0.9,0.05,0.05") from None


def print_report(report: dict) -> None:
    """Print what was removed, the splits, and under rule audience how much the audience still predicts the label."""
    from selfie.data import label_report

    if "as_of" in report["settings"]:
        assumed = "--as-of" if report["as_of_from"] == "given" else f"assumed: {report['as_of_from']}; --as-of sets it"
        print(f"ages as of {report['settings']['as_of']} ({assumed})")
    print(f"{'filter':42} {'removed':>10} {'remaining':>10}")
    print(f"{'rows of the manifest':42} {'':>10} {report['rows']:>10}")
    for step in report["removed"]:
        print(f"{step['reason']:42} {step['removed']:>10} {step['remaining']:>10}")
    removed = {step["reason"]: step["removed"] for step in report["removed"]}
    for hint in label_report.hints(report["rows"], removed):
        print(hint)
    if report.get("hidden_likes"):
        _print_hidden(report["hidden_likes"], report["settings"]["keep_hidden_likes"])
    print(f"pictures were compared by {report['pictures_compared_by']}\n")
    _print_splits(report["splits"])
    print(
        f"{report['groups']} groups, {report['labels_decided_by_coin']} labels decided by the tie-break (equal likes)"
    )
    if "fit" in report:
        print(
            "likes explained: log10(1 + likes) = {intercept:.3f} {followers:+.3f} log10(1 + followers) {tags:+.4f} "
            "for each tag; R^2 {r_squared:.3f}".format(**report["fit"])
        )
    _print_users(report["users"])
    if "auc" in report:
        _print_groups(report)


def _print_splits(splits: dict) -> None:
    """Print what is in each split."""
    print(f"{'split':10} {'selfies':>10} {'users':>10} {'good':>10} {'bad':>10}  good (95 % interval over users)")
    for name, count in splits.items():
        between = "{:.1%} to {:.1%}".format(*count["good_95"]) if count["rows"] else ""
        counts = (count["rows"], count["users"], count["good"], count["rows"] - count["good"])
        print(f"{name:10} {' '.join(f'{number:>10}' for number in counts)}  {between}".rstrip())


def _print_users(users: dict) -> None:
    """Print what knowing the user alone would tell."""
    if not users["known"]:
        print("users are not known: each selfie counts as its own user, and intervals may be too narrow")
    elif users["intraclass_correlation"] is not None:
        print(
            f"what the user's other selfies tell: {users['accuracy_by_others']:.1%} of the labels; "
            f"{users['accuracy_by_others_where_several']:.1%} of the {users['selfies_of_users_with_several']} selfies "
            f"that have others; intraclass correlation {users['intraclass_correlation']:.3f}"
        )


def _print_hidden(hidden: dict, kept: bool) -> None:
    """Print which likes repeat improbably."""
    if hidden["selfies"]:
        values = ", ".join(f"{value['likes']} ({value['selfies']} selfies)" for value in hidden["values"])
        fate = "kept all the same" if kept else "left out; --keep-hidden-likes keeps them"
        print(
            f"likes that repeat improbably, of {hidden['users']} users, as hidden ones are exported: {values}: {fate}"
        )


def _print_groups(report: dict) -> None:
    """Print AUCs against the label, how they scatter, and the spread of the groups' audiences."""
    print("\nAUC against the label (0.5: predicts nothing; over all selfies nearly 0.5 by construction)")
    for name, value in report["auc"].items():
        between = report["auc_95"].get(name)
        print(f"  {name:28} {value:.4f}{'   ({:.4f} to {:.4f})'.format(*between) if between else ''}")
    inside = report["auc_inside_groups"]
    if inside["deviation"] is not None:
        print(
            f"  single groups: {inside['lowest']:.2f} to {inside['highest']:.2f}, standard deviation "
            f"{inside['deviation']:.3f}; by chance {inside['deviation_by_chance']:.3f}, by chance with these users "
            f"{inside['deviation_by_chance_of_users']:.3f}"
        )
    _print_tags(report["tags"], report["settings"]["tag_bonus"])
    spread = report["spread"]
    print(f"largest / smallest audience of a group: median {spread['median']:.2f}, at most {spread['largest']:.2f}")
    if spread["wide_groups"]:
        print(
            f"{spread['wide_groups']} groups span more than a factor of {spread['wide_factor']}; the AUC of the "
            f"audience inside them is {spread['audience_auc_inside_wide_groups']:.3f}"
        )
    if spread["all_wide_above"] is not None:
        print(f"all groups above an audience of {spread['all_wide_above']:.0f} do: think of --max-followers")


def _print_tags(tags: dict | None, bonus: float) -> None:
    """Print it where more tags go with fewer likes, so that the bonus has the wrong sign."""
    if tags and bonus > 0 and tags["interval_95"][1] < 0:
        low, high = tags["interval_95"]
        print(
            f"more tags go with fewer likes here: {tags['per_tag']:+.1%} with each (95 % interval {low:+.1%} to "
            f"{high:+.1%}), so the bonus of {bonus:g} has the wrong sign; --tag-bonus 0 leaves it out"
        )


if __name__ == "__main__":
    cli.run(main)
