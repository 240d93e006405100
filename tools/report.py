#!/usr/bin/env python3
"""Make one self-contained folder of HTML about a run: <run>/report/index.html.

It shows what the other commands left in the run folder - curves, evaluation, grids, findings, crops, map, filters - and
names the command for what is missing. It works from file:// and can be copied anywhere. `make report` runs all of those
commands first.
"""

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    args = parser.parse_args(argv)

    from selfie.experiments import report
    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    run.caffemodel  # noqa: B018 - an unfinished run should say so
    print(report.write(run))


if __name__ == "__main__":
    cli.run(main)
