"""What moved one selfie's score: weights that many selfies agree on, and an honest share of what they explain."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from selfie.common.errors import SelfieError
from selfie.experiments import influences
from selfie.experiments.influences import MEASURED, WORDS
from selfie.experiments.properties import FACE, PIXELS


def table(selfies: int, noise: float, faces: bool = True, seed: int = 0) -> pl.DataFrame:
    """Selfies whose score rises with brightness, falls with noise, and owes the rest to luck."""
    generator = np.random.default_rng(seed)
    values = {name: generator.normal(size=selfies) for name in MEASURED}
    values["tilt"] = [None] * selfies
    if not faces:
        values |= {name: [None] * selfies for name in influences.OF_FACE}
    values["score"] = 0.5 + 0.1 * values["brightness"] - 0.05 * values["noise"] + noise * generator.normal(size=selfies)
    return pl.DataFrame(values, schema=dict.fromkeys(values, pl.Float64))


def test_planted_effects_are_found_in_percentage_points():
    """Those of the planted rule, whatever else was measured; the words fit the side on which a selfie is."""
    model = influences.fit(table(2000, noise=0.05))
    selfie = {**dict.fromkeys(MEASURED, 0.0), "brightness": 2.0, "noise": 1.5, "tilt": None}
    first, second, *rest = model.influences(selfie)
    assert (first.property, second.property) == ("brightness", "noise")
    assert first.points == pytest.approx(20, abs=1.5) and second.points == pytest.approx(-7.5, abs=1)
    assert all(abs(one.points) < 1 for one in rest)
    assert first.what == f"brighter than {first.more:.0f} % of selfies" and first.more == pytest.approx(97.7, abs=1.5)
    assert model.influences({"brightness": -2.0})[0].what.startswith("darker than 9")
    assert model.explained == pytest.approx(0.0125 / 0.015, abs=0.03)


def test_a_value_beyond_all_selfies_counts_as_the_outermost():
    """A screenshot brighter than any selfie is not given more than the brightest of them; nor a darker one."""
    model = influences.fit(table(60, noise=0.05))
    column = model.columns[:, model.names.index("brightness")]
    for value, end in ((column.max() + 5, column.max()), (column.min() - 5, column.min())):
        [beyond], [outermost] = (model.influences({"brightness": one}) for one in (value, end))
        assert beyond.points == pytest.approx(outermost.points) and abs(outermost.points) > 5


def test_what_is_explained_is_of_selfies_left_out():
    """The closed form equals fits that leave out each selfie in turn."""
    generator = np.random.default_rng(1)
    values, target = generator.normal(size=(60, 5)), generator.normal(size=60)
    values -= values.mean(0)
    target += values[:, 0]
    _, explained = influences._ridge(values, target)
    best = np.inf
    for penalty in influences.PENALTIES:
        errors = []
        for out in range(60):
            # The intercept is not penalised.
            some = np.delete(np.column_stack([np.ones(60), values]), out, axis=0)
            weights = np.linalg.solve(
                some.T @ some + penalty * np.diag([0, 1, 1, 1, 1, 1]), some.T @ np.delete(target, out)
            )
            errors.append((target[out] - weights @ [1, *values[out]]) ** 2)
        best = min(best, np.mean(errors))
    assert explained == pytest.approx(1 - best / target.var(), abs=1e-6)


def test_luck_explains_nothing():
    """Then nothing is claimed; nor from too few selfies."""
    lucky = table(200, noise=0.05).with_columns(score=np.random.default_rng(5).random(200))
    model = influences.fit(lucky)
    assert model is None or model.explained < 0.05
    assert influences.fit(table(49, noise=0)) is None


def test_without_faces_they_are_not_spoken_of():
    model = influences.fit(table(300, noise=0.05, faces=False))
    assert "brightness" in model.names and not set(model.names) & set(influences.OF_FACE)


def test_no_face_is_not_weighed_by_selfies_that_all_have_one():
    """A line through one, two and three faces says nothing of none."""
    faces = np.random.default_rng(2).integers(1, 4, 300).astype(float)
    model = influences.fit(table(300, noise=0.05).with_columns(faces=faces, score=0.9 - 0.2 * faces))
    assert model.influences({"faces": 3.0})[0].what == "3 faces" and not model.influences({"faces": 0.0})


def test_every_property_has_words():
    """For more of it and for less."""
    assert {*WORDS, "faces"} == set(MEASURED)


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("\n0.", "\nx", "cannot read .*test_properties.csv"),
        ("contrast", "contr\xc3st", "test_properties.csv has no column 'contrast'"),
        ("\n", '\n"', "test_properties.csv: line 2 opens a quote"),
    ],
)
def test_a_table_of_properties_that_was_changed_by_hand_is_one_line(own_run, old, new, complaint):
    values = table(60, noise=0.05).with_columns(face_area=pl.lit(0.1), head_distance=pl.lit(1.0))
    rest = [name for name in (*PIXELS, *FACE) if name not in values.columns]
    columns = ["score", *PIXELS, *FACE]
    text = values.with_columns(pl.lit(0.5).alias(name) for name in rest).select(columns).write_csv()
    file = own_run.folder / "test_properties.csv"
    file.write_text(text)
    assert influences.load(own_run)
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(SelfieError, match=complaint):
        influences.load(own_run)
