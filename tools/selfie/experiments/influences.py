"""What moved the score of one selfie: its measured properties, weighed as they go with the scores of many.

A linear model of the score by the properties of a run's scored selfies (ridge regression; Hoerl and Kennard 1970),
whose penalty is the one that predicts best when each selfie in turn is left out. A property's influence on a selfie's
score is its weight times how far it is from the average selfie, in percentage points of score. It tells what goes with
the score, not what the net looks at, and only as much as `explained` says: the share of the scores' variance that the
model predicts of selfies left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from selfie.data import tables
from selfie.experiments.effects import DERIVED, LEAST, OF_FACE, OUTLIER, RARE
from selfie.experiments.properties import FACE, PIXELS
from selfie.runs.run_folder import Run

PENALTIES = np.geomspace(1, 1e4, 25)  # of the ridge, for standardised properties
SPLITS = ("test", "val")  # whose measured properties are taken, the first that is there
MEASURED = tuple(name for name in (*PIXELS, *FACE) if name not in DERIVED)

# property -> what a selfie above the middle one is, and one below; {}: the share of selfies that it passes
WORDS = {
    "border": ("a white border", "no white border"),
    "brightness": ("brighter than {}", "darker than {}"),
    "noise": ("grainier than {}", "less grainy than {}"),
    "contrast": ("more contrast than {}", "less contrast than {}"),
    "black_point": ("more faded than {}", "deeper blacks than {}"),
    "saturation": ("more colourful than {}", "less colourful than {}"),
    "gray": ("black and white", "in colour"),
    "sharpness": ("sharper than {}", "softer than {}"),
    "head_small": ("a smaller face than {}", "a face no smaller than a third of the picture"),
    "head_large": ("a larger face than {}", "a face no larger than a third of the picture"),
    "face_aside": ("a face farther from the middle than {}", "a face closer to the middle than {}"),
    "face_height": ("a face higher up than {}", "a face lower down than {}"),
    "tilt": ("a head more tilted than {}", "a head less tilted than {}"),
    "forehead_cut": ("the forehead is cut off", "the whole forehead"),
    "face_glare": ("more glare on the face than {}", "less glare on the face than {}"),
}


@dataclass(frozen=True)
class Influence:
    """One property of one selfie.

    value    as properties.measure has it
    more     percent of the run's selfies that have less of it, ties counted half
    what     in words, relative to the other selfies
    points   its influence on the score, in percentage points
    """

    property: str
    value: float
    more: float
    what: str
    points: float


@dataclass(frozen=True)
class Model:
    """The fitted weights, and how much of the variance of left-out scores they explain, in [0, 1]."""

    names: tuple[str, ...]
    columns: np.ndarray  # selfies x names, the measured values
    weights: np.ndarray  # percentage points per standard deviation
    explained: float

    @property
    def selfies(self) -> int:
        """Count the selfies that it was fitted to."""
        return len(self.columns)

    def influences(self, values: Mapping[str, float | None]) -> list[Influence]:
        """Return the influences of a selfie's measured properties, strongest first.

        A value beyond those of all selfies counts as the outermost of them: what lies farther out does to a score, they
        cannot tell. Those without a value are left out, and the number of faces where there is none but all selfies
        have some.
        """
        found = []
        for number, name in enumerate(self.names):
            value, column = values.get(name), self.columns[:, number]
            if value is None or (name == "faces" and value < column.min()):
                continue
            more = 100 * float((column < value).mean() + (column == value).mean() / 2)
            within = np.clip(value, column.min(), column.max())
            place = np.clip((within - column.mean()) / column.std(), -OUTLIER, OUTLIER)
            what = _words(name, value, more, value > np.median(column) or more > 50)
            found.append(Influence(name, float(value), more, what, float(self.weights[number] * place)))
        return sorted(found, key=lambda one: -abs(one.points))


def _words(name: str, value: float, more: float, above: bool) -> str:
    """Say what a value is, relative to that of the other selfies."""
    if name == "faces":
        return {0: "no face found", 1: "one face"}.get(int(value), f"{value:.0f} faces")
    share = min(99.0, more if above else 100 - more)
    return WORDS[name][0 if above else 1].format(f"{share:.0f} % of selfies")


def load(run: Run) -> Model | None:
    """Fit the model to the selfies that `tools/findings.py` measured; None if it did not, or if nothing is explained.

    SelfieError if its table is broken.
    """
    for split in SPLITS:
        file = run.folder / f"{split}_properties.csv"
        if file.exists():
            return fit(tables.read(file, dict.fromkeys(("score", *PIXELS, *FACE), pl.Float64)))
    return None


def fit(table: pl.DataFrame) -> Model | None:
    """Fit the model to columns score, in [0, 1], and MEASURED; None below 50 selfies, or if nothing is explained.

    Selfies without a face are left out; where too few have one, all are used, and faces are not spoken of.
    """
    names = MEASURED
    with_face = table.filter(pl.col("face_aside").is_not_null())
    if len(with_face) >= LEAST:
        table = with_face
    else:
        names = tuple(name for name in names if name not in OF_FACE)
    names = tuple(name for name in names if table[name].null_count() == 0 and _differing(table[name]) >= RARE)
    if len(table) < LEAST or not names:
        return None
    columns = table.select(names).to_numpy()
    standard = np.clip((columns - columns.mean(0)) / columns.std(0), -OUTLIER, OUTLIER)
    weights, explained = _ridge(standard - standard.mean(0), 100 * table["score"].to_numpy())
    return Model(names, columns, weights, explained) if explained > 0 else None


def _ridge(values: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit centred values to the target with the best of PENALTIES: weights, explained variance when left out.

    Leaving one out in closed form: its error is the fitted one over 1 less its leverage (Golub, Heath, Wahba 1979).
    """
    centred = target - target.mean()
    left, sizes, right = np.linalg.svd(values, full_matrices=False)
    best = (np.inf, np.zeros(values.shape[1]))
    for penalty in PENALTIES:
        shrunk = sizes**2 / (sizes**2 + penalty)
        leverage = (left**2 * shrunk).sum(1) + 1 / len(values)
        error = (((centred - left @ (shrunk * (left.T @ centred))) / (1 - leverage)) ** 2).mean()
        if error < best[0]:
            best = (error, right.T @ (sizes / (sizes**2 + penalty) * (left.T @ centred)))
    return best[1], float(1 - best[0] / centred.var()) if centred.var() else 0.0


def _differing(column: pl.Series) -> int:
    """Count the values that are not the commonest one."""
    return len(column) - max(column.value_counts()["count"], default=0)
