"""What good selfies have in common: properties measured in pictures, and effects that do not borrow from each other."""

from __future__ import annotations

import json

import cv2
import numpy as np
import polars as pl
import pytest

import testlib
from selfie.common import clusters, parallel, paths, stats
from selfie.common.errors import SelfieError
from selfie.data import image, lmdb_reader, lmdb_writer
from selfie.data.demo_corpus import corpus
from selfie.data.lmdb_reader import Database
from selfie.experiments import findings, properties
from selfie.experiments.effects import Target, _partial, effects
from selfie.faces.face import Face
from selfie.runs import evaluate, run_folder

PLANTED = {"light", "head size", "group", "border", "filter"}
FACE = Face(80, 60, 90, 80, 1.0, ((100, 90), (140, 97), (120, 110), (105, 125), (138, 130)))


@pytest.fixture(scope="module")
def portrait(skimage_data):
    """A real portrait as the net sees it."""
    return image.square(image.read(skimage_data / "astronaut.png"))


def framed(bgr: np.ndarray, edge: int) -> np.ndarray:
    """The picture reduced into a white frame of the same outer size, coded as JPEG."""
    inside = cv2.resize(bgr, (256 - 2 * edge, 256 - 2 * edge), interpolation=cv2.INTER_AREA)
    whole = cv2.copyMakeBorder(inside, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(250, 250, 250))
    return cv2.imdecode(cv2.imencode(".jpg", whole)[1], cv2.IMREAD_COLOR)


def test_a_white_border_is_found_and_passes_for_nothing_else(portrait):
    """All around or on two sides; light and colour are those of the picture inside; a bright sky is no border."""
    plain, with_border = (properties.measure(bgr, None, 0) for bgr in (portrait, framed(portrait, 24)))
    assert plain["border"] == 0 and with_border["border"] == pytest.approx(1 - (208 / 256) ** 2, abs=0.04)
    for name in ("brightness", "contrast", "black_point", "saturation"):
        assert with_border[name] == pytest.approx(plain[name], abs=0.05), name
    bars = portrait.copy()
    bars[:30], bars[-30:] = 250, 250
    assert properties.border(bars)[:2] == pytest.approx((30, 30), abs=3) and properties.border(bars)[2:] == (0, 0)
    sky = portrait.copy()
    sky[:60] = 250
    assert properties.border(sky) == (0, 0, 0, 0)


def test_light_and_filters_are_told_apart(portrait):
    """Less light is darker, not less contrast; fading raises the black point; noise is noise under a filter, too."""

    def measured(picture):
        return properties.measure(np.clip(np.rint(picture), 0, 255).astype(np.uint8), None, 0)

    bright = portrait.astype(np.float32)
    grain = np.random.default_rng(0).normal(0, 12, bright.shape)
    plain, dark, faded, noisy, noisy_faded = map(
        measured, (bright, 0.5 * bright, 70 + 0.5 * bright, bright + grain, 70 + 0.5 * (bright + grain))
    )
    assert dark["brightness"] < 0.6 * plain["brightness"]
    assert dark["contrast"] == pytest.approx(plain["contrast"], abs=0.1)
    assert faded["black_point"] > plain["black_point"] + 0.2 and faded["contrast"] < plain["contrast"] - 0.4
    assert noisy["noise"] > plain["noise"] + 0.5
    assert noisy_faded["noise"] == pytest.approx(noisy["noise"], abs=0.25)
    gray = cv2.cvtColor(cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert (plain["gray"], measured(gray)["gray"], measured(gray)["saturation"]) == (0, 1, 0)
    assert measured(cv2.GaussianBlur(bright, (0, 0), 3))["sharpness"] < plain["sharpness"] - 0.5


def test_the_face_is_measured_in_shares_of_the_picture(portrait):
    """Size against a third, place, tilt from the eyes, a forehead at the edge; nothing without a face."""
    known = properties.measure(portrait, FACE, 2)
    size = np.sqrt(90 * 80) / 256
    assert known["faces"] == 2 and 2 ** known["face_area"] == pytest.approx(size**2)
    assert known["head_distance"] == pytest.approx(abs(np.log2(3 * size))) == known["head_small"] + known["head_large"]
    assert known["face_aside"] == pytest.approx(3 / 256) and known["face_height"] == pytest.approx(156 / 256)
    assert known["tilt"] == pytest.approx(np.degrees(np.arctan2(7, 40))) and known["forehead_cut"] == 0
    assert properties.measure(portrait, Face(80, 2, 90, 80, 1.0), 1)["forehead_cut"] == 1
    without = properties.measure(portrait, None, 0)
    assert without["faces"] == 0 and without["face_area"] is None and without["tilt"] is None


def table(rows: int, seed: int = 0) -> pl.DataFrame:
    """Properties of selfies that have nothing to do with each other, but noise with darkness and glare with light."""
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=rows) for name in (*properties.PIXELS, *properties.FACE)}
    values["noise"] = -values["brightness"] + 0.3 * rng.normal(size=rows)
    values["face_glare"] = values["brightness"] + 0.5 * rng.normal(size=rows)
    values["gray"], values["forehead_cut"] = (rng.random((2, rows)) < 0.2).astype(float)
    return pl.DataFrame(values)


