"""Results of a benchmark: rows with ratios and bounds, kept as JSON row by row, shown as a table."""

from __future__ import annotations

import logging
import os
import platform
import random
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Protocol, TypeVar

from selfie.common import parallel, paths
from selfie.net import pycaffe

LESS_IS_BETTER = ("s", "MB", "relative", "errors")  # units

log = logging.getLogger(__name__)


class HasQuick(Protocol):
    """Settings of a benchmark, as far as all have them: whether it is the short one."""

    @property
    def quick(self) -> bool: ...


S = TypeVar("S", bound=HasQuick)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    ours, peer   values in `unit`
    ratio        times that ours is better (time: peer / ours, images/s: ours / peer)
    wanted       the bound that was set: of the ratio, or of `ours` where there is no peer
    detail       what the values were made of
    """

    group: str
    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    wanted: float | None = None
    detail: dict = field(default_factory=dict)

    @property
    def fine(self) -> bool | None:
        """Tell whether the bound is kept; None without one.

        Times, memory and differences are to be below it, all else above.
        """
        if self.wanted is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        less_is_better = self.ratio is None and self.unit in LESS_IS_BETTER
        return value <= self.wanted if less_is_better else value >= self.wanted


def in_turns(rounds: int, contenders: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Call each contender once per round, with the round's number; they take turns, each round in another order.

    Returns name -> what it returned (seconds or images/s), round by round.
    """
    values: dict[str, list[float]] = {name: [] for name in contenders}
    orders = random.Random(2015)
    for number in range(rounds):
        for name in orders.sample([*contenders], len(contenders)):
            values[name].append(contenders[name](number))
    return values


def median_ratio(first: list[float], second: list[float]) -> float:
    """Return the median of the rounds' ratios, first / second."""
    return statistics.median(a / b for a, b in zip(first, second))


def record_groups(
    file: Path,
    groups: Mapping[str, Callable[[S], Iterable[Row]]],
    names: Iterable[str],
    setting: S,
    machine: Callable[[], dict],
) -> dict:
    """Measure those of `groups` called `names` into a JSON file, beside those that were measured before.

    The file is written after each row, so a group that is cut off, by an error too, leaves what was measured. Rows of
    an earlier run stay until they are measured again, or the group is finished; "unfinished" says that it is not. A
    group that has no rows leaves what is there. Returns the file's content.
    """
    report = paths.read_json(file) if file.exists() else {"groups": {}}
    for name in names:
        log.info("measuring %s", name)
        before = report["groups"].get(name, {}).get("rows", [])
        rows: list[dict] = []
        for row in groups[name](setting):
            rows.append({**asdict(row), "fine": row.fine, "quick": setting.quick, "measured": _now()})
            again = {_line(row) for row in rows}
            kept = rows + [row for row in before if _line(row) not in again]
            report["groups"][name] = {**_group(setting, kept), "unfinished": True}
            if len(rows) == 1:
                report["machine"] = {**report.get("machine", {}), **machine()}
            paths.write_json(file, report)
        if rows:  # otherwise it has said why
            report["groups"][name] = _group(setting, rows)
            paths.write_json(file, report)
    return report


def _line(row: dict) -> tuple[str, str]:
    """What tells a row from others of its group."""
    return row["what"], row["peer_name"]


def _group(setting: HasQuick, rows: list[dict]) -> dict:
    return {"quick": setting.quick, "rows": rows, "measured": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="minutes")


def describe_machine() -> dict:
    """List what the numbers depend on."""
    return {
        "cpu": _cpu_model() or platform.machine(),
        "cores": parallel.cores(),
        "system": platform.platform(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "blas_kernel": pycaffe.caffe().blas_kernel(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    """Return the CPU's name; "" where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def table(report: dict, groups: Iterable[str]) -> list[str]:
    """Write the report as lines of Markdown, in the order of `groups`."""
    lines = ["| what | ours | peer | ratio | wanted |", "|---|---|---|---|---|"]
    for name in (name for name in groups if name in report["groups"]):
        for row in report["groups"][name]["rows"]:
            peer = "" if row["peer"] is None else f"{_number(row['peer'])} ({row['peer_name']})"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            wanted = "" if row["wanted"] is None else f"{row['wanted']:g}{'' if row['fine'] else ' **missed**'}"
            lines.append(f"| {row['what']} | {_number(row['ours'])} {row['unit']} | {peer} | {ratio} | {wanted} |")
    return lines


def _number(value: float) -> str:
    """Write a number with about three digits."""
    if 0 < value < 0.01:
        return f"{value:.0e}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
