#!/usr/bin/env python3
"""Print the tables of docs/scale.md: the post's experiment and a hundredfold of it, from rates that were measured.

Rates are those of docs/benchmarks.md; a stage's work is spread over cores as if they were one machine's. A test holds
the note against what this prints.
"""

from __future__ import annotations

from typing import NamedTuple

PICTURES, SELFIES, TIMES = 5_000_000, 2_000_000, 100  # the post began with, and kept; the larger experiment
CORE_HOUR, GPU_HOUR, GB_MONTH = 0.04, 2.50, 0.02  # dollars, assumed


class Stage(NamedTuple):
    """A stage of the experiment; rate: of one core (or GPU), in items a second, and where it is from."""

    name: str
    rate: float
    source: str
    items: int
    gpu: bool = False


BARE_VGG16, BARE_SQUEEZENET = 1 / 0.0526, 1 / 0.00633  # forward, two cores, 28 November, 0a1869c
READING = 1 / (1 / 119 - 1 / 140)  # pictures a second of two cores, by two rows of 26 November
OF_BEST = 0.97  # which scoring reached on 26 November, with both nets
STAGES = (
    Stage("faces, MTCNN, 1080 px", 1 / 0.017, "28 Nov., processor time", PICTURES),
    Stage("the same, LBP", 1 / 0.0239, "28 Nov., processor time", PICTURES),
    Stage("LMDB, 1080 px", 532 / 2, "26 Nov.", SELFIES),
    Stage("training VGG16, one epoch, CPU", 1 / 0.206 / 2, "28 Nov., the net", SELFIES),
    Stage("the same, one K40", 16, "published", SELFIES, gpu=True),
    Stage("scoring or fc7, VGG16", OF_BEST * BARE_VGG16 / 2, "28 Nov., the net", SELFIES),
    Stage("scoring or fc7, SqueezeNet", OF_BEST / (1 / BARE_SQUEEZENET + 1 / READING) / 2, "28 Nov., the net", SELFIES),
)
BYTES = (  # what, bytes of each, how many, whether a month of it is to be paid
    ("pictures, JPEG of 1080 px (assumed)", 200_000, PICTURES, True),
    ("LMDB, JPEG of 256 px", 30_000, SELFIES, False),
    ("LMDB, raw", 3 * 256 * 256, SELFIES, False),
    ("shards of the database, until it is made", 30_000, SELFIES, False),
    ("fc7, 4,096 float32", 4 * 4096, SELFIES, False),
)


def stages() -> list[str]:
    """Lines of the table of stages."""
    lines = ["| stage | rate | measured | of | the post | a hundredfold |", "|---|---|---|---|---|---|"]
    for stage in STAGES:
        unit = "/s" if stage.gpu else "/s and core"
        of = f"{millions(stage.items)} {'pictures' if stage.items == PICTURES else 'selfies'}"
        costs = " | ".join(_hours(times * stage.items / stage.rate / 3600, stage.gpu) for times in (1, TIMES))
        lines.append(f"| {stage.name} | {digits(stage.rate)} {unit} | {stage.source} | {of} | {costs} |")
    return lines


def sizes() -> list[str]:
    """Lines of the table of bytes."""
    lines = ["| bytes | each | the post | a hundredfold |", "|---|---|---|---|"]
    for what, each, count, paid in BYTES:
        totals = " | ".join(
            _size(total) + (f", ${digits(total / 1e9 * GB_MONTH)} a month" if paid else "")
            for total in (each * count, each * count * TIMES)
        )
        lines.append(f"| {what} | {each / 1000:.0f} kB | {totals} |")
    return lines


def _hours(hours: float, gpu: bool) -> str:
    dollars = hours * (GPU_HOUR if gpu else CORE_HOUR)
    price = digits(dollars) if dollars >= 1 else f"{dollars:.2f}"
    return f"{digits(hours)} {'GPU' if gpu else 'core'} h, ${price}"


def _size(total: float) -> str:
    return f"{digits(total / 1e12)} TB" if total >= 1e11 else f"{digits(total / 1e9)} GB"


def millions(count: int) -> str:
    """Write millions."""
    return f"{count / 1e6:g} M"


def digits(value: float) -> str:
    """Write a number with two digits."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 or rounded == int(rounded) else f"{rounded:g}"


if __name__ == "__main__":
    print(*stages(), "", *sizes(), sep="\n")
