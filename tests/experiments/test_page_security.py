"""Pages that others open: names from outside do nothing in a real browser; a script that slipped in does not run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from browser import Browser
from selfie.common import html
from selfie.data import image
from selfie.experiments import report, score_page, viewer
from selfie.runs import evaluate, run_folder
from selfie.runs.score import Scored

EVIL = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "'><svg onload='window.pwned = 1'>",
    "</style></title></textarea><script>window.pwned = 1</script>",
    "{{ 7 * 7 }}{% raw %}\u2028\u2029\u0085\u202e",
    "]]>--><!--`${window.pwned = 1}`\\",
    "javascript:window.pwned=1",
)
ALL = " ".join(EVIL)


@pytest.fixture(scope="module")
def browser():
    with Browser(1280, 800) as window:
        yield window


def is_harmless(browser: Browser, page: Path, pictures: int) -> None:
    """Open a page: nothing of EVIL became part of it but as text, and its own pictures are there."""
    browser.open("about:blank")
    browser.open(page)
    browser.wait("document.readyState == 'complete'")
    assert browser.run("typeof window.pwned") == "undefined"
    assert browser.run("document.querySelectorAll('script:not([src]), svg, [onload], [onerror]').length") == 0
    assert browser.run("[...document.images].filter(one => one.naturalWidth > 0).length") == pictures
    assert browser.run("document.images.length") == pictures
    assert browser.run("[...document.links].filter(one => one.protocol != 'file:').length") == 0


def infected(page: Path) -> Path:
    """Put a script, and a picture with one, into a copy of a page: as if a name had not been escaped."""
    text = page.read_text()
    copy = page.with_name("infected.html")
    copy.write_text(text.replace("</body>", f"<p id=evil>{EVIL[0]}{EVIL[1][2:]}<svg onload='window.pwned = 1'></body>"))
    return copy


def runs_no_script(browser: Browser, page: Path) -> None:
    browser.open("about:blank")
    browser.open(infected(page))
    browser.wait("document.readyState == 'complete' && document.getElementById('evil')")
    assert browser.run("typeof window.pwned") == "undefined"


@pytest.fixture(scope="module")
def hostile_report(tiny_run, tmp_path_factory) -> Path:
    """A report in which everything that comes from outside is hostile."""
    name = ALL.replace("/", "\u2215")[:80].encode()[:200].decode(errors="ignore")
    folder = shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("hostile") / name)
    run = run_folder.load(folder)
    evaluate.evaluate(run)
    image.write(folder / "continuum.jpg", np.zeros((258, 154, 3), np.uint8))
    rule = {"claim": ALL, "verdict": EVIL[0], "why": ALL}
    findings = {"score": {"rules": [rule], "selfies": 5}, "labels": {"rules": [rule]}, "split": ALL}
    (folder / "findings.json").write_text(json.dumps(findings))
    weights = {"path": ALL, "sha256": ALL}
    run = run.save(command=[*EVIL], versions={each: each for each in EVIL}, weights=weights)
    return report.write(run)


def test_a_report_with_hostile_names_in_every_field_is_harmless(browser, hostile_report):
    is_harmless(browser, hostile_report, pictures=1 + len(list(hostile_report.parent.glob("*.png"))))
    text = browser.run("document.body.textContent")
    assert EVIL[0] in text and text.count("onerror") >= 6, "they are there, as text"


def test_a_script_in_a_report_does_not_run(browser, hostile_report):
    runs_no_script(browser, hostile_report)
    assert browser.run("getComputedStyle(document.body).maxWidth") != "none", "its own style does"


def test_the_comparison_is_harmless_too(browser, tmp_path):
    table = html.Table(EVIL, [EVIL, [html.Cell(each, each, each) for each in EVIL]], ALL)
    result = {"tile_size": ALL, "duplicates": [], "trained_on_tiles": ALL, "tsne": ALL}
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
    page = tmp_path / "compare.html"
    values = {"facts": [(ALL, ALL)], "result": result, "tests": table, "crops": table, "protocol": table}
    page.write_text(html.render("compare.html", title=ALL, figures=[html.Figure(pixel, ALL)], **values))
    is_harmless(browser, page, pictures=1)
    runs_no_script(browser, page)


def test_the_map_is_harmless_too(browser, tmp_path):
    """Its names are data of a script, so they must not end it either."""
    names = [*EVIL, ALL]
    places = np.arange(len(names), dtype=float)
    table = pl.DataFrame({"name": names, "x": places, "y": places, "score": places / len(names)})
    viewer.write(tmp_path, table, [np.full((64, 64, 3), 99, np.uint8)] * len(names), ALL)
    page = tmp_path / "index.html"
    is_harmless(browser, page, pictures=0)
    browser.wait("document.body.dataset.ready")
    for number, name in enumerate(names):
        browser.run(f"select({number})")
        assert browser.run("document.getElementById('name').textContent") == name
    assert browser.run("typeof window.pwned") == "undefined"
    runs_no_script(browser, page)
    browser.wait("document.body.dataset.ready")


def test_a_page_of_scores_with_hostile_names_is_harmless(browser, tiny_run, tmp_path):
    """Names of photos, why some are not scored, and the run's own name."""
    picture = np.full((300, 300, 3), 200, np.uint8)
    scored = []
    for number, name in enumerate(EVIL):
        file = tmp_path / (name.replace("/", "\u2215") + ".jpg")
        image.write(file, picture)
        scored.append(Scored(str(file), 0.9 - number / 10, 50.0))
    folder = shutil.copytree(tiny_run.folder, tmp_path / EVIL[0].replace("/", "\u2215"))
    failed = [Scored(ALL, error=ALL)]
    page = score_page.write(run_folder.load(folder), [*scored, *failed], tmp_path / "out")
    shown = sum(one.score >= 0.5 for one in scored)
    is_harmless(browser, page, pictures=2 * len(scored) + shown)
    assert browser.run("document.body.textContent").count("onerror") >= 3, "they are there, as text"
    runs_no_script(browser, page)


@pytest.mark.parametrize("page", ["report.html", "compare.html", "scores.html"])
def test_every_template_has_the_policy(page):
    assert '{% extends "base.html" %}' in (html.TEMPLATES / page).read_text()
    base = (html.TEMPLATES / "base.html").read_text()
    assert base.index("{{ policy }}") < base.index("<title>"), "before anything that a name stands in"
    assert not re.search(r"<script|style=|\bon\w+=", base + (html.TEMPLATES / page).read_text())
