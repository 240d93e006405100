"""The planted rules of popularity, as numbers; the package's docstring has the formula."""

from __future__ import annotations

from datetime import datetime

import numpy as np

AS_OF = datetime(2015, 10, 25)  # the day of the post; posts are dated against it, never against today

LIGHT, HEAD, GROUP, BORDER, FILTER = 0.55, 3.4, 0.9, 0.8, 0.7  # effects on log likes, each of about the same variance
BEST_FACE = 1 / 3
NOISE = 0.68  # in log likes: the best classifier then reaches about 80 %
RATE, TAG_BONUS = 0.2, 0.02

SUITS = 12  # colours that the portrait's orange suit is dyed in
HAIR = 0.73  # half the width of the portrait's hair, in sides of its face


def planted_quality(looks: dict[str, np.ndarray]) -> np.ndarray:
    """Quality of each picture, in log likes, from its planted attributes (columns of the plan): N floats."""
    return (
        LIGHT * looks["stops"]
        - HEAD * np.log2(looks["face"] / BEST_FACE) ** 2
        - GROUP * (looks["heads"] > 1)
        + BORDER * (looks["border"] > 0)
        + FILTER * (looks["filter"] != "none")
    )
