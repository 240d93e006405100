#!/usr/bin/env python3
"""Regenerate the files of prototxt/.

They are checked in, and a test compares them byte for byte with what this generator writes. --check writes nothing and
exits with 1 if a file differs.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args(argv)

    from selfie.common import paths
    from selfie.net import generate

    differing = 0
    for name, text in generate.generate().items():
        path = paths.PROTOTXT / name
        if path.exists() and path.read_text() == text:
            continue
        differing += 1
        print(("differs: " if args.check else "wrote ") + paths.shown(path))
        if not args.check:
            with paths.atomic_write(path) as file:
                file.write(text)
    return 1 if args.check and differing else 0


if __name__ == "__main__":
    cli.run(main)
