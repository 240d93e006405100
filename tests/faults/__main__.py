"""Run a campaign of faults against the commands, and print a table of what came of them.

Commands are stopped at random moments and started again, run twice at once, on a full disk, where they may not write,
on a slow disk and with a clock that is set back; files are changed and read; servers misbehave. The oracle is what the
same command gives undisturbed, byte for byte. Nothing may be lost or wrong, hang, end in a traceback or without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Callable

from faults import clusters, jobs, mutants, places, servers, services, stops, waits
from faults.outcome import BAD, Outcome, append, table
from selfie.common import paths

SHORT = 6  # minutes
SHARES = {  # of the time, by group
    "stops": 5,
    "services": 2,
    "mutants": 3,
    "twice": 1.5,
    "disk": 1.5,
    "walls": 1.5,
    "slow": 1,
    "clock": 1.5,
    "cluster": 1.5,
    "servers": 0.3,
}


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
    os.environ["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    os.environ.pop("SELFIE_MIRROR", None)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, contextlib.suppress(KeyboardInterrupt):
        os.chmod(folder, 0o755)  # others than root read there
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
    """Yield outcomes without end, of all groups, each with its share of the time."""

    @cache
    def setting() -> jobs.Setting:
        return jobs.prepare(folder / "setting")

    @cache
    def undisturbed() -> stops.Undisturbed:
        return stops.Undisturbed(setting(), folder / "undisturbed")

    groups: dict[str, Callable[[int], Iterable[Outcome]]] = {
        "mutants": lambda turn: mutants.mutants(setting(), seed, range(40 * turn, 40 * turn + 40)),
        "stops": lambda turn: stops.stops(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "services": lambda turn: services.services(setting(), folder, seed, range(turn, turn + 1)),
        "twice": lambda turn: stops.twice(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "disk": lambda turn: places.full_disk(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "walls": lambda turn: places.walls(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "slow": lambda turn: waits.slow_reads(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "clock": lambda turn: waits.clock(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "cluster": lambda turn: clusters.clusters(setting(), folder, undisturbed(), seed, range(turn, turn + 1)),
        "servers": lambda turn: servers.downloads(folder, seed, range(turn, turn + 1)),
    }
    if unknown := sorted({*only} - {*groups}):
        raise SystemExit(f"error: no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
    return fairly({name: _turns(group) for name, group in groups.items() if not only or name in only})


def _turns(group: Callable[[int], Iterable[Outcome]]) -> Iterator[Outcome]:
    """Take turn after turn of a group, for as long as there are outcomes."""
    for turn in itertools.count():
        idle = True
        for one in group(turn):
            idle = False
            yield one
        if idle:
            return


def fairly(groups: dict[str, Iterator[Outcome]]) -> Iterator[Outcome]:
    """Take outcomes of all groups, next of the one that has used least of its share of the time.

    A group that can do nothing here is named on stderr, and left out.
    """
    used = dict.fromkeys(groups, 0.0)
    while used:
        name = min(used, key=lambda each: used[each])
        began = time.monotonic()
        one = next(groups[name], None)
        if one is None:
            print(f"{name}: left out, it cannot be done here", file=sys.stderr)
            del used[name]
            continue
        used[name] += (time.monotonic() - began) / SHARES[name]
        yield one


if __name__ == "__main__":
    sys.exit(main())