def effects_of(values: pl.DataFrame, target: np.ndarray, extra=()) -> dict:
    score = Target(stats.normal_scores(target), stats.thirds(target))
    return effects(values, {"score": score}, extra, resamples=200)["score"]


def rule(result: dict, claim: str) -> dict:
    return next(row for row in result["rules"] if claim in (row["claim"], row["rule"]))


def test_what_only_comes_along_is_no_finding():
    """Glare and noise go with light, which alone matters: glare has a large delta, and light is the one finding."""
    values = table(600)
    result = effects_of(values, values["brightness"].to_numpy() + np.random.default_rng(1).normal(size=600))
    assert result["findings"] == ["light"]
    delta = {row["property"]: row["delta"] for row in result["properties"]}
    assert delta["face_glare"] > 0.4 and delta["noise"] < -0.4 and abs(delta["tilt"]) < 0.2
    assert rule(result, "light")["verdict"] == "confirmed" and rule(result, "sharpness")["verdict"] == ""


def test_each_claim_is_confirmed_contradicted_or_not_measurable():
    """By the direction; by an effect that is surely less than small; by a missing column; by a constant property."""
    values = table(3000).with_columns(gray=pl.lit(0.0), forehead_cut=pl.lit(0.0))
    target = -0.5 * values["border"].to_numpy() + 0.5 * values["tilt"].to_numpy()
    result = effects_of(values, target + np.random.default_rng(1).normal(size=3000))
    assert set(result["findings"]) == {"border", "tilt"}
    assert rule(result, "tilt")["verdict"] == "confirmed"
    assert (rule(result, "border")["verdict"], rule(result, "border")["partial"] < -0.3) == ("contradicted", True)
    assert rule(result, "group")["verdict"] == "contradicted" and "negligible" in rule(result, "group")["why"]
    assert (rule(result, "forehead")["verdict"], rule(result, "gender")["verdict"]) == ("not measurable here",) * 2
    assert "is_female" in rule(result, "gender")["why"] and "gray" not in rule(result, "filter")["members"]
    assert len(values) > rule(effects_of(values[:120], target[:120]), "sharpness")["selfies"] > 0
    with pytest.raises(SelfieError, match="findings need 50 scored selfies, not 30"):
        effects_of(values[:30], target[:30])


def test_few_selfies_hardly_judge_a_claim():
    """Sixty selfies and a score that has nothing to do with them, five times: of some 50 verdicts nearly all are open.
    (The interval of each claim alone, below the least effect that counts, would contradict every eighth.)"""
    judged = []
    for seed in range(5):
        result = effects_of(table(60, seed), np.random.default_rng(seed + 100).normal(size=60))
        measured = [row["verdict"] for row in result["rules"] if row["claim"] and "partial" in row]
        judged += [verdict != "not measurable here" for verdict in measured]
    assert len(judged) > 40 and sum(judged) <= 1


