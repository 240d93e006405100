"""What the report on labels says: whether the audience still predicts them, and how wide the groups are."""

from __future__ import annotations

import polars as pl

from selfie.data.user_split import SPLITS

WIDE = 1.5  # a group is wide when its largest audience is this many times its smallest


# --- the report ------------------------------------------------------------------------------------------------------


def leaks(table: pl.DataFrame) -> dict[str, float]:
    """AUC of what must not predict the label; 0.5 is chance. Inside groups: the mean of the groups' AUCs."""
    everything = table.with_columns(group=pl.lit(0))
    return {
        "audience": group_auc(everything, "audience").item(),
        "followers": group_auc(everything, "followers").item(),
        "tags": group_auc(everything, "tags").item(),
        "audience inside groups": float(group_auc(table, "audience").mean()),
        "tags inside groups": float(group_auc(table, "tags").mean()),
    }


def group_auc(table: pl.DataFrame, column: str) -> pl.Series:
    """Per group, in order: the probability that a good selfie has the higher `column` than a bad one, ties counted half
    (Mann-Whitney U from mid-ranks; Hanley and McNeil 1982). Every group has both labels."""
    ranked = table.lazy().select("group", "label", rank=pl.col(column).rank("average").over("group"))
    good = pl.col("label").cast(pl.Float64)
    u = (pl.col("rank") * good).sum() - good.sum() * (good.sum() + 1) / 2
    groups = ranked.group_by("group").agg(auc=u / (good.sum() * (pl.len() - good.sum()))).sort("group")
    return groups.collect()["auc"]


def spread(table: pl.DataFrame) -> dict[str, float | int | None]:
    """How comparable the members of groups are: largest / smallest audience; and from where on no group is narrow."""
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
    """[{reason, removed, remaining}], the filters in their order."""
    steps = []
    for reason, count in removed.items():
        rows -= count
        steps.append({"reason": reason, "removed": count, "remaining": rows})
    return steps


def split_counts(table: pl.DataFrame) -> dict[str, dict[str, int]]:
    counts = table.group_by("split").agg(
        rows=pl.len(), good=pl.col("label").sum().cast(pl.Int64), users=pl.col("user").n_unique()
    )
    found = {row.pop("split"): row for row in counts.to_dicts()}
    return {name: found.get(name, {"rows": 0, "good": 0, "users": 0}) for name in SPLITS}


def reasons(removed: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in removed.items() if count)
