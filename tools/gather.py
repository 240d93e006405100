#!/usr/bin/env python3
"""Gather posts with a tag, their likes and their pictures, from a server with Mastodon's API, or from Bluesky.

Two stages, each of which goes on where it stopped: `note` walks through the posts with the tag and notes those that may
be gathered; `revisit` reads each again when it is 30 days old (--age-days), counts its likes and followers of that
moment, and fetches its picture. Run the command every day or so. In the folder --out it writes manifest.csv and
images/, which tools/filter_faces.py and tools/label.py read, and keeps ledger.sqlite and author.key: never publish
those.

A server is asked only after you have read its terms and say so by its name (--terms-read). Posts are left out, and
counted, that are not public, marked sensitive or boosts, and those of accounts that are bots, locked, limited, in
memory of somebody, or say noindex, not indexable, #nobot or #noai. robots.txt and X-Robots-Tag are honoured. What is
gone or was edited at the revisit is deleted here. No text and no names are stored; authors are known by a keyed hash.

Examples:
  python3 tools/gather.py --server pixelfed.example --tag selfie --terms-read pixelfed.example --contact me@example.org
  python3 tools/gather.py --forget someone@pixelfed.example
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli
from selfie.common.errors import SelfieError

STAGES = ("both", "note", "revisit")
NEEDED = {"server": "which server", "tag": "which tag", "contact": "how can its owner reach you"}


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(argv)

    from selfie.gather import gather

    cli.point_to_ethics()
    if args.forget:
        number, rows = gather.forget(args.out, args.forget)
        print(
            f"{number} posts forgotten, {rows} selfies in {args.out / 'manifest.csv'}; labels, databases and runs that"
        )
        print("were made with them still hold them: make those anew")
        return
    for name, what in NEEDED.items():
        if not getattr(args, name):
            raise SelfieError(f"{what}: name it with --{name}")
    order = gather.Order(
        server=args.server,
        tag=args.tag,
        contact=args.contact,
        terms_read=tuple(args.terms_read),
        age_days=args.age_days,
        limit=args.limit,
        per_second=args.rate,
        jobs=args.jobs or 4,
        allow_networks=tuple(args.allow_network),
        token_file=args.token_file,
        network=args.network,
    )
    if args.dry_run:
        print_counts("posts looked at", gather.dry_run(order))
        return
    done = gather.run(order, args.out, args.stage)
    for stage, counts in done.counts.items():
        print_counts(stage, counts)
    print(f"\n{done.rows} selfies in {args.out / 'manifest.csv'}, {done.waiting} posts wait for their revisit")
    if done.rows:
        flags = f"--as-of {done.observed} --min-age-days 0"  # each was counted at its own age
        print(
            f"then: make label MANIFEST={args.out / 'manifest.csv'} IMAGES={args.out / 'images'} LABEL_FLAGS='{flags}'"
        )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--server", metavar="HOST", help="the server to ask, by its name or https:// address")
    parser.add_argument(
        "--network", choices=("mastodon", "bluesky"), default="mastodon", help="what it speaks (default: %(default)s)"
    )
    parser.add_argument("--tag", metavar="TAG", help="the tag of the posts")
    parser.add_argument(
        "--terms-read",
        action="append",
        default=[],
        metavar="HOST",
        help="you have read this server's terms; they allow it",
    )
    parser.add_argument("--contact", metavar="WHO", help="mail or page of yours, told to every server that is asked")
    parser.add_argument(
        "--out", type=Path, default=Path("data/gathered"), metavar="DIR", help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--stage", choices=STAGES, default="both", help="what to do (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="only look and count; nothing is written")
    parser.add_argument("--forget", metavar="WHO", help="delete all of user@host (or did:...), or of a post by its uri")
    parser.add_argument(
        "--age-days",
        type=cli.natural,
        default=30,
        metavar="D",
        help="age at the revisit in days (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=cli.positive,
        default=100_000,
        metavar="N",
        help="posts to look at in a run (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=1.0,
        metavar="R",
        help="requests a second to one host; 0: no limit but the host's own (default: %(default)s)",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="access token of yours, where the server needs one"
    )
    parser.add_argument(
        "--allow-network",
        type=cli.network,
        action="append",
        default=[],
        metavar="NET",
        help="addresses that may be asked although they are not public, like 127.0.0.1/32: for a server of your own",
    )
    cli.add_jobs(parser, "hosts asked for pictures at a time", "4")
    return parser


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of requests a second")
    return rate


def print_counts(title: str, counts: dict[str, int]) -> None:
    """Print a table of reasons and numbers."""
    print(f"\n{title:42} {sum(counts.values()):>10}")
    for reason, number in counts.items():
        print(f"  {reason:40} {number:>10}")


if __name__ == "__main__":
    cli.run(main)
