"""The page of scores: what it shows of which photo, what it must not show, and how it looks at both widths."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import testlib
from browser import Browser
from selfie.common.errors import SelfieError
from selfie.data import label_rule
from selfie.experiments import explanation, score_page
from selfie.experiments.grids import WORST_CELL
from selfie.runs.run_folder import Run
from selfie.runs.score import Scored


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Four photos: two bright and two dark, one of each large, with a place in their metadata."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, grey, size in (("a", 200, 700), ("b", 170, 260), ("c", 60, 700), ("d", 40, 260)):
        noise = generator.normal(grey, 30, (40, 50, 3)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(cv2.resize(noise, (size, size * 4 // 5)))
        exif = Image.Exif()
        exif[0x010F] = "SECRET-CAMERA"
        exif.get_ifd(0x8825)[1] = "N"
        picture.save(folder / f"{name}.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def page(tiny_run, photos, tmp_path_factory) -> Path:
    """The page of these photos, a broken one and a missing one, as the command writes it."""
    out = tmp_path_factory.mktemp("page") / "out"
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    arguments = ("--run", tiny_run.folder, photos, "nowhere.jpg", "--html", out, "--csv")
    result = testlib.command("tools/score.py", *arguments)
    assert result.returncode == 1 and f"the page: {out / 'index.html'}" in result.stderr
    assert len(result.stdout.splitlines()) == 7, "standard output is what it was without a page"
    return out / "index.html"


def sizes(page: Path) -> dict[str, int]:
    """The longer side of each picture beside the page."""
    return {file.name: max(cv2.imread(str(file)).shape) for file in page.parent.glob("pictures/*")}


def test_those_below_one_half_stay_small(page):
    """In the page and on the disk; the others are shown, with their best crops where these can be looked for."""
    found = sizes(page)
    large = {name for name, side in found.items() if side > WORST_CELL}
    assert large == {"0001.jpg", "0001-crop.jpg", "0002.jpg"}, "0002 is too small to be cropped"
    assert {name for name in found if "small" in name} == {f"{number:04d}-small.jpg" for number in range(1, 5)}
    assert page.read_text().count('class="photo small"') == 2


def test_a_photo_by_itself_is_shown_as_it_is(tiny_run, photos, tmp_path):
    """Whoever scores his own sees it, whatever its score is."""
    scored = [Scored(str(photos / "c.jpg"), 0.01, 2.0)]
    page = score_page.write(tiny_run, scored, tmp_path / "out")
    assert sizes(page)["0001.jpg"] == 700 and "How good is this selfie?" in page.read_text()


def test_no_metadata_leaves_the_photo(page):
    for file in page.parent.glob("pictures/*"):
        assert b"SECRET" not in file.read_bytes() and not Image.open(file).getexif()


def test_the_page_says_what_the_score_is_and_is_not(page):
    text = " ".join(re.sub("<[^>]+>", "", page.read_text()).split())
    for words in (
        "it beats",
        "among posts with a similar audience",
        "not a measure of how somebody looks",
        "No interval: this run",
        "This run has no measured selfies to compare with",
        "broken.jpg: broken or truncated",
        "nowhere.jpg: no such file",
    ):
        assert words in text, words


def test_an_ensembles_interval_is_shown(heads_run, photos, tmp_path):
    """In words, and as a band."""
    scored = [Scored(str(photos / "a.jpg"), 0.7, 80.0, None, 0.55, 0.81)]
    text = score_page.write(heads_run, scored, tmp_path / "out").read_text()
    assert "Interval: 55&nbsp;% to 81&nbsp;%" in text and 'class="band l55 w26"' in text
    assert "No interval" not in text


def test_a_photo_that_the_net_does_not_know_is_told(heads_run, photos, tmp_path):
    """Beside its score, with the number, and of its best crop; not beside others."""
    scored = [
        Scored(str(photos / "a.jpg"), 0.9, 80.0, None, 0.02, 0.98, 96.6),
        Scored(str(photos / "b.jpg"), 0.8, 70.0),
    ]
    text = " ".join(score_page.write(heads_run, scored, tmp_path / "out").read_text().split())
    first, second = text.split('id="photo-1"')[1].split('id="photo-2"')
    assert "Unlike what this net learned from:</b> 97&nbsp;% of its training selfies" in first
    assert "the best square crop would get <b" in first or "The best square crop would get <b" in first
    assert "The net does not know such crops" in first and '<b class="unknown">' in first
    assert "Unlike" not in second.partition('id="meaning"')[0]


def test_whom_a_photo_beats_is_told_where_most_of_them_are_bad(tiny_run, photos, tmp_path):
    """Without it, 8 % that beat 70 of 100 selfies would be a riddle."""
    databases = {"train": {**tiny_run.info["lmdb"]["train"], "labels_file": {"rule": label_rule.PUBLISHED}}}
    extremes = Run(tiny_run.folder, {**tiny_run.info, "lmdb": {**tiny_run.info["lmdb"], **databases}})
    for run, crowd in ((extremes, "selfies, most of them of the worst"), (tiny_run, "selfies")):
        text = score_page.write(
            run, [Scored(str(photos / "c.jpg"), 0.08, 70.0)], tmp_path / str(len(crowd))
        ).read_text()
        assert f"it beats 70 of 100 {crowd}.</p>" in text


def test_it_is_written_again_over_itself_and_over_nothing_else(tiny_run, photos, page, tmp_path):
    """A folder with other things is refused before anything is scored; a page's own pictures are not scored."""
    out = tmp_path / "photos" / "out"
    shutil.copytree(photos, tmp_path / "photos")
    command = ("tools/score.py", "--run", tiny_run.folder, tmp_path / "photos", "--lenient", "--html", out)
    for left_out in ("", "pictures of the page itself are left out"):
        result = testlib.command(*command)
        assert result.returncode == 0 and result.stdout.count(".jpg") == 4 and left_out in result.stderr
    for taken in (tmp_path / "photos", photos / "a.jpg"):
        refused = testlib.command("tools/score.py", "--run", tiny_run.folder, photos / "a.jpg", "--html", taken)
        testlib.assert_one_line_error(refused, "is not empty and no page of scores")
    assert len(list((tmp_path / "photos").glob("*.jpg"))) == 5
    mine = out / "pictures" / "holiday.jpg"
    shutil.copy(photos / "a.jpg", mine)
    (out / "index.html").unlink()
    with pytest.raises(SelfieError, match="is not empty and no page"):
        score_page.write(tiny_run, [Scored(str(photos / "a.jpg"), 0.9, 50.0)], out)
    mine.unlink()
    (out / "pictures" / "0009-crop.jpg").write_bytes(b"of a page that was killed")
    score_page.write(tiny_run, [Scored(str(photos / "a.jpg"), 0.9, 50.0)], out)
    assert sorted(sizes(out / "index.html")) == ["0001-crop.jpg", "0001-small.jpg", "0001.jpg"]
    with pytest.raises(SelfieError, match="no photo was scored"):
        score_page.write(tiny_run, [Scored("x", error="no such file")], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_only_the_best_are_explained_and_the_rest_is_listed(tiny_run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(score_page, "EXPLAINED", 1)
    monkeypatch.setattr(score_page, "LISTED", 3)
    scored = [Scored(str(photos / f"{name}.jpg"), score, 50.0) for name, score in zip("abcd", (0.9, 0.6, 0.4, 0.2))]
    text = score_page.write(tiny_run, scored, tmp_path / "out").read_text()
    assert text.count('<section class="photo') == 1 and text.count('class="thumb"') == 2
    assert "1 more were scored and are not shown" in text or "1 more was scored and is not shown" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_laptop_and_a_phone(page, width):
    """Nothing is wider than the window, every picture loads, nothing comes from elsewhere, and nothing is refused."""
    with Browser(width, 900) as browser:
        browser.open(page)
        browser.wait("document.readyState == 'complete'")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("[...document.images].every(one => one.naturalWidth > 0) && document.images.length") >= 9
        assert browser.run("getComputedStyle(document.querySelector('.mark')).position") == "absolute"
        assert browser.run("document.querySelector('.mark').offsetLeft") > 0, "the bars have their places"
        assert all(address.startswith("file:") for address in browser.requests()) and not browser.errors()


def test_the_page_and_the_server_explain_alike(tiny_run, photos):
    """One way to explain: of a picture's shares and properties."""
    found = explanation.Explaining(tiny_run, None).explain(cv2.imread(str(photos / "a.jpg")))
    assert set(found) == {"crop", "faces", "measured", "influences", "explained", "selfies"}
    assert found["crop"]["left"] >= 0 and found["crop"]["left"] + found["crop"]["width"] <= 1 + 1e-9
