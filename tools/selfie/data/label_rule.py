"""What labels mean, in words: by which rule good and bad were told apart.

Whoever makes labels writes a report beside them, <labels>.report.json, that names the rule. A database keeps it, so a
run knows what its scores are the probability of.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError

PUBLISHED = "published extremes"  # the rule of the post's best and worst tiles
AUDIENCE = "audience"  # the default of tools/label.py, and of labels without a report


@dataclass(frozen=True)
class Meaning:
    """What *good* and *bad* are, to be read after "a picture is".

    good, bad       in full
    better, worse   the same in short, to be read after "rather than"
    scope           among which, or as told by whom
    extremes        most selfies are neither
    crowd           the labelled selfies, to be read after "it beats 60 of 100"
    """

    good: str
    bad: str
    better: str
    worse: str
    scope: str
    extremes: bool = False
    crowd: str = "selfies"

    def likelier(self, good: bool) -> str:
        """Say which of the two is likelier."""
        return f"More likely {self.good} than {self.worse}" if good else f"More likely {self.bad} than {self.better}"


_HALVES = ("in the better half by likes", "in the worse half by likes", "in the better", "in the worse")
_TENTHS = ("in the best tenth by likes", "in the worst tenth by likes", "in the best", "in the worst")
_MEASURED = ("in the better half by popularity", "in the worse half by popularity", *_HALVES[2:])
_PUBLISHED = (
    "among the best 100 of 50,000 selfies",
    "among the worst 300 of 50,000 selfies",
    "among the best 100",
    "among the worst 300",
)
MEANINGS = {
    AUDIENCE: Meaning(*_HALVES, "among posts with a similar audience"),
    "residual": Meaning(*_HALVES, "among posts with as many followers and tags"),
    "residual, deciles": Meaning(*_TENTHS, "among posts with as many followers and tags", True),
    "median": Meaning(*_MEASURED, "as its data measure it"),
    PUBLISHED: Meaning(*_PUBLISHED, "as the post’s own net ranked them", True, "selfies, most of them of the worst"),
}


def of(labels_csv: str | os.PathLike) -> str:
    """Read the rule of a file of labels from the report beside it, a key of MEANINGS; AUDIENCE where none is told."""
    report = Path(labels_csv).with_suffix(".report.json")
    if not report.is_file():
        return AUDIENCE
    try:
        told = paths.read_json(report)
    except SelfieError:  # it is of no use, and not what was asked for
        return AUDIENCE
    settings = told.get("settings")
    keep = settings.get("keep") if isinstance(settings, dict) else None
    rule = f"{told.get('rule')}, {keep}" if keep == "deciles" else str(told.get("rule"))
    return rule if rule in MEANINGS else AUDIENCE


def meaning(rule: object) -> Meaning:
    """Return what the labels of a rule mean; those of AUDIENCE for one that is not known."""
    return MEANINGS.get(str(rule), MEANINGS[AUDIENCE])
