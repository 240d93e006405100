"""The choices of the label rule, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from selfie.common.errors import SelfieError

RULES = ("audience", "residual", "median")
KEEP = ("halves", "deciles")
MOST_BONUS = 1000  # audiences that a tag is worth


@dataclass(frozen=True)
class Settings:
    """Every choice of the rule; the docstring of selfie.data.labels says what each means and why its default is so."""

    rule: str = "audience"  # one of RULES
    keep: str = "halves"  # rule residual: label all, or (one of KEEP) only the best and the worst decile
    as_of: datetime | None = None  # None: the newest post of the table
    group_size: int = 100
    tag_bonus: float = 0.02
    min_age_days: float = 30
    min_followers: int = 50
    max_followers: int = 50_000
    max_tags: int = 20
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)  # shares of users in train, val, test
    seed: int = 0
    keep_hidden_likes: bool = False  # True: likes that repeat improbably are taken as counts

    def check(self) -> None:
        """Raise SelfieError for a value out of range."""
        problems = {
            f"--rule is '{self.rule}': it is audience, residual or median": self.rule not in RULES,
            f"--keep is '{self.keep}': it is halves or deciles": self.keep not in KEEP,
            f"--keep {self.keep} goes with --rule residual only": self.keep != "halves" and self.rule != "residual",
            f"--group-size is {self.group_size}: it must be even and at least 2": self.group_size < 2
            or self.group_size % 2,
            f"--tag-bonus is {self.tag_bonus}: it must be in 0 ... {MOST_BONUS}": not 0 <= self.tag_bonus <= MOST_BONUS,
            f"--min-age-days is {self.min_age_days}: it must be in 0 ... 36500": not 0 <= self.min_age_days <= 36500,
            f"--min-followers {self.min_followers} and --max-followers {self.max_followers} leave nobody": not 0
            <= self.min_followers
            <= self.max_followers,
            f"--max-tags is {self.max_tags}: it must not be negative": self.max_tags < 0,
            f"--split is {','.join(f'{share:g}' for share in self.split)}: it must be three shares, train, val and "
            "test, none negative, that sum to 1": not (
                len(self.split) == 3 and all(s >= 0 for s in self.split) and abs(sum(self.split) - 1) < 1e-6
            ),
        }
        for message, wrong in problems.items():
            if wrong:
                raise SelfieError(message)


DEFAULTS = Settings()
