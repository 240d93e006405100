"""The report of a run: one folder of HTML, looked at in a real browser."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

import testlib
from browser import Browser
from selfie.common import clusters, locks
from selfie.common.errors import SelfieError
from selfie.data import image, lmdb_reader
from selfie.experiments import report
from selfie.runs import evaluate, run_folder
from selfie.runs.run_folder import Run

# Words that a line end goes through, away from places where it may: hyphens, <wbr> and spaces.
BROKEN_WORDS = """(() => {
  const broken = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    for (const match of node.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) broken.push(match[0]);
    }
  }
  return broken;
})()"""
# Rendered width of each picture that says below which it cannot be read, less that width.
LEGIBLE = """[...document.querySelectorAll('figure[class^=least] img')].map(
  img => img.getBoundingClientRect().width - Number(img.closest('figure').className.split('-')[1]))"""


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory) -> Run:
    """A copy of the tiny run, with its test selfies scored and some of its pictures made."""
    folder = shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("report") / "a_run_with_a_long_name")
    run = run_folder.load(folder)
    result = evaluate.evaluate(run)
    margin = {"margin": "outer deciles", "selfies": 1200, "users": 70, "accuracy": 0.94, "accuracy_95": [0.878, 0.971]}
    (folder / "test_evaluation.json").write_text(json.dumps({**result, "margins": [margin]}))
    image.write(folder / "continuum.jpg", np.zeros((2580, 1548, 3), np.uint8))
    image.write(folder / "worst.jpg", np.zeros((490, 1470, 3), np.uint8))
    image.write(folder / "findings.png", np.zeros((600, 1560, 3), np.uint8))
    return run


@pytest.fixture(scope="module")
def page(evaluated, tmp_path_factory) -> Path:
    """Its report, moved away from the run."""
    report.write(evaluated)
    return Path(shutil.move(evaluated.folder / "report", tmp_path_factory.mktemp("elsewhere"))) / "index.html"


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)], ids=["laptop", "phone"])
def test_the_page_works_from_a_file_on_any_screen(page, width, height):
    """Copied elsewhere and opened from file://: every picture loads, nothing is asked of the network, no part is wider
    than the screen, no word is broken, and plots are as wide as they need to be read."""
    with Browser(width, height) as browser:
        browser.open(page)
        browser.wait("document.images.length > 3 && [...document.images].every(img => img.complete)")
        assert browser.run("[...document.images].every(img => img.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert all(address.startswith("file:") for address in browser.requests()) and not browser.errors()
        assert "%" in browser.run("document.querySelector('.big').textContent")
        assert browser.run(BROKEN_WORDS) == []
        beyond = browser.run(LEGIBLE)
        assert len(beyond) == 3 and min(beyond) >= 0
        assert browser.run("document.scripts.length") == 0


def test_broken_words_are_noticed(tmp_path):
    """The measure above: a word that no line holds, in a box that breaks it."""
    (tmp_path / "page.html").write_text(
        "<p style='width: 60px; overflow-wrap: anywhere'>fine, well-known, run<wbr>folder unbelievable"
    )
    with Browser(390, 844) as browser:
        browser.open(tmp_path / "page.html")
        browser.wait("document.querySelector('p')")
        assert browser.run(BROKEN_WORDS) == ["unbelievable"]


def test_no_face_of_the_worst_is_larger_than_48_pixels(page):
    """The continuum, whose bottom rows are the worst selfies, is reduced; the worst grid is small by itself."""
    assert cv2.imread(str(page.parent / "continuum.jpg")).shape[1] <= 12 * 49
    assert cv2.imread(str(page.parent / "worst.jpg")).shape[1] <= 30 * 49


def test_what_is_missing_is_named_with_its_command(page):
    """A section that was not made says how to make it."""
    text = page.read_text()
    assert "Not made yet: <code>pycaffe_scripts/crops.py</code>" in text
    assert "Not made yet: <code>make train" not in text


def test_every_section_names_the_run(page):
    """Whatever part of the page somebody quotes."""
    sections = page.read_text().split("<h2>")[1:]
    made = [text for text in sections if "<figure" in text]
    assert len(sections) == len(report.SECTIONS) and len(made) == 4
    assert all("a_<wbr>run_<wbr>with_<wbr>a_<wbr>long_<wbr>name" in text for text in made)


def test_times_are_written_as_people_do(evaluated, tmp_path):
    """No ISO 8601 with a zone of +00:00."""
    changed = Run(shutil.copytree(evaluated.folder, tmp_path / "run"), evaluated.info).save(
        started="2026-11-28T00:21:00+00:00", ended="2026-11-28T00:23:18+00:00"
    )
    text = report.write(changed).read_text()
    assert "28 November 2026, 00:21 UTC, took 2 min 18 s" in text and "+00:00" not in text


@pytest.mark.parametrize("name", ["majority_class", "commoner"])
def test_the_baseline_of_older_runs_is_read_too(evaluated, tmp_path, name):
    """Before version 0.2 its key was "commoner"."""
    folder = shutil.copytree(evaluated.folder, tmp_path / "run")
    result = json.loads((folder / "test_evaluation.json").read_text())
    del result["majority_class"]
    (folder / "test_evaluation.json").write_text(json.dumps({**result, name: 0.625}))
    assert "majority-class baseline 62.5\u00a0%" in report.write(run_folder.load(folder)).read_text()


def test_users_and_margins_are_shown(evaluated, tmp_path):
    """Beside the selfies, where they are known; an evaluation of before has neither, and is shown all the same."""
    folder = shutil.copytree(evaluated.folder, tmp_path / "run")
    result = json.loads((folder / "test_evaluation.json").read_text())
    known = {**result, "users": 5, "users_known": True, "auc_95": [0.625, 0.875]}
    (folder / "test_evaluation.json").write_text(json.dumps(known))
    info = copy.deepcopy(evaluated.info)
    info["lmdb"]["train"]["users"] = 9
    text = report.write(Run(folder, info)).read_text()
    assert "95 % interval 0.625 to 0.875; on 24 test selfies of 5 users" in text and "64 selfies of 9 users" in text
    assert "<td>outer deciles</td>" in text and "(87.8 to 97.1\u00a0%)" in text
    for name in ("users", "users_known", "auc_95", "margins"):
        del result[name]
    (folder / "test_evaluation.json").write_text(json.dumps(result))
    text = report.write(Run(folder, evaluated.info)).read_text()
    assert "on 24 test selfies; guessing has 0.5" in text and "outer deciles" not in text


def test_a_run_on_the_demo_corpus_says_so(evaluated, page, tmp_path):
    """Its pictures are generated, and the best that anybody can do is known; other runs say nothing of the kind."""
    info = copy.deepcopy(evaluated.info)
    info["lmdb"]["train"]["inputs"]["images"] = str(tmp_path / "corpus" / "images")
    run = Run(shutil.copytree(evaluated.folder, tmp_path / "run"), info)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "planted.json").write_text('{"kind": "corpus"}')
    text = report.write(run).read_text()
    assert "The pictures are generated" in text and "classifier" not in text
    scored = pl.read_csv(run.folder / "test_scores.csv").select(id=lmdb_reader.id_column("key"), p_good="label")
    scored.with_columns(p_good=0.125 + 0.75 * pl.col("p_good")).write_csv(tmp_path / "corpus" / "truth.csv")
    text = report.write(run).read_text()
    assert "<b>100.0\u00a0%</b> of these 24 test selfies (expected: 87.5\u00a0%" in text
    assert "generated" not in page.read_text()


def test_an_unfinished_run_has_no_report(tiny_run, tmp_path):
    """One line that says how to finish it."""
    Run(tmp_path, {**tiny_run.info, "state": "started"}).save()
    testlib.assert_one_line_error(testlib.command("tools/report.py", "--run", tmp_path), "not finished")


@pytest.mark.parametrize("name", ["test_evaluation.json", "findings.json", "compare.json", "run.json"])
@pytest.mark.parametrize("text", ["null", "[]", '{"continuum": 3, "score": {"rules": [7]}}'])
def test_a_broken_side_file_is_one_line(evaluated, tmp_path, name, text):
    folder = shutil.copytree(evaluated.folder, tmp_path / "run")
    (folder / name).write_text(text)
    testlib.assert_one_line_error(testlib.command("tools/report.py", "--run", folder), name)


def test_a_result_that_lacks_whose_selfies_it_has_says_nothing_of_users():
    """As one of before users were counted, or one that was damaged."""
    assert clusters.of_users({"users": 55, "users_known": True}) == " of 55 users"
    for lacking in ({}, {"users": 55}, {"users_known": True}):
        assert clusters.of_users(lacking) == ""


@pytest.mark.parametrize("change", [{"auc_95": [0.5]}, {"auc_95": "wide"}, {"majority_class": None}])
def test_a_broken_evaluation_is_one_line(evaluated, tmp_path, change):
    folder = shutil.copytree(evaluated.folder, tmp_path / "run")
    result = json.loads((folder / "test_evaluation.json").read_text())
    (folder / "test_evaluation.json").write_text(json.dumps({**result, **change}))
    with pytest.raises(SelfieError, match=f"damaged.*{next(iter(change))}"):
        report.write(run_folder.load(folder))


def test_reports_of_one_run_are_made_one_at_a_time(evaluated, tmp_path):
    folder = shutil.copytree(evaluated.folder, tmp_path / "run")
    with locks.file(folder / "report"), pytest.raises(SelfieError, match="another process is at work"):
        report.write(run_folder.load(folder))
