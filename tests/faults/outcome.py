"""What came of one fault, and the table of all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

SAME = "as undisturbed"  # after the fault the same command, or the one that the error names, ends with the same bytes
ONE_LINE = "one line"  # refused, and said why
USED = "used"  # a mutant that is still what it should be
LOST = "lost or wrong"
HANG = "hang"
TRACEBACK = "traceback"
UNNAMED = "unnamed end"
GOOD, BAD = (SAME, ONE_LINE, USED), (LOST, HANG, TRACEBACK, UNNAMED)


@dataclass(frozen=True)
class Outcome:
    """One fault: its group and case, its number (with the seed it can be made again), verdict, and details."""

    group: str
    case: str
    number: int
    verdict: str
    details: str = ""


def table(outcomes: list[Outcome]) -> str:
    """Lay the outcomes out as a table in Markdown: a row for each group and case."""
    counts: dict[tuple[str, str], Counter] = {}
    for one in outcomes:
        counts.setdefault((one.group, one.case), Counter())[one.verdict] += 1
    lines = ["| fault | on | times | " + " | ".join((*GOOD, *BAD)) + " |", "|---" * (3 + len(GOOD) + len(BAD)) + "|"]
    for (group, case), verdicts in sorted(counts.items()):
        numbers = [str(verdicts[name] or "") for name in (*GOOD, *BAD)]
        lines.append(f"| {group} | {case} | {sum(verdicts.values())} | " + " | ".join(numbers) + " |")
    total = Counter(one.verdict for one in outcomes)
    lines.append(f"| all | | {len(outcomes)} | " + " | ".join(str(total[name]) for name in (*GOOD, *BAD)) + " |")
    return "\n".join(lines)


def append(path: Path, one: Outcome) -> None:
    """Keep an outcome, also of a campaign that is stopped."""
    with open(path, "a") as file:
        file.write(json.dumps(asdict(one)) + "\n")


def of_stderr(text: str, code: int) -> tuple[str, str] | None:
    """Judge the end of a command by its exit code and stderr: (verdict, details) if it failed, None if it did not."""
    if code == 0:
        return None
    if "Traceback (most recent call last)" in text:
        return TRACEBACK, text[-1500:]
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code in (1, 130) and len(errors) >= 1:
        return ONE_LINE, errors[-1]
    return UNNAMED, f"exit code {code}: {text[-500:]}"
