"""Rule "residual": likes beyond what followers and tags explain, as another attempt at the experiment labelled.

Merrick, Cassady and Banerjee (2016, report in lukemerrick/lukemerrick.com on GitHub) regressed log10(1 + likes) on
log10(1 + followers) and the number of hashtags, by least squares over all posts, and told the best from the worst
decile of the residual. Unlike the post's groups it assumes that likes follow a power of the followers, but it needs no
neighbours of equal audience.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from selfie.data import lean

DIGITS = 9  # of coefficients and residuals: beyond, another order of rows or another processor would tell


def measure(table: pl.DataFrame) -> dict[str, float]:
    """Put `residual`, in powers of ten of likes, into a table with likes, followers, tags and coin; returns the fit.

    The fit: intercept, and what likes gain by tenfold followers and by a tag (0 for what does not vary), all as log10;
    r_squared, the share of the variance that they explain.
    """
    if not table.height:
        lean.put(table, pl.Series("residual", [], pl.Float64))
        return {}
    order = np.argsort(table["coin"].to_numpy())  # sums of floats depend on the order of rows
    likes, followers = (np.log10(1.0 + table[name].to_numpy()[order]) for name in ("likes", "followers"))
    causes = [followers, table["tags"].to_numpy()[order].astype(float)]
    centred = [cause - cause.mean() for cause in causes]
    gram = np.array([[(one * other).sum() for other in centred] for one in centred])
    with_likes = np.array([(one * (likes - likes.mean())).sum() for one in centred])
    slopes = np.linalg.lstsq(gram, with_likes, rcond=1e-12)[0].round(DIGITS) + 0.0  # no -0
    intercept = round(float(likes.mean() - sum(slope * cause.mean() for slope, cause in zip(slopes, causes))), DIGITS)
    residual = (likes - intercept - slopes[0] * causes[0] - slopes[1] * causes[1]).round(DIGITS)
    spread = likes.var()
    fit = {
        "intercept": intercept,
        "followers": float(slopes[0]),
        "tags": float(slopes[1]),
        "r_squared": round(float(1 - residual.var() / spread), DIGITS) if spread else 0.0,
    }
    of_rows = np.empty(table.height)
    of_rows[order] = residual + 0.0
    lean.put(table, pl.Series("residual", of_rows))
    return fit
