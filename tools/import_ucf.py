#!/usr/bin/env python3
"""Turn the UCF Selfie data set's selfie_dataset.txt into a manifest.

The manifest has the columns id, path, popularity and 36 attributes in -1, 0, 1. It has no likes, followers, tags or
dates: label it with `python3 tools/label.py --rule median`. Paths are relative to the data set's folder of images.
The data set is for research only and is not part of this project.

Example: python3 tools/import_ucf.py Selfie-dataset/selfie_dataset.txt --out data/ucf.csv
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("table", metavar="TXT", help="selfie_dataset.txt")
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest to write (.csv, .jsonl or .parquet)")
    args = parser.parse_args(argv)

    from selfie.data import importers, manifest

    table = importers.from_ucf(args.table)
    manifest.write(table, args.out)
    print(f"{table.height} selfies in {args.out}")


if __name__ == "__main__":
    cli.run(main)
