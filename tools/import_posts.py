#!/usr/bin/env python3
"""Turn posts as other programs save them into a manifest.

Reads what Instaloader, gallery-dl, Apify, Bright Data, Mastodon's API and img2dataset write. Looks at every file of a
folder, or at one file, and recognises by its content whose it is: .json and .json.xz beside pictures, tables (CSV,
JSON, Parquet, .xlsx), lists of statuses. The manifest has the columns id, path, user, followers, likes, tags and
posted_at. Pictures are named, not copied: paths start from the folder, which later commands take as --images. Those
of a table are found by the post's short code, its id, or the name in its address.

Hidden likes (-1, null) stay missing. Videos are left out, and of a carousel the first picture is taken. What was taken
for each field is told, as is all that is not used: how much of it, why, and an example.

Examples:
  python3 tools/import_posts.py my_instaloader --out data/manifest.csv
  python3 tools/import_posts.py dataset.json --images pictures --profiles profiles.csv --out data/manifest.csv
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import os
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli, names


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("posts", metavar="FOLDER_OR_FILE", help="what another program saved")
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest to write (.csv, .jsonl or .parquet)")
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the pictures, if they lie elsewhere (default: where the posts are)"
    )
    parser.add_argument(
        "--profiles", metavar="FILE", help="table of users and their followers, for posts that do not say"
    )
    parser.add_argument(
        "--decimal",
        choices=(".", ","),
        help="what stands before the decimals in a table's numbers: with ',' 12.000 is twelve thousand",
    )
    args = parser.parse_args(argv)
    cli.point_to_ethics()

    from selfie.data import manifest
    from selfie.data.posts.collect import collect

    if Path(args.out).suffix.lower() not in manifest.SUFFIXES:
        parser.error(f"--out must end in {', '.join(manifest.SUFFIXES)}")
    if os.path.realpath(args.out) in {os.path.realpath(each) for each in (args.posts, args.profiles) if each}:
        parser.error("--out is what is to be read: name another file")
    found = collect(args.posts, args.images, args.profiles, args.decimal, skip=[args.out])
    manifest.write(found.frame, args.out)
    programs = ", ".join(f"{count} of {name}" for name, count in found.sources.most_common())
    print(f"{found.frame.height} selfies in {names.shown(args.out)}: {programs}")
    for line in found.notes:
        print(f"  {line}")
    for tally, what in ((found.entries, "records"), (found.files, "files"), (found.pictures, "pictures")):
        if tally.total:
            print(f"{tally.total} {what} not used:")
            for line in tally.lines():
                print(f"  {line}")


if __name__ == "__main__":
    cli.run(main)
