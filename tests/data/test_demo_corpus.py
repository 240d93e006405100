"""The demo corpus: what was planted is there, nothing else is, and the best possible accuracy is computed right."""

from __future__ import annotations

import filecmp
import os
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.demo_corpus import corpus
from selfie.data.demo_corpus.optimum import best_accuracy, chance_of_good
from selfie.data.demo_corpus.plan import FOLLOWERS, draw_plan
from selfie.data.demo_corpus.render import render
from selfie.data.demo_corpus.rules import AS_OF, BORDER, FILTER, GROUP, HEAD, LIGHT, NOISE

PLANTED = ("light", "head", "group", "border", "filter")
TEXT = {"id": pl.String, "likes": pl.Int64, "posted_at": pl.String}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, planted, manifest, truth) of a small corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "demo"
    planted = corpus.make(folder, users=60, seed=3, jobs=1)
    return (
        folder,
        planted,
        pl.read_csv(folder / "manifest.csv", schema_overrides=TEXT),
        pl.read_csv(folder / "truth.csv"),
    )


@pytest.fixture(scope="module")
def plan():
    """(posts, truth) of a large corpus of which no picture is drawn."""
    return draw_plan(3000, np.random.default_rng(0))


def effects(truth):
    """The five planted effects of ordinary selfies, by the module's own description."""
    return {
        "light": truth["stops"].to_numpy(),
        "head": np.log2(truth["face"].to_numpy() * 3) ** 2,
        "group": truth["heads"].to_numpy() > 1,
        "border": truth["border"].to_numpy() > 0,
        "filter": truth["filter"].to_numpy() != "none",
    }


