"""The report of a run: one folder of HTML, looked at in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import testlib
from browser import Browser
from selfie.data import image
from selfie.experiments import report
from selfie.runs import evaluate, run_folder
from selfie.runs.run_folder import Run


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    """The report of a copy of the tiny run with some of its pictures made, moved away from the run afterwards."""
    folder = tmp_path_factory.mktemp("report") / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    run = run_folder.load(folder)
    evaluate.evaluate(run)
    image.write(folder / "continuum.jpg", np.zeros((2580, 1548, 3), np.uint8))
    image.write(folder / "worst.jpg", np.zeros((490, 1470, 3), np.uint8))
    report.write(run)
    return Path(shutil.move(folder / "report", tmp_path_factory.mktemp("elsewhere"))) / "index.html"


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)], ids=["laptop", "phone"])
def test_the_page_works_from_a_file_on_any_screen(page, width, height):
    """Copied elsewhere and opened from file://: every picture loads, nothing is asked of the network, and no part is
    wider than the screen."""
    with Browser(width, height) as browser:
        browser.open(page)
        browser.wait("document.images.length > 3 && [...document.images].every(img => img.complete)")
        assert browser.run("[...document.images].every(img => img.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert all(address.startswith("file:") for address in browser.requests()) and not browser.errors()
        assert "%" in browser.run("document.querySelector('.big').textContent")


def test_no_face_of_the_worst_is_larger_than_48_pixels(page):
    """The continuum, whose bottom rows are the worst selfies, is reduced; the worst grid is small by itself."""
    assert cv2.imread(str(page.parent / "continuum.jpg")).shape[1] <= 12 * 49
    assert cv2.imread(str(page.parent / "worst.jpg")).shape[1] <= 30 * 49


def test_what_is_missing_is_named_with_its_command(page):
    """A section that was not made says how to make it."""
    text = page.read_text()
    assert "Not made yet: <code>tools/findings.py</code>" in text and "Not made yet: <code>make train" not in text


def test_an_unfinished_run_has_no_report(tiny_run, tmp_path):
    """One line that says how to finish it."""
    Run(tmp_path, {**tiny_run.info, "state": "started"}).save()
    testlib.assert_one_line_error(testlib.command("tools/report.py", "--run", tmp_path), "not finished")
