#!/usr/bin/env python3
"""Make one self-contained folder of HTML about a run: <run>/report/index.html.

It shows what the other commands left in the run folder - curves, evaluation, grids, findings, crops, map, filters,
comparison - and names the command for what is missing. It works from file:// and can be copied anywhere. `make report`
runs those commands first, but for training and the comparison (`make train`, `make compare`).
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    args = parser.parse_args(argv)

    from selfie.experiments import report
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    run.caffemodel  # noqa: B018 - an unfinished run should say so
    print(report.write(run))


if __name__ == "__main__":
    cli.run(main)
