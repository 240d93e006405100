"""A net that learned from small pictures scores a photo as what it would be among them, whatever its size."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.data import detail as details
from selfie.data import image, lmdb_writer
from selfie.data.lmdb_reader import Database
from selfie.experiments import crop_space, crops, spatial_transformer
from selfie.experiments.features import Files
from selfie.net import variants
from selfie.runs import prepare, run_folder, score, train

DETAIL = 32
PHOTOS = ("astronaut.png", "camera.png", "brick.png", "gravel.png", "moon.png", "ihc.png")  # 512 x 512 each
SIDES = (512, 128, 64, 32)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Databases of pictures of 32 pixels: good ones are smooth, bad ones have as much noise as such pictures can."""
    folder = tmp_path_factory.mktemp("small")
    labels = testlib.pictures(folder)
    generator = np.random.default_rng(1)
    for number, file in enumerate(sorted((folder / "images").iterdir())):
        smooth = cv2.resize(generator.uniform(0, 255, (4, 4, 3)).astype(np.float32), (DETAIL, DETAIL))
        noise = generator.normal(0, 0 if number % 2 else 60, (DETAIL, DETAIL, 3))
        cv2.imwrite(str(file), (smooth + noise).clip(0, 255).astype(np.uint8))
    for name, detail in (("with", DETAIL), ("without", 0)):
        lmdb_writer.build(labels, folder / "images", folder / name, raw=True, jobs=1, detail=detail)
    return folder


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A run of the demo net on them."""
    return train.train(testlib.job(small / "with", tmp_path_factory.mktemp("run") / "detail", max_iter=60))


def reduced(bgr: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(bgr, (side, side), interpolation=cv2.INTER_AREA)


def test_pictures_that_small_are_what_they_were(small):
    """So the databases of both builds hold the same pixels, and only say different things of them."""
    with Database(small / "with" / "train") as one, Database(small / "without" / "train") as other:
        assert one.meta["content"] == other.meta["content"]
        assert one.meta["inputs"] == {**other.meta["inputs"], "detail": DETAIL}


def test_what_is_reduced_twice_is_what_is_reduced_once():
    """From a photo, and from copies of it between one and five times as large as the result, whatever their aspect:
    closer than by plain averaging, and closer the larger the copy is."""
    generator = np.random.default_rng(3)
    photo = cv2.GaussianBlur(generator.normal(128, 60, (640, 768, 3)).astype(np.float32), (0, 0), 6) * 8 - 896
    photo = photo.clip(0, 255).astype(np.uint8)
    once = details.reduce(photo, DETAIL, DETAIL).astype(float)
    for side, off in ((34, 0.3), (39, 0.2), (48, 0.1), (63, 0.04), (96, 0.03), (127, 0.03)):
        copy = cv2.resize(photo, (side * 6 // 5, side), interpolation=cv2.INTER_AREA)
        twice = np.abs(details.reduce(copy, DETAIL, DETAIL) - once).mean()
        plain = np.abs(cv2.resize(copy, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA) - once).mean()
        assert twice < off * once.std() and twice < 0.9 * plain, (side, twice, plain, once.std())


def test_reducing_is_the_mean_from_afar_and_nothing_at_no_distance():
    """A picture four times as large or more is averaged; one of the size stays, and so does an even one of any."""
    noise = np.random.default_rng(4).integers(0, 256, (160, 128, 3)).astype(np.uint8)
    mean = cv2.resize(noise.astype(np.float32), (32, 40), interpolation=cv2.INTER_AREA)
    assert np.abs(details.reduce(noise, 32, 40) - mean).max() <= 0.51
    assert details.reduce(noise, 128, 160) is noise and details.reduce(noise, 200, 200) is noise
    for side in (33, 50, 99, 400):
        assert (details.reduce(np.full((side, side + 7, 3), 77, np.uint8), 32, 32) == 77).all()


def test_a_photo_scores_as_its_own_reductions(run, small, skimage_data, tmp_path):
    """Within three percentage points; without the detail a sharp photo scores as no small picture does."""
    scores = {}
    for name in PHOTOS:
        photo = image.read(skimage_data / name)
        files = [str(tmp_path / f"{side}-{name}") for side in SIDES]
        for side, file in zip(SIDES, files):
            image.write(file, reduced(photo, side))
        scores[name] = [one.score for one in score.score(run, files)]
        assert np.ptp(scores[name]) < 0.03, (name, scores[name])
    blind = run_folder.Run(run.folder, {**run.info, "preprocessing": {**run.info["preprocessing"], "detail": 0}})
    net = blind.net()
    photos = [image.read(skimage_data / name) for name in PHOTOS]
    before = [net.squared_scores([reduced(photo, side) for side in SIDES]) for photo in photos]
    assert max(np.ptp(each) for each in before) > 0.1, before


def test_every_way_in_shows_the_same_pixels(run, skimage_data, tmp_path):
    """Files, features, crops and databases built with it: the picture that a run sees is one."""
    photo = image.read(skimage_data / "coffee.png")
    wanted = cv2.resize(cv2.resize(photo, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA), (256, 256))
    image.write(tmp_path / "photo.png", photo)
    [(_, read)] = score.read_ahead([str(tmp_path / "photo.png")], 1, run.preprocessing)
    [(_, exported)] = Files(["photo.png"], tmp_path).read(["photo.png"], run.preprocessing)
    for seen in (read, exported, run.preprocessing.square(photo)):
        np.testing.assert_array_equal(seen, wanted)
    whole = crop_space.Window(0, 0, photo.shape[1], photo.shape[0])
    assert crops.Searcher(run).exact(photo, [whole])[0] == pytest.approx(run.net().scores(wanted[None])[0], abs=1e-6)


@pytest.mark.parametrize("wanted", [(321, 325), (208, 384), (400, 400)])
def test_a_level_holds_the_pixels_of_its_crops(run, skimage_data, wanted):
    """To a grey level, but for the border, where one crop ends and a level goes on; the net does not see that."""
    photo = image.read(skimage_data / "astronaut.png")
    size, own = crop_space.level_size(*wanted, 8, 256), run.preprocessing
    for part in crop_space.passes(crop_space.space(photo, own.crop), *size, 8, own):
        resized = crop_space.level(photo, part, 8, own)
        for number, window in enumerate(part.windows):
            row, column = (32 * place for place in divmod(number, part.columns))
            seen = resized[row + 4 : row + 252, column + 4 : column + 252].astype(int)
            assert np.abs(seen - own.square(window.cut(photo))[4:-4, 4:-4]).max() <= 1


def test_a_glimpse_at_a_crop_is_the_crop(run, skimage_data):
    """The spatial transformer reduces as much; its slope is the derivative of what it computes."""
    photo = image.read(skimage_data / "astronaut.png")
    looking = spatial_transformer.Glimpses(run, photo)
    for left, top, side in ((0, 0, 512), (100, 40, 256)):
        theta = np.array([[side / 512, 0, (2 * left + side) / 512 - 1, 0, side / 512, (2 * top + side) / 512 - 1]])
        odds = looking.look(theta)[0]
        crop = run.preprocessing.square(photo[top : top + side, left : left + side])
        expected = run.preprocessing.prepare(crop[None])
        assert np.abs(looking.net.blobs["data"].data - expected).mean() < 1.5
        bad, good = run.net().forward(crop[None], (looking.odds,))[0].reshape(2)
        assert odds == pytest.approx(good - bad, rel=0.1, abs=0.2)
    theta = np.array([[0.62, 0.21, 0.05, -0.17, 0.55, -0.11]])
    _, slope = looking.slope(theta)
    ahead, behind = (looking.look(theta + sign * 1e-4 * np.eye(6)) for sign in (1, -1))
    assert np.linalg.norm((ahead - behind) / 2e-4 - slope[0]) < 0.1 * np.linalg.norm(slope)


def test_a_run_carries_it_and_refuses_databases_of_another(run, small):
    """In run.json, whatever its variant says; a database built without it would be scored as something else."""
    assert json.loads((run.folder / "run.json").read_text())["preprocessing"]["detail"] == DETAIL
    assert run.preprocessing == replace(variants.get("demo").preprocessing, detail=DETAIL)
    other = run_folder.Run(run.folder, {**run.info, "lmdb": {**run.info["lmdb"], "path": str(small / "without")}})
    with pytest.raises(SelfieError, match="another --detail"):
        other.database("val")
    assert prepare.plan(testlib.job(small / "without", small / "new")).info["preprocessing"]["detail"] == 0


@pytest.mark.parametrize("detail", ["-1", "257", "many"])
def test_a_detail_that_cannot_be_is_one_line(small, tmp_path, detail):
    """More than the stored size would be none."""
    arguments = ["--labels", small / "labels.csv", "--images", small / "images", "--out", tmp_path / "lmdb"]
    result = testlib.command("tools/make_lmdb.py", *arguments, "--detail", detail)
    assert result.returncode and "--detail" in result.stderr and not (tmp_path / "lmdb").exists()
