"""Run a campaign of faults against the commands, and print a table of what came of them.

Commands are stopped at random moments and started again, run twice at once and on a full disk; files are changed and
read; servers misbehave. The oracle is what the same command gives undisturbed, byte for byte. Nothing may be lost or
wrong, hang, end in a traceback or without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from faults import clusters, jobs, mutants, servers, stops
from faults.outcome import BAD, Outcome, append, table

SHORT, LONG = 6, 120  # minutes


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=SHORT, help="time to take (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--only", default="", help="groups to run, such as stops,mutants")
    parser.add_argument("--log", type=Path, default=Path("faults.jsonl"), help="every outcome (default: %(default)s)")
    args = parser.parse_args()
    args.log.unlink(missing_ok=True)
    os.environ["TQDM_DISABLE"] = "1"  # no bars of downloads between the lines
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, contextlib.suppress(KeyboardInterrupt):
        for one in campaign(Path(folder), args.seed, args.only.split(",") if args.only else []):
            outcomes.append(one)
            append(args.log, one)
            if one.verdict in BAD:
                print(f"{one.verdict}: {one.group}, {one.case}, number {one.number}: {one.details}", flush=True)
            if time.monotonic() > deadline:
                break
    print(table(outcomes))
    return 1 if any(one.verdict in BAD for one in outcomes) else 0


def campaign(folder: Path, seed: int, only: list[str]) -> Iterator[Outcome]:
    """Yield outcomes without end, all groups in turn, a few of each."""

    @cache
    def setting() -> jobs.Setting:
        return jobs.prepare(folder / "setting")

    @cache
    def undisturbed() -> stops.Undisturbed:
        return stops.Undisturbed(setting(), folder / "undisturbed")

    groups = {
        "mutants": lambda turn: mutants.mutants(setting(), seed, range(100 * turn, 100 * turn + 100)),
        "stops": lambda turn: stops.stops(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "twice": lambda turn: stops.twice(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "disk": lambda turn: stops.full_disk(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "cluster": lambda turn: clusters.clusters(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "servers": lambda turn: servers.downloads(folder, seed, range(turn, turn + 1)),
    }
    if unknown := sorted({*only} - {*groups}):
        raise SystemExit(f"error: no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
    for turn in itertools.count():
        for name, group in groups.items():
            if not only or name in only:
                yield from group(turn)


if __name__ == "__main__":
    sys.exit(main())