def test_what_is_only_the_users_is_no_finding():
    """Properties and scores that are alike in one user's selfies but have nothing to do with each other: taken as
    independent, selfies find something in most of five tables; with their users hardly ever."""
    users = np.repeat(np.arange(25), 15)
    mistaken, found = 0, 0
    for seed in range(5):
        rng = np.random.default_rng(seed + 100)
        own = table(25, seed)[users.tolist()]
        values = table(375, seed + 50).select(pl.col(name) + own[name] for name in own.columns)
        target = rng.normal(size=25)[users] + 0.5 * rng.normal(size=375)
        score = {"score": Target(stats.normal_scores(target), stats.thirds(target))}
        mistaken += bool(effects(values, score, (), resamples=100)["score"]["findings"])
        result = effects(values, score, (), resamples=100, users=users)["score"]
        found += bool(result["findings"])
        assert result["users"] == 25 and all(row["users"] == 25 for row in result["properties"])
    assert mistaken >= 3 and found <= 1
    with pytest.raises(SelfieError, match="of 10 users, not 3"):
        effects(values, score, (), users=users % 3)


def test_where_few_have_a_face_the_rest_is_told_all_the_same():
    """All selfies are used, claims about faces are not measurable, and the reason says why."""
    values = table(400).with_columns(
        pl.when(pl.int_range(pl.len()) < 20).then(pl.col(name)).alias(name)
        for name in properties.FACE
        if name != "faces"
    )
    values = values.with_columns(faces=(pl.int_range(pl.len()) < 20).cast(pl.Float64))
    result = effects_of(values, values["border"].to_numpy() + np.random.default_rng(1).normal(size=400))
    assert (result["selfies"], result["findings"]) == (400, ["border"])
    assert rule(result, "head size")["why"] == "only 20 selfies have a detected face"
    assert "partial" in rule(result, "group")


def test_attributes_of_the_manifest_are_rules_of_their_own(tmp_path):
    """Numbers count, with gaps; text, ids, likes and what is measured here do not."""
    (tmp_path / "m.csv").write_text(
        "id,path,likes,face_count,is_female,smiling,mood,posted_at\n"
        "a,a.jpg,5,1,-1,1,merry,2015-01-01\nb,b.jpg,7,1,1,,sad,2015-01-02\n"
    )
    from selfie.data import manifest

    attributes = findings.attributes(manifest.read(tmp_path / "m.csv"))
    assert attributes.columns == ["id", "is_female", "smiling"] and attributes["smiling"].to_list() == [1.0, None]

    rng = np.random.default_rng(3)
    female = pl.Series(rng.choice([-1, 0, 1, np.nan], 600)).fill_nan(None)
    values = table(600).with_columns(is_female=female, smiling=pl.Series(rng.normal(size=600)))
    result = effects_of(values, female.fill_null(0).to_numpy() + rng.normal(size=600), ["is_female", "smiling"])
    assert result["findings"] == ["gender"] and rule(result, "gender")["verdict"] == "confirmed"
    assert rule(result, "gender")["selfies"] == female.is_not_null().sum() and "partial" in rule(result, "smiling")


def test_statistics_agree_with_textbook_values():
    """Cliff's delta counted pair by pair; Holm's correction by hand; a partial correlation from its formula."""
    rng = np.random.default_rng(0)
    upper, lower = rng.integers(0, 9, 40), rng.integers(0, 7, 50)
    effect = clusters.cliff(np.concatenate([upper, lower]), np.repeat([1, 0], [40, 50]), np.arange(90), 0, 200)
    assert effect["delta"] == pytest.approx(np.sign(upper[:, None] - lower).mean())
    assert effect["delta_low"] < effect["delta"] < effect["delta_high"]
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    x, y, z = rng.normal(size=(3, 500)) + rng.normal(size=500)
    (_, xy, xz), (_, _, yz), _ = np.corrcoef([x, y, z])
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    columns = np.column_stack([np.ones(500), z, x, y])
    gram = (columns.T @ columns)[None]
    assert _partial(gram, [0, 1], np.array([0, 0, 1, 0])) == pytest.approx(expected, abs=1e-4)