def label_by_the_rule(posts, truth, group=100):
    """Labels of ordinary posts: sorted by audience, in groups, the top half by likes is good."""
    rows = posts.join(truth.select("id", "kind", "reach"), on="id").filter(pl.col("kind") == "selfie")
    rows = rows.unique("id").sort("reach", "id")[: rows.height // group * group - group]
    likes = rows["likes"].to_numpy().reshape(-1, group)
    return rows.select("id", label=((likes.argsort(1).argsort(1)) >= group // 2).ravel().astype(int))


def test_every_trouble_is_in_the_files_as_often_as_planted_json_says(made):
    """The counts are those of the manifest and the images, found without looking at the truth."""
    folder, planted, posts, truth = made
    assert planted == paths.read_json(folder / "planted.json")
    counts = planted["trouble"]
    assert all(
        counts[name] > 0
        for name in ("no_face", "broken", "same_image", "same_id", "no_likes", "bad_date", "too_young", "many_tags")
    )
    assert posts.height == planted["rows"] and posts["id"].n_unique() == planted["pictures"] == truth.height
    assert posts.height - posts["id"].n_unique() == counts["same_id"]
    once = posts.unique("id")
    dates = once["posted_at"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False)
    assert once["likes"].null_count() == counts["no_likes"]
    assert dates.null_count() == counts["bad_date"]
    assert ((AS_OF - dates).dt.total_days() < 30).sum() == counts["too_young"]
    assert (once["tags"].str.split(" ").list.len() >= 40).sum() == counts["many_tags"]
    assert (once["followers"] < FOLLOWERS[0]).sum() == counts["few_followers"]
    assert (once["followers"] > FOLLOWERS[1]).sum() == counts["many_followers"]
    contents = [(folder / "images" / path).read_bytes() for path in once["path"]]
    whole = [content for content in contents if content.endswith(b"\xff\xd9")]
    assert len(contents) - len(whole) == counts["broken"]
    assert len(whole) - len(set(whole)) == counts["same_image"]


def test_three_sorts_of_broken_file(made):
    """Truncated, empty and text, in turn."""
    folder, _, _, truth = made
    broken = truth.filter(kind="broken")
    assert set(broken["damage"]) == {"truncated", "empty", "text"}
    starts = {"truncated": b"\xff\xd8\xff", "empty": b"", "text": b"No "}
    for name, damage in broken.select("id", "damage").iter_rows():
        assert (folder / "images" / f"{name}.jpg").read_bytes()[:3] == starts[damage]


def test_pictures_have_the_planned_size_between_256_and_400(made):
    """Every picture that is not broken decodes, and its sides are those of the truth."""
    folder, _, _, truth = made
    for row in truth.filter(pl.col("kind") != "broken").to_dicts():
        picture = image.read(folder / "images" / f"{row['id']}.jpg")
        assert picture.shape == (row["height"], row["width"], 3)
        assert min(picture.shape[:2]) >= 256 and max(picture.shape[:2]) <= 410


def test_the_same_seed_gives_the_same_files_for_any_number_of_jobs(made, tmp_path):
    """Three processes write the same bytes as one; another seed does not."""
    folder, _, posts, _ = made
    corpus.make(tmp_path / "again", users=60, seed=3, jobs=3)
    names = ["manifest.csv", "truth.csv", "planted.json", *(f"images/{path}" for path in posts["path"])]
    assert filecmp.cmpfiles(folder, tmp_path / "again", names, shallow=False)[1:] == ([], [])
    corpus.make(tmp_path / "other", users=5, seed=4, jobs=1)
    assert (tmp_path / "other/images/s000000.jpg").read_bytes() != (folder / "images/s000000.jpg").read_bytes()


def test_planted_attributes_are_independent_of_each_other_and_of_the_audience(plan):
    """About 11,000 rows: correlations beyond 0.04 (four standard errors) would be a rule nobody planted."""
    truth = plan[1].filter(kind="selfie")
    columns = effects(truth) | {"reach": np.log(truth["reach"].to_numpy()), "face": truth["face"].to_numpy()}
    for one, other in combinations(columns, 2):
        if {one, other} != {"head", "face"}:
            assert abs(np.corrcoef(columns[one], columns[other])[0, 1]) < 0.04, (one, other)


def test_nuisances_do_not_move_quality(plan):
    """Place, tilt, mirror, colours, size and background tell nothing about the likes."""
    truth = plan[1].filter(kind="selfie").with_columns(aside=(pl.col("x") - 0.5).abs(), slant=pl.col("tilt").abs())
    quality = truth["quality"].to_numpy()
    for name in ("x", "aside", "y", "tilt", "slant", "mirror", "warmth", "suit", "width", "height"):
        assert abs(np.corrcoef(truth[name].to_numpy(), quality)[0, 1]) < 0.05, name
    spread = truth.group_by("background").agg(pl.col("quality").mean())["quality"]
    assert spread.max() - spread.min() < 0.2 * quality.std()


def test_likes_follow_the_documented_formula(plan):
    """A regression of log likes on the five effects and the reach finds the documented numbers."""
    rows = plan[0].unique("id").join(plan[1], on="id").filter(pl.col("kind") == "selfie", pl.col("reach") > 3000)
    columns = effects(rows)
    design = np.column_stack([*(columns[name] for name in PLANTED), np.log(rows["reach"]), np.ones(rows.height)])
    fitted, residual = np.linalg.lstsq(design, np.log(rows["likes"].to_numpy()), rcond=None)[:2]
    want = [LIGHT, -HEAD, -GROUP, BORDER, FILTER, 1.0]
    np.testing.assert_allclose(fitted[:6], want, rtol=0.15)
    assert np.sqrt(residual[0] / rows.height) == pytest.approx(NOISE, rel=0.1)


def test_best_accuracy_is_about_80_percent_and_is_reached(plan):
    """The accuracy expected from the noise model is what the best classifier then has on labels by the post's rule."""
    posts, truth = plan
    best = best_accuracy(truth, label_by_the_rule(posts, truth))
    assert best["expected"] == pytest.approx(0.80, abs=0.012)
    assert abs(best["realised"] - best["expected"]) < 4 * best["standard_error"]


def test_chance_of_good_agrees_with_the_closed_form():
    """Normal quality of deviation s, equal audiences, large groups: the best accuracy is 1 - arccos(r) / pi with
    r = s / sqrt(s^2 + noise^2) (probability of a quadrant of the bivariate normal)."""
    quality = np.random.default_rng(0).normal(0, 0.9, 4000)
    p = chance_of_good(quality, np.ones(4000), group=1000, rounds=400, noise=0.7)
    want = 1 - np.arccos(0.9 / np.hypot(0.9, 0.7)) / np.pi
    assert np.maximum(p, 1 - p).mean() == pytest.approx(want, abs=0.006)
    assert p.mean() == pytest.approx(0.5, abs=0.002)
    assert np.corrcoef(np.argsort(np.argsort(quality)), p)[0, 1] > 0.95


def test_without_noise_the_best_classifier_is_never_wrong_but_near_the_threshold():
    """All that remains is the group's own median, which moves with its members."""
    quality = np.random.default_rng(0).normal(size=2000)
    p = chance_of_good(quality, np.ones(2000), group=1000, rounds=50, noise=0)
    assert np.maximum(p, 1 - p).mean() > 0.97


def test_best_accuracy_takes_any_selection_of_rows_but_not_none(plan):
    """A test split, or pictures that slipped through the face filter (p = 1/2)."""
    truth = plan[1]
    good = truth.filter(pl.col("p_good") > 0.95).head(50).select("id", label=pl.lit(1))
    assert best_accuracy(truth, good)["realised"] == 1.0
    faceless = truth.filter(kind="no_face").head(10).select("id", label=pl.lit(0))
    assert best_accuracy(truth, faceless)["expected"] == 0.5
    with pytest.raises(SelfieError, match="no labelled rows"):
        best_accuracy(truth, good.head(0))


def test_planted_attributes_show_in_the_pixels(plan):
    """One selfie, drawn again with one attribute changed: darker, white-edged, grey, flatter."""
    row = plan[1].filter((pl.col("kind") == "selfie") & (pl.col("heads") == 1)).row(0, named=True)
    row |= {"stops": 0.0, "border": 0.0, "filter": "none"}
    plain = render(row, seed=0)
    means = [render(row | {"stops": stops}, seed=0).mean() for stops in (-3.0, -1.5, 0.0)]
    assert means == sorted(means) and means[0] < 0.55 * means[2]
    framed = render(row | {"border": 0.1}, seed=0)
    assert framed[:20].min() > 240 and framed[:, -20:].min() > 240
    centre = np.s_[60:-60, 60:-60]
    assert np.array_equal(framed[centre], plain[centre])
    gray = render(row | {"filter": "black_and_white"}, seed=0)
    assert np.ptp(gray, axis=2).max() == 0 < np.ptp(plain, axis=2).max()
    for name in ("faded", "low_contrast", "washed_out"):
        assert render(row | {"filter": name}, seed=0).std() < 0.9 * plain.std()


def test_a_face_detector_finds_the_planted_face_where_the_truth_has_it(made):
    """scikit-image's cascade, at 192 px: found in at least 95 % of the pictures, with the planted place and size."""
    import skimage
    from skimage.feature import Cascade

    folder, _, _, truth = made
    cascade = Cascade(str(Path(skimage.__file__).parent / "data/lbpcascade_frontalface_opencv.xml"))
    rows = truth.filter(kind="selfie").head(60).to_dicts()
    hits = []
    for row in rows:
        picture = image.read(folder / "images" / f"{row['id']}.jpg")
        picture = cv2.resize(picture, (192, 192), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
        boxes = cascade.detect_multi_scale(picture, 1.15, 1, (24, 24), (192, 192), min_neighbor_number=4)
        near = [
            box["width"] / 192 / row["face"]
            for box in boxes
            if abs((box["c"] + box["width"] / 2) / 192 - row["x"]) < 0.4 * row["face"]
            and abs((box["r"] + box["height"] / 2) / 192 - row["y"]) < 0.4 * row["face"]
        ]
        hits.append(any(0.7 < ratio < 1.35 for ratio in near))
    assert np.mean(hits) >= 0.95


def test_an_earlier_corpus_is_replaced_whole_and_anything_else_is_left_alone(tmp_path):
    """Also one whose making was interrupted: the manifest, written last, is missing."""
    corpus.make(tmp_path / "mine", users=6, seed=0, jobs=1)
    (tmp_path / "mine/manifest.csv").unlink()
    corpus.make(tmp_path / "mine", users=2, seed=1, jobs=1)
    posts = pl.read_csv(tmp_path / "mine/manifest.csv", schema_overrides=TEXT)
    assert set(os.listdir(tmp_path / "mine/images")) == set(posts["path"])
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.txt").write_text("all my work")
    with pytest.raises(SelfieError, match="something else"):
        corpus.make(tmp_path / "theirs", users=2)
    assert os.listdir(tmp_path / "theirs") == ["thesis.txt"]
    corpus.make(tmp_path / "theirs", users=2, jobs=1, force=True)
    assert (tmp_path / "theirs/thesis.txt").read_text() == "all my work"


def test_pretraining_is_a_balanced_task_without_the_face(tmp_path):
    """A labels file of square crops, each class with the same share of validation rows."""
    made = corpus.make_pretraining(tmp_path / "p", seed=0, jobs=1, per_class=10)
    labels = pl.read_csv(tmp_path / "p/labels.csv")
    assert labels.columns == ["id", "path", "label", "split", "user", "audience", "group", "likes"]
    classes = (tmp_path / "p/classes.txt").read_text().split()
    assert made["classes"] == len(classes) == labels["label"].n_unique() == labels["label"].max() + 1
    assert "astronaut" not in classes
    counts = labels.group_by("label", "split").len()
    assert set(counts.filter(split="val")["len"]) == {1} and set(counts.filter(split="train")["len"]) == {9}
    assert image.read(tmp_path / "p/images" / labels["path"][0]).shape == (256, 256, 3)


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    """A file in the place of the folder is one line; no users are wrong usage; nothing is written."""
    (tmp_path / "file").write_text("mine")
    testlib.assert_one_line_error(testlib.command("tools/demo_corpus.py", "--out", tmp_path / "file"), "is a file")
    usage = testlib.command("tools/demo_corpus.py", "--out", tmp_path / "out", "--users", 0)
    assert usage.returncode == 2 and "'0' is not a whole number of at least 1" in usage.stderr
    with pytest.raises(SelfieError, match="at least one user"):
        corpus.make(tmp_path / "out", users=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
