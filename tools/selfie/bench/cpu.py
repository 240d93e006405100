"""The benchmark on the CPU (`make bench`): its groups, each a function that returns rows of the table.

What is compared takes turns, round by round, so that a machine with other work to do slows all of them; a ratio is the
median of the rounds' ratios. Everything that is measured is kept in bench.json, row by row, so a group can be
measured again alone, and one that is cut off keeps the rows that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from selfie.bench.cluster import cluster
from selfie.bench.commands import faces, growth, labels, lmdb, start
from selfie.bench.nets import nets
from selfie.bench.record import describe_machine, record_groups
from selfie.bench.scoring import crops, scoring
from selfie.bench.workload import Setting

GROUPS = {
    function.__name__: function for function in (start, nets, lmdb, scoring, faces, labels, crops, growth, cluster)
}


def measure(folder: Path, names: Iterable[str], quick: bool, count: int | None = None, side: int | None = None) -> dict:
    """Measure groups into folder/bench.json, beside those that were measured before; its content.

    count, side   of the pictures of group cluster, as of Setting
    """
    setting = Setting(folder, quick, count, side)
    return record_groups(folder / "bench.json", GROUPS, names, setting, describe_machine)
