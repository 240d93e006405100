"""What good selfies have in common: measured properties held against the net's score, and against the labels.

Two effect sizes, both in [-1, 1]:

- Of a property, Cliff's delta (Cliff 1993): the chance that a selfie of the top third has more of it than one of the
  bottom third, less the chance that it has less (labels: good and bad selfies). Properties come together: noise is
  found to be bad where dark pictures are, contrast where filters are good.
- Of a rule, the partial correlation: what it still says when the properties of all other rules are known. A rule is
  what the post makes a claim about; its members are the properties that show it, such as brightness and noise, and its
  index is the mean of the members, standardised and with the sign that the claim gives them. Its correlation with the
  target is taken after a linear regression of both on all properties outside the rule, and on their squares, since few
  things are linear.

A rule is a finding if its partial correlation is significant after correction for all rules, against the score and
against the labels together (Holm 1979), and not negligible (at least 0.1, Cohen's "small"). The score enters by its
normal scores (ranks): calibration does not matter. Intervals are 95 % percentile bootstrap over selfies, and the test
of a partial correlation takes its standard error from the same bootstrap, as rare properties scatter unevenly, but none
below 1 / sqrt(selfies - controls - 3), that of normal values. Selfies
without a detected face are left out; where too few have one, all are used, and faces are not spoken of.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import polars as pl
from tqdm import tqdm

from selfie import database, evaluate, faces, grids, manifest, parallel, paths, plots, properties, runs
from selfie.errors import SelfieError

NEGLIGIBLE = 0.1
LEVEL = 0.01  # of the whole list: all findings together should be right 99 times in 100
LEAST = 50  # selfies that effects can be told of
RARE = 10  # selfies that must differ from a property's commonest value, or it is not measurable
PER_COLUMN = 10  # selfies per column of the regression; with fewer, it goes without squares
OUTLIER = 3  # standard deviations: what is farther out counts no more than that
BATCH = 32
VERDICTS = ("confirmed", "contradicted", "not measurable here")


@dataclass(frozen=True)
class Rule:
    """name; claim: what the post says, "" if nothing; members: properties with the sign that the claim gives them."""

    name: str
    claim: str
    members: dict[str, int]


@dataclass(frozen=True)
class Target:
    """What selfies are held against: numbers, one per selfie; top: 1 in the upper group, 0 in the lower, -1 between."""

    numbers: np.ndarray
    top: np.ndarray


RULES = (
    Rule("light", "dark, noisy pictures score low", {"brightness": 1, "noise": -1}),
    Rule("head size", "the face fills about a third", {"head_small": -1, "head_large": -1}),
    Rule("head size", "a head too large scores low", {"head_large": -1}),
    Rule("group", "group shots score low", {"faces": -1}),
    Rule("border", "a white border scores high", {"border": 1}),
    Rule("filter", "faded, low contrast, black and white score high",
         {"contrast": -1, "black_point": 1, "saturation": -1, "gray": 1}),
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
# Of a manifest's numbers: what labels are made of, and what is measured here.
NOT_ATTRIBUTES = ("likes", "popularity", "label", "audience", "group", "score", *faces.COLUMNS)

# --- measuring -------------------------------------------------------------------------------------------------------


def measure(folder: Path, boxes: pl.DataFrame | None = None, detector: str = "auto", jobs: int | None = None
            ) -> pl.DataFrame:
    """Columns key and all of properties.PIXELS and FACE, for every selfie of a database, in its order.

    boxes: columns id, face_count, face_x, face_y, face_w, face_h of a manifest; without it the detector (of
    selfie.faces) looks for faces in the database's pictures. The result does not depend on `jobs`.
    """
    known = {} if boxes is None else {row["id"]: row for row in boxes.iter_rows(named=True)}
    name = "manifest" if boxes is not None else faces.choose(detector)
    rows: list[dict] = []
    with database.Database(folder) as records, \
            tqdm(total=len(records), desc="measuring", unit="selfie", disable=None) as bar:
        batches = ((name, [(key, bgr, known.get(key[9:])) for key, bgr, _ in batch])
                   for batch in evaluate.batches(records, BATCH))
        for done in parallel.imap(_measure_batch, batches, min(jobs or parallel.cores(), -(-len(records) // BATCH))):
            rows += done
            bar.update(len(done))
    columns = (*properties.PIXELS, *properties.FACE)
    return pl.DataFrame(rows, schema={"key": pl.String, **dict.fromkeys(columns, pl.Float64)})


def _measure_batch(batch: tuple[str, list[tuple[str, np.ndarray, dict | None]]]) -> list[dict]:
    name, pictures = batch
    measured = []
    for key, bgr, box in pictures:
        found = _known_face(box, len(bgr)) if name == "manifest" else _detected_face(name, bgr)
        measured.append({"key": key, **properties.measure(bgr, *found)})
    return measured


def _known_face(box: dict | None, side: int) -> tuple[faces.Face | None, int]:
    if box is None or not box["face_count"]:
        return None, 0
    return faces.Face(*(box[name] * side for name in faces.BOX), score=1), box["face_count"]


def _detected_face(name: str, bgr: np.ndarray) -> tuple[faces.Face | None, int]:
    found = _detector(name)(bgr)
    return max(found, key=lambda face: face.w * face.h, default=None), len(found)


@cache
def _detector(name: str) -> faces.Detector:
    """Loaded once per process, each of which has a core of its own."""
    cv2.setNumThreads(1)
    return faces.detector(name)


def attributes(table: pl.DataFrame) -> pl.DataFrame:
    """Column id and every column of a manifest that holds nothing but numbers (and gaps), as Float64."""
    chosen = []
    for name in table.columns:
        column = table[name]
        if name in (*manifest.TEXT, *NOT_ATTRIBUTES) or column.dtype.is_nested() or column.dtype.is_temporal():
            continue
        if column.dtype == pl.String:
            column = column.replace("", None)
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.null_count() == column.null_count() < len(column):
            chosen.append(pl.select(pl.when(numbers.is_finite()).then(numbers).alias(name)).to_series())
    return table.select("id").with_columns(chosen).drop_nulls("id").unique("id", keep="first", maintain_order=True)

# --- effects ---------------------------------------------------------------------------------------------------------


def effects(values: pl.DataFrame, targets: dict[str, Target], extra: Sequence[str] = (), seed: int = 2015,
            resamples: int = 1000) -> dict[str, dict]:
    """Effects of properties and rules on each target: name of the target -> dict of

      selfies     how many were used
      properties  list of dicts: property, rule, selfies, delta and partial, each with _low, _high, and _p (after Holm)
      rules       list of dicts: rule, claim, members, selfies, partial with _low, _high, _p and _absent_p (that the
                  effect in the claim's direction is at least small, after Holm), finding, verdict, why
      findings    names of the rules that are findings

    values: a row per selfie, columns as `measure` makes them, and the attributes named in `extra`.
    SelfieError for fewer than 50 selfies.
    """
    rules = [*RULES, *(Rule(name, "", {name: 1}) for name in extra if not any(name in r.members for r in RULES))]
    if len(values) < LEAST:
        raise SelfieError(f"findings need {LEAST} scored selfies, not {len(values)}")
    used = values["face_area"].is_not_null().to_numpy()
    if used.sum() < LEAST:
        values = values.with_columns(pl.lit(None, pl.Float64).alias(name) for name in OF_FACE)
        used[:] = True
    told = {}
    for name, target in targets.items():
        model = _Model(values.filter(used), target.numbers[used], extra, seed, resamples)
        told[name] = {"selfies": int(used.sum()),
                      "properties": _property_effects(model, target.top[used], rules),
                      "rules": _rule_effects(model, rules)}
    for kind, field in (("properties", "delta_p"), ("properties", "partial_p"), ("rules", "partial_p"),
                        ("rules", "partial_absent_p")):
        _correct([row for one in told.values() for row in one[kind] if field in row], field)
    for one in told.values():
        for row in one["rules"]:
            row["finding"] = "partial" in row and row["partial_p"] < LEVEL and abs(row["partial"]) >= NEGLIGIBLE
            row["verdict"], row["why"] = _verdict(row)
        one["findings"] = list(dict.fromkeys(row["rule"] for row in one["rules"] if row["finding"]))
    return told


class _Model:
    """Partial correlations with one target, all from the same bootstrap samples of selfies.

    Of a sample they need only the Gram matrix (inner products of the standardised columns), so only that is kept.
    """

    def __init__(self, values: pl.DataFrame, target: np.ndarray, extra: Sequence[str], seed: int,
                 resamples: int) -> None:
        self.values, self.target, self.seed, self.resamples = values, target, seed, resamples
        members = [name for name in dict.fromkeys(name for rule in RULES for name in rule.members)
                   if name in values.columns and name not in extra]
        self.usable = [name for name in (*members, *DERIVED, *extra)
                       if values[name].count() >= LEAST and _variety(values[name]) >= RARE]
        self.controls = [name for name in members if name in self.usable]
        self._latest: tuple = (b"", [], None)

    def partial(self, members: dict[str, int], but: Sequence[str]) -> dict:
        """Partial correlation of the members' index with the target, given all controls but those named."""
        known = self.values.select(pl.all_horizontal(pl.col(name).is_not_null() for name in members)).to_series()
        names, grams = self._grams(known.to_numpy())
        index = np.array([members.get(name, 0) for name in names], float)
        given = [place for place, name in enumerate(names)
                 if name == "1" or (name.removesuffix("^2") in self.controls and name.removesuffix("^2") not in but)]
        value, *sample = _partial(grams, given, index)
        low, high = np.percentile(sample, [2.5, 97.5])
        # Among few selfies the bootstrap's error is too small: at least Fisher's (1924), which counts the controls.
        free = int(known.sum()) - len(given) - 2
        spread = max(float(np.arctanh(sample).std()), 1 / math.sqrt(free)) if free > 0 else math.inf
        short = (math.atanh(NEGLIGIBLE) - math.atanh(value)) / spread  # by how much it falls short of a small effect
        return {"selfies": int(known.sum()), "partial": float(value), "partial_low": float(low),
                "partial_high": float(high), "partial_p": _two_sided(math.atanh(value) / spread),
                "partial_absent_p": NormalDist().cdf(-short)}

    def _grams(self, known: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Names of the columns, the target last, and Gram matrices of the known rows: of all, then of each sample."""
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
            self._latest = (known.tobytes(), [*columns, ""], np.stack(list(self._sampled(table))))
        return self._latest[1:]

    def _sampled(self, table: np.ndarray) -> Iterator[np.ndarray]:
        generator = np.random.default_rng(self.seed)
        yield table.T @ table
        for _ in tqdm(range(self.resamples), desc="bootstrap", leave=False, disable=None):
            times = np.bincount(generator.integers(0, len(table), len(table)), minlength=len(table))
            yield (table * times[:, None]).T @ table


def _property_effects(model: _Model, top: np.ndarray, rules: Sequence[Rule]) -> list[dict]:
    generator = np.random.default_rng(model.seed)
    rule_of = {name: rule.name for rule in rules for name in rule.members} | DERIVED
    told = []
    for name in model.usable:
        siblings = [other for other in model.controls if rule_of[other] == rule_of[name]]
        column = model.values[name]
        known = column.is_not_null().to_numpy() & (top >= 0)
        effect = model.partial({name: 1}, siblings)
        del effect["partial_absent_p"]  # a property by itself claims no direction
        told.append({"property": name, "rule": rule_of[name],
                     **cliff(column.to_numpy()[known], top[known], generator, model.resamples), **effect})
    return told


def _rule_effects(model: _Model, rules: Sequence[Rule]) -> list[dict]:
    told = []
    for rule in rules:
        members = {name: sign for name, sign in rule.members.items() if name in model.usable}
        effect = model.partial(members, list(members)) if members else {"why": _unmeasured(rule, model.values)}
        told.append({"rule": rule.name, "claim": rule.claim, "members": members or rule.members, **effect})
    return told


def _verdict(row: dict) -> tuple[str, str]:
    """The post's claim: confirmed, contradicted or not measurable here, and why. Both "" where the post claims nothing.

    An effect that is not found contradicts the claim only where it is significantly less than a small one, in the
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
    """Why none of the rule's members can be used."""
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


def cliff(values: np.ndarray, group: np.ndarray, generator: np.random.Generator, resamples: int) -> dict:
    """Cliff's delta of group 1 over group 0 with its bootstrap interval (groups resampled each for itself), and the p
    of the Mann-Whitney test (normal approximation, ties accounted for)."""
    place = np.unique(values, return_inverse=True)[1]
    upper, lower = (np.bincount(place[group == which], minlength=place.max() + 1) for which in (1, 0))
    many, few = upper.sum(), lower.sum()
    if not many or not few:
        raise SelfieError("effects need both good and bad selfies")
    value = _delta(upper, lower)
    sample = [_delta(generator.multinomial(many, upper / many), generator.multinomial(few, lower / few))
              for _ in range(resamples)]
    low, high = np.percentile(sample, [2.5, 97.5])
    ties, total = (upper + lower).astype(float), float(many + few)
    spread = math.sqrt((total + 1 - (ties ** 3 - ties).sum() / (total * (total - 1))) / (3 * many * few))
    return {"delta": value, "delta_low": float(low), "delta_high": float(high),
            "delta_p": _two_sided(value / spread) if spread else 1.0}


def _delta(upper: np.ndarray, lower: np.ndarray) -> float:
    """Cliff's delta from how often each value occurs in the two groups."""
    through = np.cumsum(lower)
    return float((upper * (2 * through - lower - through[-1])).sum() / (upper.sum() * lower.sum()))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for many tests (Holm 1979), in the order given."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)))
    return corrected.tolist()


def _correct(rows: list[dict], field: str) -> None:
    for row, p in zip(rows, holm([row[field] for row in rows])):
        row[field] = p


def _partial(grams: np.ndarray, given: Sequence[int], index: np.ndarray) -> np.ndarray:
    """For each Gram matrix: correlation of the columns' weighted sum, weights `index`, with the last column when the
    columns `given` are known; 0 where these leave nothing of one of them."""
    pair = np.stack([index, np.eye(len(index))[-1]], 1)
    with_pair = grams @ pair
    rest, last = grams[:, given][:, :, given], with_pair[:, given]
    size = grams[:, :1, :1]  # the column of ones: number of selfies
    left = pair.T @ with_pair - last.transpose(0, 2, 1) @ np.linalg.solve(rest + 1e-6 * size * np.eye(len(given)), last)
    scale = np.sqrt(np.maximum(left[:, 0, 0], 0) * np.maximum(left[:, 1, 1], 0))
    fine = scale > 1e-6 * size[:, 0, 0]
    return np.where(fine, np.clip(left[:, 0, 1] / np.where(fine, scale, 1), -0.9999, 0.9999), 0)


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def _standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1, outliers pulled in to OUTLIER deviations."""
    values = (values - values.mean()) / (values.std() or 1)
    values = np.clip(values, -OUTLIER, OUTLIER)
    return (values - values.mean()) / (values.std() or 1)


def _variety(column: pl.Series) -> int:
    """How many known values are not the commonest one."""
    known = column.drop_nulls()
    return len(known) - int(known.value_counts()["count"].max() or 0)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal quantiles of the mid-ranks."""
    ranks = (pl.Series(values).rank().to_numpy() - 0.5) / len(values)
    return np.array([NormalDist().inv_cdf(rank) for rank in ranks])


def thirds(values: np.ndarray) -> np.ndarray:
    """1 for the upper third of the values, 0 for the lower one, -1 between."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return np.where(values >= high, 1, np.where(values <= low, 0, -1))

# --- a run -----------------------------------------------------------------------------------------------------------


def find(run: runs.Run, split: str = "test", manifest_file: str | os.PathLike | None = None,
         detector: str | None = None, jobs: int | None = None, seed: int = 2015, resamples: int = 1000) -> dict:
    """Findings of a scored split, against the score and against the labels; see `effects`.

    Faces are those of the manifest if it has them and no detector is named. Writes into the run folder findings.json
    (what is returned), findings.csv, findings.png, and <split>_properties.csv, the measured values.
    SelfieError if the split was not scored yet.
    """
    scored = grids.scored(run, split)
    table = None if manifest_file is None else manifest.read(manifest_file)
    boxes = None
    if table is not None:
        manifest.require(table, ("id",), manifest_file)
        if detector is None and set(faces.COLUMNS[:-1]) <= set(table.columns):
            boxes = table.select("id", "face_count", pl.col(*faces.BOX).cast(pl.Float64))
    detector = "manifest" if boxes is not None else faces.choose(detector or "auto")
    measured = measure(grids.folder_of(run, split), boxes, detector, jobs)
    extra: list[str] = []
    if table is not None:
        own = attributes(table).rename({name: f"{name}_" for name in measured.columns if name in table.columns})
        extra = own.columns[1:]
        measured = measured.with_columns(id=grids.id_of("key")).join(own, on="id", how="left").drop("id")
    joined = scored.join(measured, on="key", how="left", validate="1:1").sort("key")
    with paths.atomic_path(run.folder / f"{split}_properties.csv") as temporary:
        joined.write_csv(temporary)
    result = {"run": str(run.folder), "split": split, "faces": detector, "resamples": resamples, "seed": seed}
    score, label = joined["score"].to_numpy(), joined["label"].to_numpy()
    targets = {"score": Target(normal_scores(score), thirds(score)), "labels": Target(label.astype(float), label)}
    result |= effects(joined, targets, extra, seed, resamples)
    paths.write_json(run.folder / "findings.json", result)
    with paths.atomic_path(run.folder / "findings.csv") as temporary:
        pl.DataFrame(list(flat(result)), infer_schema_length=None).write_csv(temporary)
    draw(result, run.folder / "findings.png")
    return result


def flat(result: dict) -> Iterator[dict]:
    """All effects of `find` as rows of one table: against, kind (rule or property), name, ..."""
    for against in ("score", "labels"):
        for row in result[against]["rules"]:
            yield {"against": against, "kind": "rule", "name": row["rule"], **row,
                   "members": " ".join(row["members"])}
        for row in result[against]["properties"]:
            yield {"against": against, "kind": "property", "name": row["property"], **row}


def draw(result: dict, path: Path) -> None:
    """Left: the rules' partial correlations, findings filled. Right: the properties' Cliff's deltas."""
    height = 1.2 + 0.3 * max(len(result["score"]["rules"]), len(result["score"]["properties"]))
    with plots.figure(path, 1, 2, width=13, height=height) as (left, right):
        for axis, kind, field in ((left, "rules", "partial"), (right, "properties", "delta")):
            rows = [row for row in result["score"][kind] if field in row]
            for against, colour, shift in (("score", plots.GOOD, -0.14), ("labels", plots.BAD, 0.14)):
                _draw_effects(axis, [row for row in result[against][kind] if field in row], field, colour, shift,
                              f"against the {against}")
            axis.axvline(0, color="gray", linewidth=0.8)
            axis.set_yticks(range(len(rows)), [row.get("claim") or row.get("property") or row["rule"] for row in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
        left.axvspan(-NEGLIGIBLE, NEGLIGIBLE, color="gray", alpha=0.15, linewidth=0)
        left.set_xlabel("partial correlation in the claim's direction\n(filled: a finding; gray: negligible)")
        right.set_xlabel("Cliff's delta, top over bottom third (labels: good over bad)\n(filled: significant)")


def _draw_effects(axis, rows: list[dict], field: str, colour: str, shift: float, label: str) -> None:
    for place, row in enumerate(rows):
        value, low, high = row[field], row[f"{field}_low"], row[f"{field}_high"]
        filled = row["finding"] if "finding" in row else row[f"{field}_p"] < LEVEL
        axis.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.5)
        axis.plot(value, place + shift, "o", color=colour, markersize=6, markerfacecolor=colour if filled else "white")
    axis.plot([], [], "o-", color=colour, label=label)
