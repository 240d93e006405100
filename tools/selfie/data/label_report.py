"""The report on labels: whether the audience still predicts them, how wide the groups are, what was removed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from selfie.common.clusters import Clusters
from selfie.common.splits import SPLITS
from selfie.data import label_users
from selfie.data.user_split import stable_hash

GROUPS = 2000  # that many show by how much chance makes AUCs scatter; fewer are drawn for several times
MOST_DRAWS = 20
HIDDEN = "hidden likes: one value, improbably often"
FLAGS = {  # how reasons begin, and the option that changes them
    "younger than": "set --as-of to when the likes were counted, or lower --min-age-days",
    "posted after": "set --as-of to when the likes were counted",
    "fewer than": "--min-followers changes it",
    "more than ": "--max-followers changes it",
    HIDDEN: "--keep-hidden-likes takes them as counts",
}
WIDE = 1.5  # a group is wide when its largest audience is this many times its smallest


def leaks(table: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Measure the AUC of what must not predict the label (0.5 is chance), and how far that can be told from luck.

    auc               over all selfies, and as the mean of the groups' AUCs. Over all selfies the audience's is nearly
                      0.5 by construction, as every group is balanced; inside groups it shows whether the groups are
                      narrow enough.
    auc_95            95 % intervals of two of them: users vary, not selfies (variance of Obuchowski 1997,
                      common/clusters)
    auc_inside_groups see `scatter`
    spread            of the groups' audiences, see `spread`
    """
    everything = table.with_columns(group=pl.lit(0))
    inside = {name: group_auc(table, name) for name in ("audience", "tags")}
    auc: dict[str, Any] = {name: overall_auc(table, name) for name in ("audience", "followers", "tags")}
    auc |= {f"{name} inside groups": aucs.mean() for name, aucs in inside.items()}
    clusters = Clusters(label_users.numbers(table))
    half_widths = {
        "tags": _half_width(everything, "tags", clusters),
        "audience inside groups": _half_width(table, "audience", clusters),
    }
    return {
        "auc": auc,
        "auc_95": {
            name: [max(0.0, auc[name] - half), min(1.0, auc[name] + half)] for name, half in half_widths.items()
        },
        "auc_inside_groups": scatter(table, "audience", inside["audience"], seed),
        "spread": spread(table, inside["audience"]),
    }


def group_auc(table: pl.DataFrame, column: str) -> pl.Series:
    """AUC of a column for each group, in order: U from mid-ranks, over the number of pairs (Hanley and McNeil 1982).

    Every group must have both labels. In polars, not scipy, as there are thousands of groups of millions of rows.
    """
    ranked = table.lazy().select("group", "label", rank=pl.col(column).rank("average").over("group"))
    good = pl.col("label").cast(pl.Float64)
    u = (pl.col("rank") * good).sum() - good.sum() * (good.sum() + 1) / 2
    groups = ranked.group_by("group").agg(auc=u / (good.sum() * (pl.len() - good.sum()))).sort("group")
    return groups.collect()["auc"].rechunk()  # sums of floats depend on the order: of pieces, too


def overall_auc(table: pl.DataFrame, column: str) -> float:
    """AUC of a column over all rows, as of group_auc; by counting each of its values, of which there are fewer."""
    counts = table.group_by(column).agg(all=pl.len(), good=pl.col("label").sum()).sort(column)
    every, good = (counts[name].to_numpy().astype(float) for name in ("all", "good"))
    ranks = np.cumsum(every) - every / 2 + 0.5
    u = (ranks * good).sum() - good.sum() * (good.sum() + 1) / 2
    return float(u / (good.sum() * (every.sum() - good.sum())))


