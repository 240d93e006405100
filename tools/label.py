#!/usr/bin/env python3
"""Label selfies good or bad by their likes among selfies with the same audience, and split them by user.

Reads a manifest (a table with the columns id, path, user, followers, likes, tags, posted_at) and writes
labels: id,path,label,split,user,audience,group,likes, where label 1 is good and 0 is bad. Selfies are sorted by
audience = followers * (1 + TAG_BONUS * additional tags) and taken in groups of GROUP_SIZE; inside a group the half with
more likes is good. What each filter removed is printed and saved, with measurements of whether the groups are narrow
enough: how much larger the largest audience of a group is than its smallest, and the AUC of the audience inside groups.
(Over all selfies that AUC is nearly 0.5 by construction.) tools/selfie/data/labels.py says what the post of 2015
specifies and what had to be chosen.

Ages count up to --as-of; where it is not given, to the newest post of the manifest. The result depends neither on the
order of the rows nor on the number of processes; the seed decides ties and the split.

Examples:
  python3 tools/label.py --manifest data/manifest.parquet --images data/images --out data/labels.csv --as-of 2015-10-25
  python3 tools/label.py --manifest ucf.csv --rule median --out data/labels.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfie.common import cli

AUDIENCE_ONLY = {
    "as_of": "--as-of",
    "group_size": "--group-size",
    "tag_bonus": "--tag-bonus",
    "min_age_days": "--min-age-days",
    "min_followers": "--min-followers",
    "max_followers": "--max-followers",
    "max_tags": "--max-tags",
    "keep_hidden_likes": "--keep-hidden-likes",
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)
    given = {
        name: value for name, value in vars(args).items() if name in AUDIENCE_ONLY or name in ("rule", "split", "seed")
    }
    unused = [flag for name, flag in AUDIENCE_ONLY.items() if name in given]
    if given.get("rule") == "median" and unused:
        parser.error(f"{', '.join(unused)} cannot be used with --rule median")
    out = Path(args.out)
    report_path = Path(args.report) if args.report else out.with_suffix(".report.json")
    if out.suffix.lower() != ".csv":
        parser.error(f"--out {out}: labels are CSV, give a name that ends in .csv")
    if len({path.resolve() for path in (Path(args.manifest), out, report_path)}) < 3:
        parser.error("--manifest, --out and --report must be three different files")

    from selfie.common import paths
    from selfie.data import label_filters, labels, manifest, tables
    from selfie.data.label_settings import Settings

    if "as_of" in given:
        given["as_of"] = label_filters.parse_date(given["as_of"])
    settings = Settings(**given)
    settings.check()
    read = manifest.load(args.manifest, labels.READS, manifest.Reading(dict(args.map), args.decimal))
    table, report = labels.label(read.frame, settings, args.images, args.jobs, args.manifest, read.names, read.notes)
    tables.tell(args.manifest, read.notes)
    source = {"name": Path(args.manifest).name, "sha256": paths.sha256(args.manifest), "notes": read.notes}
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
    cli.add_jobs(parser, "worker processes that read files")

    # The defaults are those of Settings; an option that is not given stays out of the namespace.
    def option(flag: str, **options: Any) -> None:
        parser.add_argument(flag, default=argparse.SUPPRESS, **options)

    option(
        "--rule",
        choices=("audience", "median"),
        help="audience (default): likes within groups; median: halves of the column 'popularity'",
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
    option("--seed", type=cli.natural, metavar="S", help="random seed of ties and split (default: 0)")
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
    print(f"{'split':10} {'selfies':>10} {'good':>10} {'bad':>10} {'users':>10}")
    for name, count in report["splits"].items():
        print(
            f"{name:10} {count['rows']:>10} {count['good']:>10} {count['rows'] - count['good']:>10} "
            f"{count['users']:>10}"
        )
    print(
        f"{report['groups']} groups, {report['labels_decided_by_coin']} labels decided by the tie-break (equal likes)"
    )
    if "auc" in report:
        _print_groups(report)


def _print_hidden(hidden: dict, kept: bool) -> None:
    """Print which likes repeat improbably."""
    if hidden["selfies"]:
        values = ", ".join(f"{value['likes']} ({value['selfies']} selfies)" for value in hidden["values"])
        fate = "kept all the same" if kept else "left out; --keep-hidden-likes keeps them"
        print(
            f"likes that repeat improbably, of {hidden['users']} users, as hidden ones are exported: {values}: {fate}"
        )


def _print_groups(report: dict) -> None:
    """Print AUCs against the label and the spread of the groups' audiences."""
    print("\nAUC against the label (0.5: predicts nothing; over all selfies nearly 0.5 by construction)")
    for name, value in report["auc"].items():
        print(f"  {name:28} {value:.4f}")
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
