"""Effect sizes of properties and rules on a score or a label, with intervals and corrected tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import clusters, stats
from selfie.common.clusters import Clusters
from selfie.common.errors import SelfieError
from selfie.experiments import properties

NEGLIGIBLE = 0.1
LEVEL = 0.01  # of the whole list: all findings together should be right 99 times in 100
LEAST = 50  # selfies that effects can be estimated from
LEAST_USERS = 10  # users whose selfies effects can be estimated from
RARE = 10  # selfies that must differ from a property's commonest value, or it is not measurable
PER_COLUMN = 10  # selfies per column of the regression; with fewer, it goes without squares
OUTLIER = 3  # standard deviations: what is farther out counts no more than that
VERDICTS = ("confirmed", "contradicted", "not measurable here")


@dataclass(frozen=True)
class Rule:
    """A rule. claim: what the post says, "" if nothing; members: properties with the sign that the claim gives them."""

    name: str
    claim: str
    members: dict[str, int]


@dataclass(frozen=True)
class Target:
    """The quantity to explain: numbers, one per selfie; top: 1 in the upper group, 0 in the lower, -1 between."""

    numbers: np.ndarray
    top: np.ndarray


RULES = (
    Rule("light", "dark, noisy pictures score low", {"brightness": 1, "noise": -1}),
    Rule("head size", "the face fills about a third", {"head_small": -1, "head_large": -1}),
    Rule("head size", "a head too large scores low", {"head_large": -1}),
    Rule("group", "group shots score low", {"faces": -1}),
    Rule("border", "a white border scores high", {"border": 1}),
    Rule(
        "filter",
        "faded, low contrast, black and white score high",
        {"contrast": -1, "black_point": 1, "saturation": -1, "gray": 1},
    ),
    Rule("place", "the face is in the middle, near the top", {"face_aside": -1, "face_height": 1}),
    Rule("tilt", "the face is slightly tilted", {"tilt": 1}),
    Rule("forehead", "the forehead is cut off", {"forehead_cut": 1}),
    Rule("over-lit face", "the face is over-saturated with light", {"face_glare": 1}),
    Rule("gender", "being female scores high", {"is_female": 1}),
    Rule("hair", "long hair scores high", {"long_hair": 1}),
    Rule("style", "style explains more than looks", {}),
    Rule("sharpness", "", {"sharpness": 1}),
)
DERIVED = {"face_area": "head size", "head_distance": "head size"}  # shown, but head_small and head_large say it all
OF_FACE = tuple(name for name in properties.FACE if name != "faces")

# --- effects ---------------------------------------------------------------------------------------------------------


def effects(
    values: pl.DataFrame,
    targets: dict[str, Target],
    extra: Sequence[str] = (),
    seed: int = 2015,
    resamples: int = 1000,
    users: np.ndarray | None = None,
) -> dict[str, dict]:
    """Estimate the effects of properties and rules on each target. Returns name of the target -> dict of

      selfies     how many were used, and of how many users
      users
      properties  list of dicts: property, rule, selfies, delta and partial, each with _low, _high, and _p (after Holm)
      rules       list of dicts: rule, claim, members, selfies, partial with _low, _high, _p and _absent_p (that the
                  effect in the claim's direction is at least small, after Holm), finding, verdict, why
      findings    names of the rules that are findings

    values: a row per selfie, columns as findings.measure makes them, and the attributes named in `extra`; users: whose
    each is, numbers or names (None: each its own user's). SelfieError for fewer than 50 selfies or 10 users.
    """
    rules = [*RULES, *(Rule(name, "", {name: 1}) for name in extra if not any(name in r.members for r in RULES))]
    if len(values) < LEAST:
        raise SelfieError(f"findings need {LEAST} scored selfies, not {len(values)}")
    users = np.arange(len(values)) if users is None else users
    if (count := len(np.unique(users))) < LEAST_USERS:
        raise SelfieError(f"findings need scored selfies of {LEAST_USERS} users, not {count}")
    used = values["face_area"].is_not_null().to_numpy()
    if used.sum() < LEAST or len(np.unique(users[used])) < LEAST_USERS:
        values = values.with_columns(pl.lit(None, pl.Float64).alias(name) for name in OF_FACE)
        used[:] = True
    results: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        model = _Model(values.filter(used), target.numbers[used], users[used], extra, seed, resamples)
        results[name] = {
            "selfies": int(used.sum()),
            "users": len(np.unique(users[used])),
            "properties": _property_effects(model, target.top[used], rules),
            "rules": _rule_effects(model, rules),
        }
    for kind, field in (
        ("properties", "delta_p"),
        ("properties", "partial_p"),
        ("rules", "partial_p"),
        ("rules", "partial_absent_p"),
    ):
        _correct([row for result in results.values() for row in result[kind] if field in row], field)
    for result in results.values():
        for row in result["rules"]:
            row["finding"] = "partial" in row and row["partial_p"] < LEVEL and abs(row["partial"]) >= NEGLIGIBLE
            row["verdict"], row["why"] = _verdict(row)
        result["findings"] = list(dict.fromkeys(row["rule"] for row in result["rules"] if row["finding"]))
    return results


class _Model:
    """Partial correlations with one target, all from the same bootstrap samples of users.

    Of a sample they need only the Gram matrix (inner products of the standardised columns), so only that is kept.
    """

    def __init__(
        self,
        values: pl.DataFrame,
        target: np.ndarray,
        users: np.ndarray,
        extra: Sequence[str],
        seed: int,
        resamples: int,
    ) -> None:
        self.values, self.target, self.users, self.seed, self.resamples = values, target, users, seed, resamples
        members = [
            name
            for name in dict.fromkeys(name for rule in RULES for name in rule.members)
            if name in values.columns and name not in extra
        ]
        self.usable = [
            name
            for name in (*members, *DERIVED, *extra)
            if values[name].count() >= LEAST
            and _variety(values[name]) >= RARE
            and len(np.unique(users[values[name].is_not_null().to_numpy()])) >= LEAST_USERS
        ]
        self.controls = [name for name in members if name in self.usable]
        self._latest: tuple = (b"", [], None)

    def partial(self, members: dict[str, int], but: Sequence[str]) -> dict:
        """Compute the partial correlation of the members' index with the target, given all controls but those named."""
        present = self.values.select(pl.all_horizontal(pl.col(name).is_not_null() for name in members)).to_series()
        known = present.to_numpy()
        names, grams = self._grams(known)
        index = np.array([members.get(name, 0) for name in names], float)
        given = [
            place
            for place, name in enumerate(names)
            if name == "1" or (name.removesuffix("^2") in self.controls and name.removesuffix("^2") not in but)
        ]
        value, *sample = _partial(grams, given, index)
        of_users = Clusters(self.users[known])
        low, high = of_users.interval(np.array(sample))
        # Among few selfies the bootstrap's error is too small: at least Fisher's (1924), which counts the controls.
        free = int(known.sum()) - len(given) - 2
        spread = max(float(np.arctanh(sample).std()), 1 / math.sqrt(free)) if free > 0 else math.inf
        short = (math.atanh(NEGLIGIBLE) - math.atanh(value)) / spread  # by how much it falls short of a small effect
        return {
            "selfies": int(known.sum()),
            "users": len(of_users),
            "partial": float(value),
            "partial_low": low,
            "partial_high": high,
            "partial_p": of_users.two_sided(math.atanh(value) / spread),
            "partial_absent_p": of_users.one_sided(short),
        }

    def _grams(self, known: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Name the columns, target last, and compute Gram matrices of the known rows: of all, then of each sample."""
        if known.tobytes() != self._latest[0]:
            columns = {"1": np.ones(known.sum())}
            squares = known.sum() >= 2 * PER_COLUMN * len(self.controls)
            for name in self.usable:
                values = self.values[name].to_numpy()[known]
                if not np.isnan(values).any():
                    columns[name] = _standard(values)
                    if squares and name in self.controls and self.values[name].n_unique() > 2:
                        columns[f"{name}^2"] = _standard(columns[name] ** 2)
            table = np.column_stack([*columns.values(), _standard(self.target[known])])
            self._latest = (known.tobytes(), [*columns, ""], np.stack(list(self._sampled(table, self.users[known]))))
        return self._latest[1:]

    def _sampled(self, table: np.ndarray, users: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the table's Gram matrix, then those of its bootstrap samples."""
        yield table.T @ table
        with tqdm(total=self.resamples, desc="bootstrap", leave=False, disable=None) as bar:
            for block in Clusters(users).samples(self.seed, self.resamples):
                for times in block:
                    yield (table * times[:, None]).T @ table
                    bar.update()


def _property_effects(model: _Model, top: np.ndarray, rules: Sequence[Rule]) -> list[dict]:
    """Estimate the effects of single properties: by themselves, and beyond the other rules' properties."""
    rule_of = {name: rule.name for rule in rules for name in rule.members} | DERIVED
    rows = []
    for name in model.usable:
        siblings = [other for other in model.controls if rule_of[other] == rule_of[name]]
        column = model.values[name]
        known = column.is_not_null().to_numpy()
        effect = model.partial({name: 1}, siblings)
        del effect["partial_absent_p"]  # a property by itself claims no direction
        rows.append(
            {
                "property": name,
                "rule": rule_of[name],
                **clusters.cliff(column.to_numpy()[known], top[known], model.users[known], model.seed, model.resamples),
                **effect,
            }
        )
    return rows


def _rule_effects(model: _Model, rules: Sequence[Rule]) -> list[dict]:
    """Estimate the effect of each rule beyond all others; "why" of those that cannot be measured."""
    rows = []
    for rule in rules:
        members = {name: sign for name, sign in rule.members.items() if name in model.usable}
        effect = model.partial(members, list(members)) if members else {"why": _unmeasured(rule, model.values)}
        rows.append({"rule": rule.name, "claim": rule.claim, "members": members or rule.members, **effect})
    return rows


def _verdict(row: dict) -> tuple[str, str]:
    """Judge the post's claim: (one of VERDICTS, why). Both are "" where the post claims nothing.

    An effect that is no finding contradicts the claim only where it is significantly less than a small one, in the
    direction of the claim and after correction for all rules.
    """
    if not row["claim"]:
        return "", ""
    if "partial" not in row:
        return VERDICTS[2], row["why"]
    if row["finding"]:
        return (VERDICTS[0], "") if row["partial"] > 0 else (VERDICTS[1], "it is the other way round")
    if row["partial_absent_p"] < LEVEL:
        return VERDICTS[1], "if there is such an effect, it is negligible"
    return VERDICTS[2], "too few selfies to tell a small effect from none"


def _unmeasured(rule: Rule, values: pl.DataFrame) -> str:
    """Say why none of the rule's members can be used."""
    if not rule.members:
        return "looks are not measured"
    name = next(iter(rule.members))
    if name not in values.columns:
        return f"needs a manifest with the column {name}"
    if values["face_area"].null_count() and name in OF_FACE:
        return f"only {(values['faces'] > 0).sum()} selfies have a detected face"
    if values[name].null_count() == len(values):
        return "needs the landmarks of MTCNN" if name == "tilt" else f"{name} is empty"
    return f"{name} varies in only {_variety(values[name])} of {len(values)} selfies"


def _correct(rows: list[dict], field: str) -> None:
    """Correct the p values in a field of all rows for their number (Holm), in place."""
    for row, p in zip(rows, stats.holm([row[field] for row in rows])):
        row[field] = p


def _partial(grams: np.ndarray, given: Sequence[int], index: np.ndarray) -> np.ndarray:
    """Correlate the columns' weighted sum (weights `index`) with the last column when the columns `given` are known.

    grams: S x C x C. Returns S numbers in (-1, 1); 0 where what is known leaves nothing of one of the two.
    """
    pair = np.stack([index, np.eye(len(index))[-1]], 1)
    with_pair = grams @ pair
    rest, last = grams[:, given][:, :, given], with_pair[:, given]
    size = grams[:, :1, :1]  # the column of ones: number of selfies
    left = pair.T @ with_pair - last.transpose(0, 2, 1) @ np.linalg.solve(rest + 1e-6 * size * np.eye(len(given)), last)
    scale = np.sqrt(np.maximum(left[:, 0, 0], 0) * np.maximum(left[:, 1, 1], 0))
    fine = scale > 1e-6 * size[:, 0, 0]
    return np.where(fine, np.clip(left[:, 0, 1] / np.where(fine, scale, 1), -0.9999, 0.9999), 0)


def _standard(values: np.ndarray) -> np.ndarray:
    """Shift and scale to mean 0, deviation 1, with outliers pulled in to OUTLIER deviations."""
    values = (values - values.mean()) / (values.std() or 1)
    values = np.clip(values, -OUTLIER, OUTLIER)
    return (values - values.mean()) / (values.std() or 1)


def _variety(column: pl.Series) -> int:
    """Count the known values that are not the commonest one."""
    known = column.drop_nulls()
    return len(known) - max(known.value_counts()["count"], default=0)