def _half_width(table: pl.DataFrame, column: str, clusters: Clusters) -> float:
    """Half the width of the 95 % interval of the mean of a column's AUCs in groups, each half good and half bad."""
    ranks = table.lazy().select(
        "group",
        "label",
        size=pl.len().over("group"),
        all=pl.col(column).rank("average").over("group"),
        own=pl.col(column).rank("average").over("group", "label"),
    )
    exceeded = 2 * (pl.col("all") - pl.col("own")) / pl.col("size")  # share of the group's other half
    placement = pl.when(pl.col("label") == 1).then(exceeded).otherwise(1 - exceeded)
    placed = ranks.select("group", "size", placement=placement).collect()
    size, values = placed["size"].to_numpy(), placed["placement"].to_numpy()
    groups = np.unique(placed["group"].to_numpy(), return_inverse=True)[1]
    # Not by polars, whose threads sum floats in an order of their own: the last digits would change from run to run.
    means = np.bincount(groups, values) / np.bincount(groups)
    influence = (values - means[groups]) * 2 / size / len(means)
    return clusters.quantile * math.sqrt(clusters.variance(influence))


def scatter(table: pl.DataFrame, column: str, aucs: pl.Series, seed: int = 0) -> dict[str, Any]:
    """How the groups' AUCs of a column scatter, beside what chance alone would give; `aucs`: its group_auc.

    groups, mean, deviation, lowest, highest   of the AUCs; the mean hides groups that lean to different sides
    deviation_by_chance                        of a number drawn for each selfie (Mann and Whitney 1947, with ties)
    deviation_by_chance_of_users               of a number drawn for each user
    Deviations by chance are from 0.5; of very many groups, some tell.
    """
    some = table.filter(pl.col("group") % -(-len(aucs) // GROUPS) == 0)
    groups = some.lazy().group_by("group", column).agg(ties=pl.len().cast(pl.Float64)).group_by("group")
    size = pl.col("ties").sum()
    tied = (pl.col("ties") ** 3 - pl.col("ties")).sum() / (size * (size - 1))
    variance = groups.agg(variance=(size + 1 - tied) / (3 * size**2)).sort("group").collect()["variance"]
    by_users = [((group_auc(some.with_columns(drawn), "drawn") - 0.5) ** 2).mean() for drawn in _drawn(some, seed)]
    return {
        "groups": len(aucs),
        "mean": aucs.mean(),
        "deviation": aucs.std() if len(aucs) > 1 else None,
        "lowest": aucs.min(),
        "highest": aucs.max(),
        "deviation_by_chance": math.sqrt(variance.to_numpy().mean()),
        "deviation_by_chance_of_users": math.sqrt(np.mean(by_users)),
    }


def _drawn(table: pl.DataFrame, seed: int) -> Iterator[pl.Series]:
    """Draw a number for each user, as a column of the table; some times, so that few groups' spread is known well, too.

    What such numbers tell of the label is chance alone, for they are the user's as the audience is.
    """
    for draw in range(max(1, min(MOST_DRAWS, GROUPS // table["group"].n_unique()))):
        yield stable_hash(table["user"], seed, f"chance {draw}").alias("drawn")


def spread(table: pl.DataFrame, aucs: pl.Series) -> dict[str, Any]:
    """Largest over smallest audience of the groups, and the audience above which every group is wide.

    aucs: of the audience, as of group_auc.

    median, largest   of the groups' factors;   wide_groups   number of groups whose factor exceeds wide_factor
    audience_auc_inside_wide_groups   mean AUC of the audience inside them; None if there are none
    all_wide_above    smallest audience above the last narrow group; None if the topmost group is narrow
    """
    groups = table.group_by("group").agg(low=pl.col("audience").min(), high=pl.col("audience").max()).sort("group")
    groups = groups.with_columns(factor=pl.col("high") / pl.col("low").clip(1), auc=aucs)
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


def split_counts(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Count {split: {rows, good, users, good_95}} for all splits, also the empty ones.

    good_95: the 95 % interval of the share of good selfies that as many users would give again; None without rows.
    """
    empty = {"rows": 0, "good": 0, "users": 0, "good_95": None}
    counts: dict[str, dict[str, Any]] = {name: empty for name in SPLITS}
    for (name,), part in table.select(pl.col("^(split|label|user|person)$")).group_by("split"):
        clusters = Clusters(label_users.numbers(part))
        counts[str(name)] = {
            "rows": part.height,
            "good": int(part["label"].sum()),
            "users": len(clusters),
            "good_95": list(clusters.proportion(part["label"].to_numpy() == 1)),
        }
    return counts


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
