"""The report on labels: whether the audience still predicts them, how wide the groups are, what was removed."""

from __future__ import annotations

from typing import Any

import polars as pl

from selfie.common.splits import SPLITS

HIDDEN = "hidden likes: one value, improbably often"
FLAGS = {  # how reasons begin, and the option that changes them
    "younger than": "set --as-of to when the likes were counted, or lower --min-age-days",
    "posted after": "set --as-of to when the likes were counted",
    "fewer than": "--min-followers changes it",
    "more than ": "--max-followers changes it",
    HIDDEN: "--keep-hidden-likes takes them as counts",
}
WIDE = 1.5  # a group is wide when its largest audience is this many times its smallest


def leaks(table: pl.DataFrame) -> dict[str, Any]:
    """AUC of what must not predict the label (0.5 is chance), over all selfies and as the mean of the groups' AUCs.

    Over all selfies the audience's AUC is nearly 0.5 by construction, as every group is balanced; inside groups it
    shows whether the groups are narrow enough.
    """
    everything = table.with_columns(group=pl.lit(0))
    return {
        "audience": group_auc(everything, "audience").item(),
        "followers": group_auc(everything, "followers").item(),
        "tags": group_auc(everything, "tags").item(),
        "audience inside groups": group_auc(table, "audience").mean(),
        "tags inside groups": group_auc(table, "tags").mean(),
    }


def group_auc(table: pl.DataFrame, column: str) -> pl.Series:
    """AUC of a column for each group, in order: U from mid-ranks, over the number of pairs (Hanley and McNeil 1982).

    Every group must have both labels. In polars, not scipy, as there are thousands of groups of millions of rows.
    """
    ranked = table.lazy().select("group", "label", rank=pl.col(column).rank("average").over("group"))
    good = pl.col("label").cast(pl.Float64)
    u = (pl.col("rank") * good).sum() - good.sum() * (good.sum() + 1) / 2
    groups = ranked.group_by("group").agg(auc=u / (good.sum() * (pl.len() - good.sum()))).sort("group")
    return groups.collect()["auc"]


def spread(table: pl.DataFrame) -> dict[str, Any]:
    """Largest over smallest audience of the groups, and the audience above which every group is wide.

    median, largest   of the groups' factors;   wide_groups   number of groups whose factor exceeds wide_factor
    audience_auc_inside_wide_groups   mean AUC of the audience inside them; None if there are none
    all_wide_above    smallest audience above the last narrow group; None if the topmost group is narrow
    """
    groups = table.group_by("group").agg(low=pl.col("audience").min(), high=pl.col("audience").max()).sort("group")
    groups = groups.with_columns(factor=pl.col("high") / pl.col("low").clip(1), auc=group_auc(table, "audience"))
    wide = groups.filter(pl.col("factor") > WIDE)
    narrow = groups.filter(pl.col("factor") <= WIDE)["group"].max()
    top = groups.filter(pl.col("group") > (-1 if narrow is None else narrow))
    return {
        "median": groups["factor"].median(),
        "largest": groups["factor"].max(),
        "wide_factor": WIDE,
        "wide_groups": wide.height,
        "audience_auc_inside_wide_groups": wide["auc"].mean(),
        "all_wide_above": top["low"].min(),
    }


def running(rows: int, removed: dict[str, int]) -> list[dict]:
    """List {reason, removed, remaining} of each filter in order, with the running remainder."""
    steps = []
    for reason, count in removed.items():
        rows -= count
        steps.append({"reason": reason, "removed": count, "remaining": rows})
    return steps


def split_counts(table: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count {split: {rows, good, users}} for all splits, also the empty ones."""
    counts = table.group_by("split").agg(
        rows=pl.len(), good=pl.col("label").sum().cast(pl.Int64), users=pl.col("user").n_unique()
    )
    by_split = {row.pop("split"): row for row in counts.to_dicts()}
    return {name: by_split.get(name, {"rows": 0, "good": 0, "users": 0}) for name in SPLITS}


def hints(rows: int, removed: dict[str, int]) -> list[str]:
    """For each filter that removed at least half of all rows, the option that changes it."""
    found = []
    for reason, count in removed.items():
        if 2 * count >= rows and count:
            flag = next((flag for start, flag in FLAGS.items() if reason.startswith(start)), None)
            if reason.endswith(" tags"):
                flag = "--max-tags changes it"
            if flag:
                found.append(f"{count} of {rows} are removed as '{reason}': {flag}")
    return found


def reasons(removed: dict[str, int]) -> str:
    """The filters that removed something, with their counts, for a message."""
    return ", ".join(f"{reason}: {count}" for reason, count in removed.items() if count)
