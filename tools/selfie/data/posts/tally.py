"""Counts of what is not used, each with its reason and one example."""

from __future__ import annotations

from collections import Counter

from selfie.common import names


class Tally:
    """Counts by reason, and the first example of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Count something for a reason; `example` is its name."""
        if count:
            self.counts[reason] += count
            self._examples.setdefault(reason, example)

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """Say each reason in a line, the most frequent first: '3 a video, such as a.json'."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [f"{count} {reason}, such as {names.shown(self._examples[reason])}" for reason, count in ordered]

    def example(self, reason: str) -> str:
        """Return the first that was counted for a reason."""
        return self._examples[reason]
