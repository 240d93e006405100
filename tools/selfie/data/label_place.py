"""The place of a selfie among those that its label compares it with: from 0, the worst, to 1, the best.

Labels cut at the middle; the place tells by how much a selfie missed the other label. It makes results with halves and
with deciles comparable: `evaluate` gives the accuracy for the outer thirds and deciles of it as well.
"""

from __future__ import annotations

import polars as pl

from selfie.data.user_split import stable_hash

MARGINS = {"all": 1 / 2, "outer thirds": 1 / 3, "outer deciles": 1 / 10}  # name -> share at each end


def places(labels: pl.DataFrame) -> pl.Series:
    """Place of each selfie in its group by likes, (rank - 1/2) / size of the group: N Float64 in (0, 1).

    labels: columns id, label, group, likes. Of equal likes the good ones stand above the bad ones, and else a hash of
    the id decides. Null in a group whose labels do not follow from its likes: all are equal or missing, or a bad selfie
    has more than a good one.
    """
    table = labels.lazy().select(
        "group", "label", "likes", coin=stable_hash(labels["id"], 0, "place"), row=pl.int_range(pl.len())
    )
    good, bad = (pl.col("likes").filter(pl.col("label") == label) for label in (1, 0))
    varies = (pl.col("likes").min() < pl.col("likes").max()) & (pl.col("likes").null_count() == 0)
    follows = table.group_by("group").agg(follows=varies & (bad.max() <= good.min()))
    ranked = table.sort("group", "likes", "label", "coin").with_columns(
        place=(pl.int_range(pl.len()).over("group") + 0.5) / pl.len().over("group")
    )
    ranked = ranked.join(follows, on="group", how="left").sort("row")
    return ranked.select(pl.when(pl.col("follows")).then(pl.col("place")).alias("place")).collect()["place"]


def of_labels(labels: pl.DataFrame) -> pl.Series:
    """Place of each row of a labels file: its own column `place`, or else from `group` and `likes`, or else null.

    Rule audience writes no column `place`: its labels hold all that it follows from, also in files of earlier versions.
    """
    if "place" in labels.columns:
        return labels["place"].cast(pl.Float64, strict=False)
    if not {"label", "group", "likes"} <= set(labels.columns):
        return pl.Series("place", [None] * len(labels), dtype=pl.Float64)
    return places(labels.with_columns(pl.col("label", "group", "likes").cast(pl.Int64, strict=False)))