def test_the_planted_rules_are_recovered_and_no_other(tmp_path):
    """Of a demo corpus, with a score that knows the quality but for some noise; a manifest has the faces."""
    corpus.make(tmp_path / "corpus", users=180, seed=5)
    truth = pl.read_csv(tmp_path / "corpus" / "truth.csv", infer_schema_length=None).filter(kind="selfie")
    rng = np.random.default_rng(0)
    truth.select(
        "id", path=pl.col("id") + ".jpg", label=(pl.col("p_good") > 0.5).cast(int), split=pl.lit("test")
    ).write_csv(tmp_path / "labels.csv")
    lmdb_writer.build(tmp_path / "labels.csv", tmp_path / "corpus" / "images", tmp_path / "lmdb")
    side = (pl.col("width") * pl.col("height")).sqrt() * pl.col("face")
    boxes = truth.select("id", face_count="heads", face_w=side / pl.col("width"), face_h=side / pl.col("height"))
    boxes = boxes.with_columns(face_x=truth["x"] - boxes["face_w"] / 2, face_y=truth["y"] - boxes["face_h"] / 2)
    values = findings.measure(tmp_path / "lmdb" / "test", boxes)
    quality = values.select(id=lmdb_reader.id_column("key")).join(truth, on="id", how="left")["quality"].to_numpy()
    result = effects_of(values, quality + rng.normal(0, 0.5, len(quality)))
    assert set(result["findings"]) == PLANTED
    assert {row["verdict"] for row in result["rules"] if row["rule"] in PLANTED} == {"confirmed"}
    assert findings.measure(tmp_path / "lmdb" / "test", boxes, jobs=1).equals(values), "any number of jobs"


def test_opencv_keeps_its_threads(tiny_lmdb):
    """Measuring and detecting in this process leaves it as it was."""
    with parallel.opencv_threads(3):
        assert findings.measure(tiny_lmdb / "test", detector="lbp", jobs=1).height == testlib.SPLITS["test"]
        assert cv2.getNumThreads() == 3


def test_the_command_writes_its_files_and_errors_are_one_line(own_run, tmp_path):
    """Unscored, too few: one line each. With faces in the manifest: tables, files, and JSON for programs."""
    unscored = tmp_path / "run"
    unscored.mkdir()
    (unscored / "run.json").write_text((own_run.folder / "run.json").read_text())
    testlib.assert_one_line_error(testlib.command("tools/findings.py", "--run", unscored), "make eval")
    evaluate.evaluate(own_run)
    testlib.assert_one_line_error(
        testlib.command("tools/findings.py", "--run", own_run.folder, "--detector", "lbp"),
        "need 50 scored selfies, not 24",
    )
    pictures = testlib.databases(tmp_path, {"train": 2, "val": 2, "test": 90})
    metas = {split: paths.read_json(pictures / split / "meta.json") for split in ("train", "val")}
    run = run_folder.load(unscored).save(lmdb={"path": str(pictures), **metas})
    with Database(pictures / "test") as records:
        scored = [(key, label, bgr.mean() / 255) for key, bgr, label in records]
    pl.DataFrame(scored, orient="row", schema=["key", "label", "score"]).write_csv(run.folder / "test_scores.csv")
    posts = pl.read_csv(pictures / "test" / "posts.csv")
    paths.write_csv(pictures / "test" / "posts.csv", posts.with_columns(user=pl.int_range(pl.len()) // 3))
    rng = np.random.default_rng(0)
    keys = [lmdb_reader.id_of(key) for key, *_ in scored]
    x, y, w, h = rng.uniform(0.2, 0.4, (4, len(keys)))
    pl.DataFrame({"id": keys, "face_count": [1, 2] * 45, "face_x": x, "face_y": y, "face_w": w, "face_h": h}).write_csv(
        tmp_path / "m.csv"
    )
    result = testlib.command(
        "tools/findings.py", "--run", run.folder, "--manifest", tmp_path / "m.csv", "--json", "--resamples", 100
    )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["faces"] == "manifest" and printed["score"]["selfies"] == len(keys)
    assert printed["users_known"] and printed["score"]["users"] == printed["labels"]["users"] == 30
    assert next(row for row in printed["labels"]["properties"] if row["property"] == "brightness")["delta"] > 0.9
    assert {"findings.csv", "findings.png", "test_properties.csv"} <= {path.name for path in run.folder.iterdir()}
    measured = pl.read_csv(run.folder / "test_properties.csv")
    assert stats.auc(measured["brightness"].to_numpy(), measured["label"].to_numpy()) > 0.9
    (tmp_path / "m.csv").write_text("id,face_count,face_x,face_y,face_w,face_h\na,1,left,0,1,1\n")
    with pytest.raises(SelfieError, match=r"m\.csv: face_x, .* hold values that are no numbers"):
        findings.find(run, manifest_file=tmp_path / "m.csv")
