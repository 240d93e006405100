"""Common properties of good selfies: measured, and related to the net's score and to the labels.

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
normal scores (ranks): calibration does not matter. Intervals are 95 % percentile bootstrap over users, whose selfies
resemble each other (common/clusters), and the test of a partial correlation takes its standard error from the same
bootstrap, as rare properties scatter unevenly, but none below 1 / sqrt(selfies - controls - 3), that of normal values.
Selfies without a detected face are left out; where too few have one, all are used, and faces are not spoken of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths, plots, stats
from selfie.common.errors import SelfieError
from selfie.data import lmdb_posts, lmdb_reader, manifest
from selfie.data.lmdb_reader import Database
from selfie.experiments import grids, properties
from selfie.experiments.effects import LEVEL, NEGLIGIBLE, Target, effects
from selfie.faces import annotate, detectors
from selfie.faces.face import Detector, Face
from selfie.runs.run_folder import Run

BATCH = 32
# Of a manifest's numbers: what labels are made of, and what is measured here.
NOT_ATTRIBUTES = (
    *("likes", "popularity", "label", "audience", "group", "measure", "place", "score"),
    *annotate.COLUMNS,
)

# --- measuring -------------------------------------------------------------------------------------------------------


def measure(
    folder: Path, boxes: pl.DataFrame | None = None, detector: str = "auto", jobs: int | None = None
) -> pl.DataFrame:
    """Measure every selfie of a database, in its order: columns key and all of properties.PIXELS and FACE.

    boxes: columns id, face_count, face_x, face_y, face_w, face_h of a manifest; without it the detector (a name of
    selfie.faces.detectors) looks for faces in the database's pictures. The result does not depend on `jobs`.
    """
    known = {} if boxes is None else {row["id"]: row for row in boxes.iter_rows(named=True)}
    name = "manifest" if boxes is not None else detectors.choose(detector)
    rows: list[dict] = []
    with Database(folder) as records, tqdm(total=len(records), desc="measuring", unit="selfie", disable=None) as bar:
        batches = (
            (name, [(key, bgr, known.get(lmdb_reader.id_of(key))) for key, bgr, _ in batch])
            for batch in parallel.batches(records, BATCH)
        )
        for done in parallel.imap(_measure_batch, batches, min(jobs or parallel.cores(), -(-len(records) // BATCH))):
            rows += done
            bar.update(len(done))
    columns = (*properties.PIXELS, *properties.FACE)
    return pl.DataFrame(rows, schema={"key": pl.String, **dict.fromkeys(columns, pl.Float64)})


def _measure_batch(batch: tuple[str, list[tuple[str, np.ndarray, dict | None]]]) -> list[dict]:
    """In a worker process: measure pictures (key, square BGR picture, the manifest's row) with a detector."""
    name, pictures = batch
    measured = []
    for key, bgr, box in pictures:
        face, count = _known_face(box, len(bgr)) if name == "manifest" else _detected_face(name, bgr)
        measured.append({"key": key, **properties.measure(bgr, face, count)})
    return measured


def _known_face(box: dict | None, side: int) -> tuple[Face | None, int]:
    """Return the manifest's largest face, in pixels of a square of that side, and the number of faces."""
    if box is None or not box["face_count"]:
        return None, 0
    x, y, w, h = (box[name] * side for name in annotate.BOX)
    return Face(x, y, w, h, score=1), box["face_count"]


def _detected_face(name: str, bgr: np.ndarray) -> tuple[Face | None, int]:
    """Detect the largest face of a picture, and count the faces."""
    faces = _detector(name)(bgr)
    return max(faces, key=lambda face: face.w * face.h, default=None), len(faces)


@cache
def _detector(name: str) -> Detector:
    """Load a detector, once per process."""
    return detectors.load(name)


def _boxes(table: pl.DataFrame, file: str | os.PathLike) -> pl.DataFrame:
    """Take id, number of faces and box out of a manifest. SelfieError where numbers of a box are none."""
    try:
        return table.select("id", "face_count", pl.col(*annotate.BOX).cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        columns = ", ".join(annotate.BOX)
        raise SelfieError(
            f"{file}: {columns} hold values that are no numbers: run tools/filter_faces.py again, or name a --detector"
        ) from error


def attributes(table: pl.DataFrame) -> pl.DataFrame:
    """Select column id and every column of a manifest that holds nothing but numbers (and gaps), as Float64."""
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


# --- a run -----------------------------------------------------------------------------------------------------------


def find(
    run: Run,
    split: str = "test",
    manifest_file: str | os.PathLike | None = None,
    detector: str | None = None,
    jobs: int | None = None,
    seed: int = 2015,
    resamples: int = 1000,
    reading: manifest.Reading = manifest.AS_IT_IS,
) -> dict:
    """Find what a scored split's selfies have in common, against the score and against the labels; see `effects`.

    Faces are those of the manifest if it has them and no detector is named. Writes into the run folder findings.json
    (what is returned), findings.csv, findings.png, and <split>_properties.csv, the measured values.
    SelfieError if the split was not scored yet.
    """
    scored = grids.scored(run, split)
    table = boxes = None
    if manifest_file is not None:
        table = manifest.read(manifest_file, None, reading, ("id",))
        if detector is None and set(annotate.COLUMNS[:-1]) <= set(table.columns):
            boxes = _boxes(table, manifest_file)
    detector = "manifest" if boxes is not None else detectors.choose(detector or "auto")
    measured = measure(run.database(split), boxes, detector, jobs)
    extra: list[str] = []
    if table is not None:
        own = attributes(table).rename({name: f"{name}_" for name in measured.columns if name in table.columns})
        extra = own.columns[1:]
        measured = measured.with_columns(id=lmdb_reader.id_column("key")).join(own, on="id", how="left").drop("id")
    joined = scored.join(measured, on="key", how="left", validate="1:1").sort("key")
    paths.write_csv(run.folder / f"{split}_properties.csv", joined)
    result = {"run": str(run.folder), "split": split, "faces": detector, "resamples": resamples, "seed": seed}
    score, label = joined["score"].to_numpy(), joined["label"].to_numpy()
    targets = {
        "score": Target(stats.normal_scores(score), stats.thirds(score)),
        "labels": Target(label.astype(float), label),
    }
    posts = lmdb_posts.read(run.database(split), joined["key"].to_list())
    result |= {"users_known": posts.known, **effects(joined, targets, extra, seed, resamples, posts.users)}
    paths.write_json(run.folder / "findings.json", result)
    paths.write_csv(run.folder / "findings.csv", pl.DataFrame(list(flat(result)), infer_schema_length=None))
    draw(result, run.folder / "findings.png")
    return result


def flat(result: dict) -> Iterator[dict]:
    """Yield all effects of `find` as rows of one table: against, kind (rule or property), name, ..."""
    for against in ("score", "labels"):
        for row in result[against]["rules"]:
            yield {"against": against, "kind": "rule", "name": row["rule"], **row, "members": " ".join(row["members"])}
        for row in result[against]["properties"]:
            yield {"against": against, "kind": "property", "name": row["property"], **row}


def draw(result: dict, path: Path) -> None:
    """Draw the rules' partial correlations (left, findings filled) and the properties' Cliff's deltas (right)."""
    height = 1.2 + 0.3 * max(len(result["score"]["rules"]), len(result["score"]["properties"]))
    with plots.figure(path, 1, 2, width=13, height=height) as (left, right):
        for axis, kind, field in ((left, "rules", "partial"), (right, "properties", "delta")):
            rows = [row for row in result["score"][kind] if field in row]
            for against, colour, shift in (("score", plots.GOOD, -0.14), ("labels", plots.BAD, 0.14)):
                _draw_effects(
                    axis,
                    [row for row in result[against][kind] if field in row],
                    field,
                    colour,
                    shift,
                    f"against the {against}",
                )
            axis.axvline(0, color="gray", linewidth=0.8)
            axis.set_yticks(range(len(rows)), [row.get("claim") or row.get("property") or row["rule"] for row in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
        left.axvspan(-NEGLIGIBLE, NEGLIGIBLE, color="gray", alpha=0.15, linewidth=0)
        left.set_xlabel("partial correlation in the claim's direction\n(filled: a finding; grey: negligible)")
        right.set_xlabel("Cliff's delta, top over bottom third (labels: good over bad)\n(filled: significant)")


def _draw_effects(axis: Any, rows: list[dict], field: str, colour: str, shift: float, label: str) -> None:
    """Draw a point with its interval for each row, one below the other."""
    for place, row in enumerate(rows):
        value, low, high = row[field], row[f"{field}_low"], row[f"{field}_high"]
        filled = row["finding"] if "finding" in row else row[f"{field}_p"] < LEVEL
        axis.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.5)
        axis.plot(value, place + shift, "o", color=colour, markersize=6, markerfacecolor=colour if filled else "white")
    axis.plot([], [], "o-", color=colour, label=label)
